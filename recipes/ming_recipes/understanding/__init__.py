"""Answers about pictures, videos, sounds and texts."""
