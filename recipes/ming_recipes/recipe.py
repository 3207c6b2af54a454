"""What a recipe is: a configuration and a training function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig
from ming_core.plugins import get_plugins
from ming_core.registry import Entry


@dataclass(frozen=True)
class Recipe:
    """config: dataclass of settings. train: runs or resumes, from settings and its command line."""

    config: type
    train: Callable[[Any, str], None]


def recipe_entry(name: str) -> Entry:
    """The registered recipe; raises UnknownName with the nearest one."""
    return get_plugins().recipes[name]


def recipe_yaml(entry: Entry) -> Path:
    """The settings file that ships with a recipe."""
    from importlib.resources import files

    package, _, place = str(entry.extra["settings"]).partition(":")
    return Path(str(files(package).joinpath(place)))


def settings(recipe: Recipe, files: list[Path], overrides: list[str]) -> Any:
    """Defaults, then YAML files, then `key=value`; raises BadConfig naming the key at fault."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for item in overrides:
        if "=" not in item:
            raise BadConfig(f"cannot read the override {item!r}; write it as key=value")
    try:
        layers = [OmegaConf.load(file) for file in files]
        layers.append(OmegaConf.from_dotlist(overrides))
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(recipe.config), *layers))
    except OSError as error:
        raise BadConfig(f"cannot read {error.filename}: {error.strerror}") from None
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadConfig(f"the settings do not fit this recipe: {reason}") from None
