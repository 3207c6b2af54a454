"""What a recipe is: settings, a training function and a folder of YAML files."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ming_core.errors import BadConfig, CannotWrite, MissingPlugin
from ming_core.fields import shown
from ming_core.output import write_file
from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import RecipeEntry
from ming_recipes.training.ranges import hints_of, kind_of, short_field, typed

LARGEST = 1_000_000
"""Bytes of a file with settings."""

MOST = 10_000
"""Values in a file with settings."""


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
    kind = recipe.config
    try:
        config = OmegaConf.create(asdict(kind()))
        for file in files:
            layer = {
                name: value if name in hints_of(kind) else None
                for name, value in _read(file).items()
            }
            _check_values(layer)
            config = OmegaConf.merge(config, OmegaConf.create(_long(kind, layer)))
        for item in overrides:
            _set(config, kind, item)
        return typed(kind, OmegaConf.to_container(config, resolve=False))
    except OSError as error:
        raise BadConfig(f"cannot read {error.filename}: {error.strerror}") from None
    except RecursionError:
        raise BadConfig("the settings do not fit this recipe: they are nested too deep") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise BadConfig(f"the settings do not fit this recipe: {reason}") from None


class _Yaml(yaml.SafeLoader):
    """1e-3 is a number; YAML 1.1 asks for a point in it. A date is a text, as no setting is a date.
    No setting may stand twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # the library expects fitting values
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                problem=f"{shown(node.value)} is no {kind}", problem_mark=node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue  # which the library refuses
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} stands twice; leave one out",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


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


def _check_values(layer: Mapping[Any, Any]) -> None:
    """Refuse what OmegaConf would replace, and a file that repeats itself without end."""
    left = [(str(name), value) for name, value in layer.items()]
    count = 0
    while left:
        name, value = left.pop()
        count += 1
        if count > MOST:
            raise BadConfig(f"the settings hold more than {MOST} values; write fewer")
        if isinstance(value, Mapping):
            left += [(f"{name}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list):
            left += [(f"{name}.{number}", item) for number, item in enumerate(value)]
        elif isinstance(value, str) and "${" in value:
            raise BadConfig(
                f"{name} is {shown(value)}, and settings are not looked up elsewhere; write the "
                "value itself"
            )
        elif value == "???":
            raise BadConfig(f"{name} is '???'; write a value")


def _set(config: Any, kind: type, item: str) -> None:
    """Put a `key=value` into the settings."""
    path, found, text = item.partition("=")
    if not found:
        raise BadConfig(f"cannot read the override {item!r}; write it as key=value")
    _check_values({path: text})
    (*names, last), hint = _way(kind, path)
    try:
        value = yaml.load(text, _Yaml)
    except yaml.constructor.ConstructorError as error:
        if kind_of(hint)[0] is not str:
            raise BadConfig(f"cannot read the override {item!r}: {error.problem}") from None
        value = text
    except yaml.YAMLError:
        value = text
    if kind_of(hint)[0] is str and not isinstance(value, str | list | dict):
        value = text  # `out=5` and `out=on` are texts, too
    for place, name in enumerate(names):
        key = _key(config, name, ".".join(names[:place]))
        if not OmegaConf.is_config(config[key]):
            config[key] = {}
        config = config[key]
    config[_key(config, last, ".".join(names))] = _long(hint, value)


def _key(config: Any, name: str, place: str) -> str | int:
    """A name of a table, which gets it, or the number of an entry of a list, which may be new."""
    if not OmegaConf.is_list(config):
        config.setdefault(name, None)
        return name
    if not name.isdecimal() or int(name) > len(config):
        raise BadConfig(
            f"unknown setting '{place}.{name}'; the entries of {place} are numbers, and the next "
            f"one is {place}.{len(config)}"
        )
    if int(name) == len(config):
        config.append(None)
    return int(name)


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
    return names or [""], hint


def _long(hint: Any, value: Any) -> Any:
    """Settings without short forms, so that single values of them can be set."""
    hint = kind_of(hint)[0]
    if get_origin(hint) in (list, tuple) and value is not None:
        if isinstance(value, Mapping) and not is_dataclass(kind_of(get_args(hint)[0])[0]):
            return value  # a fault
        entries = value if isinstance(value, list | tuple) else [value]
        return [_long(get_args(hint)[0], entry) for entry in entries]
    if not is_dataclass(hint):
        return value
    short = short_field(hint)
    if short and isinstance(value, str):
        return {short: value}
    if not isinstance(value, Mapping):
        return value
    hints = hints_of(hint)
    return {k: _long(hints[k], v) if k in hints else v for k, v in value.items()}
