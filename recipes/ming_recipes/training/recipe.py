"""What a recipe is: a configuration and a training function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig, MissingPlugin, UnknownName
from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import RecipeEntry
from ming_recipes.training.ranges import check

LARGEST = 1_000_000
"""Bytes of a file with settings."""


@dataclass(frozen=True)
class Recipe:
    """config: dataclass of settings. train: runs or resumes, from settings and its command line."""

    config: type
    train: Callable[[Any, str], None]


def recipe_entry(name: str) -> RecipeEntry:
    """The registered recipe; raises UnknownName with the nearest one."""
    return get_plugins().recipes[name]


def load_recipe(entry: RecipeEntry) -> Recipe:
    """The recipe behind an entry. Raises MissingPlugin if it is none or cannot be imported."""
    recipe = entry.load()
    if not isinstance(recipe, Recipe) or not is_dataclass(recipe.config):
        raise MissingPlugin(
            f"the recipe {entry.name!r} of {entry.plugin} is broken: {entry.target!r} must be a "
            "ming_recipes.training.recipe.Recipe(dataclass of settings, training function); "
            f"update {entry.plugin}"
        )
    return recipe


def recipe_yaml(entry: RecipeEntry) -> Path:
    """The settings file that ships with a recipe. Raises MissingPlugin if there is none."""
    from importlib.resources import files

    package, _, place = entry.settings.partition(":")
    try:
        path = Path(str(files(package).joinpath(place)))
    except (ImportError, TypeError, ValueError):
        path = None
    if path is None or not path.is_file():
        raise MissingPlugin(
            f"the recipe {entry.name!r} of {entry.plugin} has no file of settings: "
            f"settings={entry.settings!r} is none; update {entry.plugin}"
        )
    return path


def settings(recipe: Recipe, files: list[Path], overrides: list[str]) -> Any:
    """Defaults, then YAML files, then `key=value`; raises BadConfig naming the key at fault.

    A value is what is written: `${...}`, which would look something up elsewhere, is refused.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for item in overrides:
        if "=" not in item:
            raise BadConfig(f"cannot read the override {item!r}; write it as key=value")
    known = [field.name for field in fields(recipe.config)]
    try:
        layers: list[Any] = [_read(file) for file in files]
        layers.append(OmegaConf.to_container(OmegaConf.from_dotlist(overrides), resolve=False))
        for layer in layers:
            for name in layer:
                if name not in known:
                    raise UnknownName("setting", str(name), known)
            for name, value in _values(layer):
                _refuse_reference(name, value)
        config = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(recipe.config), *map(OmegaConf.create, layers))
        )
    except OSError as error:
        raise BadConfig(f"cannot read {error.filename}: {error.strerror}") from None
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        key = getattr(error, "full_key", None)
        of = f" {key}:" if key else ""
        raise BadConfig(f"the settings do not fit this recipe:{of} {reason}") from None
    check(config)
    return config


def _read(file: Path) -> dict[Any, Any]:
    """The settings of a YAML file, which may be empty. Raises OSError, YAMLError, BadConfig."""
    import yaml

    with file.open("rb") as opened:
        text = opened.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise BadConfig(f"{file} is larger than {LARGEST} bytes; expected a YAML file of settings")
    try:
        found = yaml.safe_load(text.decode())
    except UnicodeDecodeError:
        raise BadConfig(f"{file} is no UTF-8 text; expected a YAML file of settings") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadConfig(f"{file}{where} cannot be read as YAML: {problem}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadConfig(f"{file} holds a {type(found).__name__}; expected lines `setting: value`")
    return found


def _values(layer: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """All values of some settings with their names. A setting is a value or a table of values."""
    for name, value in layer.items():
        if isinstance(value, dict):
            for key, item in value.items():
                yield f"{name}.{key}", item
        else:
            yield str(name), value


def _refuse_reference(name: str, value: Any) -> None:
    if isinstance(value, dict | list):
        raise BadConfig(f"{name} must be one value, not a {type(value).__name__}")
    if isinstance(value, str) and "${" in value:
        raise BadConfig(
            f"{name} is {value!r}, and settings are not looked up elsewhere; write the value itself"
        )
    if value == "???":
        raise BadConfig(f"{name} is '???'; write a value")
