"""The backbone of Lite 1.0: softmax router, 1-D positions."""

from ._backbone import run

__all__ = ["run"]
