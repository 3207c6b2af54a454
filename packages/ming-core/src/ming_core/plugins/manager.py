"""Finding plugins and collecting what they register.

A plugin may fail: it cannot be imported, misspells a hook, was made for another version, or takes a
name that is in use. Then it must not stop the others. It becomes a `Failure`: one line on the
logger `ming`, which Python prints on stderr, in `ming plugins` and in `ming doctor`. That holds for
everything that a plugin can raise, also for `sys.exit` and the panics of libraries in Rust. Only
Ctrl-C stops the program.
"""

from __future__ import annotations

import logging
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import distribution as find_distribution
from typing import Any

import pluggy

from ming_core.errors import UnknownName
from ming_core.plugins import hooks
from ming_core.plugins.kinds import (
    BenchmarkEntry,
    ChatCommandEntry,
    EncoderEntry,
    HeadEntry,
    OptionsEntry,
    PresetEntry,
    RecipeEntry,
    ReleaseEntry,
    TaskEntry,
)
from ming_core.plugins.registry import Entry, Registrar, Registry

GROUP = "ming"
CORE = "ming-core"
log = logging.getLogger("ming")


@dataclass(frozen=True)
class Plugin:
    """A plugin: its entry-point name, its distribution, the hooks it implements if loaded."""

    name: str
    distribution: str
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """Something of a plugin that is left out, and why in one sentence."""

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution}: {self.reason}"


