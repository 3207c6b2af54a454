"""What a recipe is: settings, a training function and a folder of YAML files."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

import yaml

from ming_core.errors import BadConfig, CannotWrite, MissingPlugin
from ming_core.output import write_file
from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import RecipeEntry
from ming_recipes.training.ranges import hints_of, kind_of, short_field, typed

LARGEST = 1_000_000
"""Bytes of a file with settings."""


@dataclass(frozen=True)
class Recipe:
    """config: dataclass of settings. train: runs or resumes, from settings and its command line."""

    config: type
    train: Callable[[Any, str], None]


@dataclass(frozen=True)
class Source:
    """Where a recipe comes from, before it is imported.

    code: its Python file. settings: the YAML file that a run has unless it names another one.
    """

    name: str
    summary: str
    code: Path
    settings: Path
    load: Callable[[], Recipe]

    @property
    def files(self) -> list[Path]:
        """All YAML files of the recipe; the one for nano comes first."""
        return sorted(self.settings.parent.glob("*.yaml"), key=lambda f: (f != self.settings, f))

    def layers(self, configs: Sequence[Path]) -> list[Path]:
        """The YAML files of a run, a later one over an earlier one.

        A file of the recipe replaces the usual one; every other file goes over it. A bare name is a
        file here, or else one of the recipe.
        """
        own = {file.name: file for file in self.files}
        chosen = [
            own[str(file)] if str(file) in own and not file.exists() else file for file in configs
        ]
        if any(file.resolve() in {f.resolve() for f in own.values()} for file in chosen):
            return chosen
        return [self.settings, *chosen]


def find_recipe(name: str) -> Source:
    """A registered recipe, or the one in a folder.

    A name with a separator, and a folder with `recipe.py` that no recipe is named after, is a path.
    Raises UnknownName with the nearest one, BadConfig for a folder that holds no recipe, and
    MissingPlugin for a registered one that is broken.
    """
    folder = Path(name)
    registered = {entry.name for entry in get_plugins().recipes}
    if name not in registered and ("/" in name or "\\" in name or folder.is_dir()):
        return _copied(folder)
    entry = recipe_entry(name)
    code = _code(entry)
    return Source(name, entry.summary, code, recipe_yaml(entry), lambda: load_recipe(entry))


def _copied(folder: Path) -> Source:
    """A recipe that somebody has in a folder: recipe.py and YAML files."""
    code = folder / "recipe.py"
    files = sorted(folder.glob("*.yaml"))
    if not code.is_file() or not files:
        raise BadConfig(
            f"{folder} holds no recipe; a recipe is a folder with recipe.py and a YAML file, and "
            "`ming recipes cp NAME FOLDER` makes one"
        )
    usual = next((file for file in files if file.name == "nano.yaml"), files[0])

    def load() -> Recipe:
        spec = importlib.util.spec_from_file_location(f"recipe_in_{folder.resolve().name}", code)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look up their types
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise BadConfig(
                f"{code} cannot be imported: {type(error).__name__}: {error}; mend it"
            ) from error
        recipe = getattr(module, "RECIPE", None)
        if not _is_recipe(recipe):
            raise BadConfig(
                f"{code} has no recipe: RECIPE must be a ming_recipes.training.recipe.Recipe("
                "dataclass of settings, training function)"
            )
        return recipe

    return Source(str(folder), "", code, usual, load)


def copy_recipe(source: Source, folder: Path) -> list[Path]:
    """recipe.py and the YAML files of a recipe in a new folder. Raises BadConfig, CannotWrite."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadConfig(f"{folder} is not empty; choose a folder that does not exist yet")
    copied = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, name in [(source.code, "recipe.py"), *((f, f.name) for f in source.files)]:
            write_file(folder / name, file.read_text("utf-8"))
            copied.append(folder / name)
    except OSError as error:
        raise CannotWrite(
            f"cannot copy the recipe {source.name} to {folder}: {error.strerror or error}"
        ) from error
    return copied


def recipe_entry(name: str) -> RecipeEntry:
    """The registered recipe; raises UnknownName with the nearest one."""
    return get_plugins().recipes[name]


def _is_recipe(recipe: Any) -> TypeGuard[Recipe]:
    return isinstance(recipe, Recipe) and is_dataclass(recipe.config)


def load_recipe(entry: RecipeEntry) -> Recipe:
    """The recipe behind an entry. Raises MissingPlugin if it is none or cannot be imported."""
    recipe = entry.load()
    if not _is_recipe(recipe):
        raise MissingPlugin(
            f"the recipe {entry.name!r} of {entry.plugin} is broken: {entry.target!r} must be a "
            "ming_recipes.training.recipe.Recipe(dataclass of settings, training function); "
            f"update {entry.plugin}"
        )
    return recipe


