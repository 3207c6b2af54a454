"""Thin core of the Ming toolkit. Names are imported on first use, so that plugins start fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ming_core.api import OmniModel, load
    from ming_core.engine.request import Request
    from ming_core.engine.session import Session
    from ming_core.errors import MingError
    from ming_core.media import (
        Audio,
        Frames,
        Image,
        Message,
        Text,
        Video,
        assistant,
        system,
        user,
    )
    from ming_core.plugins.hooks import hookimpl

__all__ = [
    "Audio",
    "Frames",
    "Image",
    "Message",
    "MingError",
    "OmniModel",
    "Request",
    "Session",
    "Text",
    "Video",
    "assistant",
    "hookimpl",
    "load",
    "system",
    "user",
]

_MODULES = {
    "MingError": "errors",
    "OmniModel": "api",
    "Request": "engine.request",
    "Session": "engine.session",
    "hookimpl": "plugins.hooks",
    "load": "api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ming_core.plugins import CORE, version_of

        return version_of(CORE)
    if name not in __all__:
        from ming_core.plugins.directory import find_options

        found = None if name.startswith("_") else find_options(name)
        if found is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found
    return getattr(import_module(f"ming_core.{_MODULES.get(name, 'media')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