class Plugins:
    """The plugin manager and the registries that plugins fill."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("ming")
        self.manager.add_hookspecs(hooks)
        self.encoders = Registry(EncoderEntry)
        self.heads = Registry(HeadEntry)
        self.options = Registry(OptionsEntry)
        self.tasks = Registry(TaskEntry)
        self.presets = Registry(PresetEntry)
        self.releases = Registry(ReleaseEntry)
        self.recipes = Registry(RecipeEntry)
        self.benchmarks = Registry(BenchmarkEntry)
        self.chat_commands = Registry(ChatCommandEntry)
        self.commands: dict[str, str] = {}
        """Commands of the program and their distributions, once it was built."""
        self.loaded: list[Plugin] = []
        self.blocked: list[Plugin] = []
        self.failures: list[Failure] = []

    @property
    def hook(self) -> pluggy.HookRelay:
        """The hooks, to be called."""
        return self.manager.hook

    @property
    def registries(self) -> dict[str, Registry[Any]]:
        """Registries by the plural that ends the name of their hook."""
        return {
            "encoders": self.encoders,
            "heads": self.heads,
            "options": self.options,
            "tasks": self.tasks,
            "presets": self.presets,
            "releases": self.releases,
            "recipes": self.recipes,
            "benchmarks": self.benchmarks,
            "chat_commands": self.chat_commands,
        }

    def add(self, plugin: object, name: str, distribution: str) -> None:
        """Take in one plugin (a module or any object with hook implementations)."""
        try:
            self.manager.register(plugin, name)
            self._check_pending(plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            # pluggy's own text has several lines: the last one says what is wrong
            known = isinstance(error, pluggy.PluginValidationError | ValueError | UnknownName)
            reason = str(error).strip().splitlines()[-1] if known else describe(error)
            self.fail(name, distribution, reason)
            return
        hooks = sorted(hook.name for hook in self.manager.get_hookcallers(plugin) or ())
        self.loaded.append(Plugin(name, distribution, tuple(hooks)))
        for plural, registry in self.registries.items():
            registrar = Registrar(registry, distribution, self._reporter(name, distribution))
            self._call_one(plugin, f"ming_register_{plural}", register=registrar)

    def fail(self, name: str, distribution: str, reason: str) -> None:
        """Record and report that something of a plugin is left out; the same is said once."""
        failure = Failure(name, distribution, reason)
        if failure in self.failures:
            return
        self.failures.append(failure)
        log.warning("%s", failure)

    def blame(self, entry: Entry, reason: str) -> None:
        """Record that something registered is left out, as a failure of who registered it."""
        names = (plugin.name for plugin in self.loaded if plugin.distribution == entry.plugin)
        self.fail(next(names, entry.plugin), entry.plugin, reason)

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Call a hook plugin by plugin in loading order; one that raises becomes a failure."""
        for plugin in self.loaded:
            if hook in plugin.hooks:
                module = self.manager.get_plugin(plugin.name)
                yield plugin, self._call_one(module, hook, **arguments)

    def _call_one(self, plugin: object, hook: str, **arguments: Any) -> Any:
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        try:
            results = self.manager.subset_hook_caller(hook, others)(**arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            name = self.manager.get_name(plugin) or "?"
            distribution = next((p.distribution for p in self.loaded if p.name == name), name)
            self.fail(name, distribution, f"{hook} raised {describe(error)}")
            return None
        return results[0] if results else None

    def _reporter(self, name: str, distribution: str) -> Callable[[str], None]:
        return lambda reason: self.fail(name, distribution, reason)

    def _check_pending(self, plugin: object) -> None:
        """pluggy's `check_pending` for one plugin, naming the nearest hook."""
        for hook in self.manager.get_hookcallers(plugin) or ():
            if hook.spec is None:
                known = [name for name in dir(hooks) if name.startswith("ming_")]
                raise UnknownName("hook", hook.name, known)


def describe(error: BaseException) -> str:
    """An error that is not ours, in one line: `SystemExit: no licence`."""
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")


def _name_of(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value.partition(".")[0]


def _field(dist: Distribution | None, pattern: str) -> str | None:
    """First match in the distribution's metadata file.

    Read as text: parsing it as an e-mail message, as importlib.metadata does, costs 0.2 s.
    """
    text = (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "") if dist else ""
    match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
    return match.group(1).strip() if match else None


def version_of(distribution: str) -> str:
    """The installed version of a distribution, `?` if it is none."""
    try:
        found = find_distribution(distribution)
    except PackageNotFoundError:
        return "?"
    return _field(found, r"^Version: *(.+)$") or "?"


_BOUNDS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}


def _release(version: str) -> tuple[int, ...]:
    """`0.2.0rc1` -> (0, 2): the release numbers without zeros at the end."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in re.sub(r"(\.0+)+$", "", match.group()).split(".")) if match else ()


def mismatch(dist: Distribution | None, core: str) -> str | None:
    """Why a plugin that depends on another ming-core is left out; None if it may be used.

    Only plain bounds are compared: the full grammar needs `packaging`, 0.04 s of every start.
    """
    wanted = _field(dist, r"^Requires-Dist: *ming[-_.]core\b *\(?([^;)\n]*)")
    if dist is None or not wanted or not _release(core):
        return None
    for bound, version in re.findall(r"([<>=!~]+) *(\d[\w.]*)(?!\S*\*)", wanted):
        if bound in _BOUNDS and not _BOUNDS[bound](_release(core), _release(version)):
            return (
                f"made for ming-core {wanted}, but {core} is installed; "
                f"update {dist.name} or ming-core"
            )
    return None


def blocked_names() -> frozenset[str]:
    """Plugins switched off by MING_DISABLE_PLUGINS (entry-point names or distributions)."""
    return frozenset(os.environ.get("MING_DISABLE_PLUGINS", "").replace(",", " ").split())


def load_plugins(entries: Iterable[EntryPoint], blocked: Iterable[str] = ()) -> Plugins:
    """Load entry points in the order of their names; the core first, as the others build on it."""
    plugins = Plugins()
    blocked = set(blocked)
    core = version_of(CORE)
    seen: dict[str, str] = {}
    known: set[str] = set()
    for entry in sorted(entries, key=lambda e: (_name_of(e) != CORE, e.name, _name_of(e))):
        name, distribution = entry.name, _name_of(entry)
        known |= {name, distribution}
        if distribution != CORE and not blocked.isdisjoint({name, distribution}):
            plugins.blocked.append(Plugin(name, distribution, ()))
        elif name in seen:
            plugins.fail(
                name,
                distribution,
                f"{seen[name]} has a plugin of this name already; rename one or switch one off "
                f"with MING_DISABLE_PLUGINS={distribution}",
            )
        elif reason := mismatch(entry.dist, core):
            plugins.fail(name, distribution, reason)
        else:
            seen[name] = distribution
            try:
                module = entry.load()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                plugins.fail(name, distribution, f"cannot be imported: {describe(error)}")
            else:
                plugins.add(module, name, distribution)
    for name in sorted(blocked - known):
        log.warning("%s", UnknownName("plugin in MING_DISABLE_PLUGINS", name, known))
    return plugins


@cache
def get_plugins() -> Plugins:
    """The plugins of this environment, loaded once. Tests reset it with `cache_clear()`."""
    return load_plugins(entry_points(group=GROUP), blocked_names())
