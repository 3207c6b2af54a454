"""Plugins: what they may register, where they are found, and what to install if one is missing."""

from __future__ import annotations

from ming_core.plugins.manager import (
    CORE,
    Failure,
    Plugin,
    Plugins,
    describe,
    get_plugins,
    load_plugins,
    mismatch,
    version_of,
)

__all__ = [
    "CORE",
    "Failure",
    "Plugin",
    "Plugins",
    "describe",
    "get_plugins",
    "load_plugins",
    "mismatch",
    "version_of",
]
