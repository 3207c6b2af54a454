"""The backbone of Flash: grouped sigmoid router, VideoRoPE, QK norm."""

from ._backbone import run

__all__ = ["run"]
