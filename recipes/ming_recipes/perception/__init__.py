"""Perception: questions about images, answered in text."""
