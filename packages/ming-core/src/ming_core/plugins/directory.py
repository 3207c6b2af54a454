"""Hints which package to install, from directory.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from ming_core.errors import MissingPlugin
from ming_core.modalities import KINDS
from ming_core.plugins import get_plugins, version_of


@cache
def _directory() -> dict[str, Any]:
    return tomllib.loads(files("ming_core.plugins").joinpath("directory.toml").read_text("utf-8"))


def package_for(section: str, name: str) -> str | None:
    """The package that brings `name`; the sections are those of directory.toml but presets."""
    return _directory()[section].get(name)


def toolkit() -> frozenset[str]:
    """The packages of the directory, which are released together under one version."""
    sections = [value for name, value in _directory().items() if name != "presets"]
    return frozenset(package for section in sections for package in section.values())


def known_parts(preset: str) -> dict[str, str]:
    """Part -> package of a preset, whether installed or not."""
    return _directory()["presets"].get(preset, {})


def missing(what: str, package: str | None) -> MissingPlugin:
    """The error that says how to get something absent.

    what: the start of the sentence, e.g. `reading images`. package: None if nobody is known to
    bring it.
    """
    if package is None:
        return MissingPlugin(f"{what} needs a plugin that is not installed; see `ming plugins`")
    plugins = get_plugins()
    for failure in plugins.failures:
        if failure.distribution == package:
            return MissingPlugin(f"{what} needs {package}, but {failure}")
    if any(plugin.distribution == package for plugin in plugins.blocked):
        return MissingPlugin(
            f"{what} needs {package}, which MING_DISABLE_PLUGINS switches off; take it out there"
        )
    if any(plugin.distribution == package for plugin in plugins.loaded):
        return MissingPlugin(
            f"{what} needs a later version of {package}: the installed one, {version_of(package)}, "
            "does not have it yet"
        )
    return MissingPlugin(f"{what} needs {package}: pip install {package}")


def missing_media(modality: str) -> MissingPlugin:
    """For media of a modality (`image`, `audio`) that no installed encoder reads."""
    return missing(f"reading {_nouns(modality)}", package_for("media", modality))


def _nouns(name: str) -> str:
    """What messages call media of a kind."""
    kind = KINDS.get(name)
    return kind.nouns if kind else name


def missing_encoder(name: str) -> MissingPlugin:
    """For a checkpoint whose encoder nobody registered."""
    return missing(f"the encoder {name!r}", package_for("encoders", name.partition(":")[0]))


def known_tasks() -> list[str]:
    """Names of the tasks of all packages of the directory."""
    return list(_directory()["tasks"])


def missing_head(gives: str) -> MissingPlugin:
    """For a medium (`image`, `audio`) that no installed head gives."""
    return missing(f"making {_nouns(gives)}", package_for("heads", gives))


def missing_task(name: str) -> MissingPlugin | None:
    """For a task that some known package would bring; None for a name nobody knows."""
    package = package_for("tasks", name)
    return missing(f"task {name!r}", package) if package else None


def missing_flag(flag: str) -> MissingPlugin | None:
    """For an option of a command that an absent package would add; None for any other."""
    package = package_for("flags", flag)
    if package is None or any(plugin.distribution == package for plugin in get_plugins().loaded):
        return None
    return missing(f"the option {flag}", package)


def find_options(name: str) -> Any:
    """The class of options of media that a known package registers; None for another name.

    Raises ImportError with the package to install, as it stands for a name that is imported.
    """
    package = package_for("options", name)
    if package is None:
        return None
    if name not in get_plugins().options:
        raise ImportError(str(missing(name, package)))
    return get_plugins().options[name].load()
