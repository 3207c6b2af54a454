"""`ming data`: what rows hold, what is wrong with them, and how a model sees them."""
