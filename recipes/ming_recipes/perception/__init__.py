"""Perception: questions about pictures, videos and speech, answered in text."""