def _code(entry: RecipeEntry) -> Path:
    """The Python file of a recipe, found without importing it."""
    try:
        spec = importlib.util.find_spec(entry.target.partition(":")[0])
    except (ImportError, ValueError):
        spec = None
    return Path((spec and spec.origin) or "recipe.py")


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


def settings(recipe: Recipe, files: Sequence[Path], overrides: Sequence[str]) -> Any:
    """Defaults, then YAML files, then `key=value`; raises BadConfig naming every fault.

    A key names a setting of a setting with dots, and one of a list by its number from 0:
    `lora.rank=8`, `data.0.path=rows.jsonl`. A value is what is written: `${...}`, which would look
    something up elsewhere, is refused.
    """
    values: Any = asdict(recipe.config())
    try:
        for file in files:
            values = _merged(recipe.config, values, _read(file))
        for item in overrides:
            values = _merged(recipe.config, values, _override(recipe.config, item))
        return typed(recipe.config, values)
    except OSError as error:
        raise BadConfig(f"cannot read {error.filename}: {error.strerror}") from None
    except RecursionError:
        raise BadConfig("the settings do not fit this recipe: they are nested too deep") from None


class _Yaml(yaml.SafeLoader):
    """1e-3 is a number; YAML 1.1 asks for a point in it."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


def _read(file: Path) -> dict[Any, Any]:
    """The settings of a YAML file, which may be empty. Raises OSError, YAMLError, BadConfig."""
    with file.open("rb") as opened:
        text = opened.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise BadConfig(f"{file} is larger than {LARGEST} bytes; expected a YAML file of settings")
    try:
        found = yaml.load(text.decode(), _Yaml)
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


def _override(kind: type, item: str) -> dict[str, Any]:
    """`key=value` as a layer of settings."""
    path, found, text = item.partition("=")
    if not found:
        raise BadConfig(f"cannot read the override {item!r}; write it as key=value")
    (*names, last), hint = _way(kind, path)
    try:
        value = text if "${" in text else yaml.load(text, _Yaml)
    except yaml.YAMLError:
        value = text
    if hint is str and not isinstance(value, str | list | dict):
        value = text  # `out=5` and `out=on` are texts, too
    layer = {last: value}
    for name in reversed(names):
        layer = {name: layer}
    return layer


def _way(hint: Any, path: str) -> tuple[list[str], Any]:
    """The keys that a dotted path goes through, and the type of what is at its end.

    The keys of a table of values may have dots themselves: `train.encoders.image.*=0.1`.
    """
    names: list[str] = []
    while path:
        hint = kind_of(hint)[0]
        if get_origin(hint) is dict:
            return [*names, path], get_args(hint)[1]
        name, _, path = path.partition(".")
        names.append(name)
        if get_origin(hint) in (list, tuple):
            hint = get_args(hint)[0]
        else:
            hint = hints_of(hint).get(name) if is_dataclass(hint) else None
    return names or [""], kind_of(hint)[0]


def _merged(hint: Any, old: Any, new: Any, place: str = "") -> Any:
    """One layer of settings over another. Tables are joined, and other values replaced.

    A table of numbers over a list changes or adds single entries.
    """
    hint = kind_of(hint)[0]
    if is_dataclass(hint):
        old, new = _long(hint, old), _long(hint, new)
    if get_origin(hint) in (list, tuple) and isinstance(new, Mapping):
        if new and all(str(key).isdecimal() for key in new):
            return _entries(get_args(hint)[0], old, new, place)
        return new
    if not (isinstance(new, Mapping) and isinstance(old, Mapping)):
        return new
    inner: Mapping[str, Any] = hints_of(hint) if is_dataclass(hint) else {}
    every = get_args(hint)[1] if get_origin(hint) is dict else None
    return {**old} | {
        key: _merged(inner.get(key, every), old.get(key), value, f"{place}{key}.")
        for key, value in new.items()
    }


def _entries(hint: Any, old: Any, new: Mapping[Any, Any], place: str) -> list[Any]:
    found = [*old] if isinstance(old, list | tuple) else [old] if old else []
    for key, value in new.items():
        at = int(key)
        if at > len(found):
            raise BadConfig(
                f"unknown setting '{place}{key}'; the next entry of {place[:-1]} is number "
                f"{len(found)}"
            )
        found[at : at + 1] = [_merged(hint, found[at] if at < len(found) else None, value)]
    return found


def _long(kind: Any, value: Any) -> Any:
    """A dataclass that is written as the value of its only needed field, as a table."""
    short = short_field(kind)
    return {short: value} if short and isinstance(value, str) else value
