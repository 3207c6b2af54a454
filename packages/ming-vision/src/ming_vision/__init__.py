"""Sight for the Ming toolkit: image processing at native resolution and the image encoders."""

from ming_vision.options import VideoSampling

__all__ = ["VideoSampling"]
