"""Training for the Ming toolkit: recipes, their data, and what makes a long run safe."""
