"""Hearing for the Ming toolkit: speech encoders and recognition."""
