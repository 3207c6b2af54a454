"""Findings of `ming doctor`: what works on this machine and what does not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report; `detail` of a failed one says what to do."""

    name: str
    ok: bool
    detail: str


def core_findings() -> list[Finding]:
    """What the core looks at: Python, torch and its devices, plugins, versions, presets."""
    return [_python(), *_torch(), *_plugins(), _versions(), *_presets()]


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()} on {sys.platform}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        yield Finding("torch", False, f"cannot be imported: {error}; reinstall torch")
        return
    yield Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield Finding("devices", True, "cpu")
    for index in range(torch.cuda.device_count()):
        gib = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding(f"cuda:{index}", True, f"{torch.cuda.get_device_name(index)}, {gib:.0f} GiB")


def _plugins() -> Iterator[Finding]:
    from ming_core.plugins import get_plugins

    plugins = get_plugins()
    yield Finding("plugins", True, ", ".join(p.name for p in plugins.loaded) or "none")
    for failure in plugins.failures:
        yield Finding("plugins", False, str(failure))


def _versions() -> Finding:
    """One version for all packages of the toolkit; third-party plugins have their own."""
    from ming_core.plugins import CORE, get_plugins, version_of
    from ming_core.plugins.directory import toolkit

    names = toolkit() & {plugin.distribution for plugin in get_plugins().loaded}
    versions = {name: version_of(name) for name in sorted(names | {CORE})}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(set(versions.values())) == 1:
        return Finding("versions", True, listed)
    return Finding("versions", False, f"{listed}; update them to one version")


def _presets() -> Iterator[Finding]:
    from ming_core.presets import presets

    for preset in presets():
        parts = preset.parts.values()
        if any(part.folder is None and part.hub_id is None for part in parts):
            detail = "a part is registered but its folder is gone; reinstall the packages"
            yield Finding(f"preset {preset.name}", False, detail)
        elif preset.ready:
            yield Finding(f"preset {preset.name}", True, ", ".join(preset.parts))
