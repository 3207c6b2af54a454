"""Lite 1.0 as a whole perception model: features, merge, positions, logits, answers."""

from ._omni import run

__all__ = ["run"]
