"""Sight for the Ming toolkit: image processing at native resolution and the image encoders."""
