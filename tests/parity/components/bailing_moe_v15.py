"""The backbone of Lite 1.5: softmax router, MRoPE."""

from ._backbone import run

__all__ = ["run"]
