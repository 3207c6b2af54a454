"""How nano is scored: on held-out pictures, videos and speech of shapes world."""
