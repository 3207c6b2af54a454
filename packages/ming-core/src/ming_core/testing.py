"""Helpers for tests of this toolkit and of third-party plugins: golden cases, a scripted engine.

A golden case is a folder of recorded reference inputs and outputs. An adapter is a Python file
`<component>.py` with `run(case: GoldenCase) -> Iterator[Check]`; it computes the case with our code
and yields one `Check` per compared output, intermediates first. Adapters of one folder may share
helpers with relative imports (`from ._common import ...`).

A case passes only if its adapter has read every key of it, so that no setting, input or output is
passed over in silence. `keys.toml` beside the adapters lists the keys that need no reading: see
`KnownKeys`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ming_core.engine.answers import Answer
from ming_core.engine.request import Request


class Unsupported(Exception):
    """Raised by a parity adapter for a case that the toolkit deliberately does not run."""


class Recorded(dict[str, Any]):
    """A mapping that remembers which of its entries were read.

    Objects inside are recorded, too, and those of a list. To ask whether a key is there is not to
    read it; to compare the whole, to copy it or to go through its items is to read all of it.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__({key: _recorded(value) for key, value in entries.items()})
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        # Being there sends `{**case.config}` and `dict(case.config)` through `__getitem__`.
        return super().__iter__()

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {**self, **other}

    def __eq__(self, other: object) -> bool:
        self._read.update(self)
        return super().__eq__(other)

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return super().get(key, default)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self._read.update(self)
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._read.update(self)
        return super().values()

    def leaves(self, read: bool) -> Iterator[tuple[str, Any]]:
        """Dotted name and value of the entries that were read, or were not.

        The elements of a list go by `*`. An empty object is one entry.
        """
        for key, value in super().items():
            parts = value if isinstance(value, list) else [value]
            inner = [part for part in parts if isinstance(part, Recorded) and part]
            dot = f"{key}.*." if isinstance(value, list) else f"{key}."
            for part in inner:
                yield from ((dot + name, leaf) for name, leaf in part.leaves(read))
            if not inner and (key in self._read) == read:
                yield key, value


def _recorded(value: Any) -> Any:
    if isinstance(value, dict):
        return Recorded(value)
    return [_recorded(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class GoldenCase:
    """One folder `<component>/<case>/` of recorded inputs and outputs (docs/formats.md).

    device: where its tensors are, and what its adapter makes.
    """

    folder: Path
    device: str = "cpu"

    @property
    def component(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def meta(self) -> Recorded:
        return self._json("meta.json")

    @cached_property
    def config(self) -> Recorded:
        """config.json, or {} for a pure function without settings."""
        return self._json("config.json")

    @cached_property
    def rows(self) -> list[Recorded]:
        """cases.json: input and expected output per row, in text-only cases."""
        return _recorded(json.loads((self.folder / "cases.json").read_text("utf-8")))

    @property
    def atol(self) -> float:
        return float(self.meta["tolerance"]["atol"])

    @property
    def rtol(self) -> float:
        return float(self.meta["tolerance"]["rtol"])

    @cached_property
    def weights(self) -> Recorded:
        return Recorded(self._tensors("weights.safetensors"))

    @cached_property
    def texts(self) -> Recorded:
        """io.json without its `in.` and `out.` entries: what a case holds besides tensors."""
        entries = self._json("io.json")
        names = [name for name in entries if not name.startswith(("in.", "out."))]
        return Recorded({name: entries[name] for name in names})

    @cached_property
    def inputs(self) -> Recorded:
        """`in.<name>` entries without the prefix."""
        return self._with_prefix("in.")

    @cached_property
    def outputs(self) -> Recorded:
        """`out.<name>` entries without the prefix."""
        return self._with_prefix("out.")

    def keys(self, read: bool) -> dict[str, Any]:
        """Every key that was read, or was not, with its value: `config.mlp_depth`, `in.labels`."""
        parts = {
            "meta": [self.meta],
            "config": [self.config],
            "weights": [self.weights],
            "texts": [self.texts],
            "in": [self.inputs],
            "out": [self.outputs],
            "rows": self.rows if (self.folder / "cases.json").exists() else [],
        }
        return {
            f"{part}.{name}": value
            for part, mappings in parts.items()
            for mapping in mappings
            for name, value in mapping.leaves(read)
        }

    @cached_property
    def _io(self) -> dict[str, Any]:
        return self._tensors("io.safetensors") or self._json("io.json")

    def _with_prefix(self, prefix: str) -> Recorded:
        names = [name for name in self._io if name.startswith(prefix)]
        return Recorded({name.removeprefix(prefix): self._io[name] for name in names})

    def _tensors(self, name: str) -> dict[str, Tensor]:
        path = self.folder / name
        return load_file(path, device=self.device) if path.exists() else {}

    def _json(self, name: str) -> Recorded:
        path = self.folder / name
        return Recorded(json.loads(path.read_text("utf-8")) if path.exists() else {})


_FOR_PEOPLE = tuple(
    f"meta.{name}" for name in ("component", "case", "source", "description", "call", "notes")
)


@dataclass(frozen=True)
class KnownKeys:
    """What an adapter knows of a case without reading it, from `keys.toml` beside the adapters.

    Each table is that of a component, or of all (`all`). `unused`: patterns of keys that change
    nothing; the sentences in meta.json need no mention. `fixed`: values that the toolkit has built
    in; a case with another value fails. Keys are those of `GoldenCase.keys`.
    """

    unused: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, adapters: Path, component: str) -> KnownKeys:
        path = adapters / "keys.toml"
        tables = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
        both = [tables.get(name, {}) for name in ("all", component)]
        unused = [pattern for table in both for pattern in table.get("unused", [])]
        fixed = {key: value for table in both for key, value in table.get("fixed", {}).items()}
        return cls((*_FOR_PEOPLE, *unused), fixed)

    def complaints(self, unread: Mapping[str, Any]) -> list[str]:
        """One sentence for each key that was passed over, or whose value is built in otherwise."""
        found = []
        for key, value in unread.items():
            if key in self.fixed:
                if value != self.fixed[key]:
                    found.append(f"{key} is {value!r}; built in is {self.fixed[key]!r}")
            elif not any(fnmatchcase(key, pattern) for pattern in self.unused):
                found.append(f"{key} is not read; read it, or list it in keys.toml")
        return found


@dataclass(frozen=True)
class Check:
    """One compared output. Tensors are compared within the case's tolerance, anything else by ==.

    An adapter selects the comparable entries itself (for example the unmasked positions).
    """

    name: str
    actual: Any
    expected: Any

    def error(self) -> float:
        """Worst absolute difference; 0 or infinity for values that are no tensors."""
        if not isinstance(self.expected, Tensor):
            return 0.0 if self.actual == self.expected else float("inf")
        if not self._comparable():
            return float("inf")
        if self.expected.numel() == 0:
            return 0.0
        return self._difference().max().item()

    def passed(self, atol: float, rtol: float) -> bool:
        if not isinstance(self.expected, Tensor):
            return self.actual == self.expected
        if not self._comparable():
            return False
        if not self.expected.is_floating_point():
            return bool((self._difference() == 0).all())
        limit = atol + rtol * self.expected.cpu().double().abs().nan_to_num(posinf=0.0)
        return bool((self._difference() <= limit).all())

    def where(self) -> str:
        """The place of the worst difference with both values, for a failure report."""
        if not isinstance(self.expected, Tensor):
            return f"got {self.actual!r}, expected {self.expected!r}"
        if not isinstance(self.actual, Tensor):
            return f"got {type(self.actual).__name__}, expected a tensor"
        if not self._comparable():
            return f"got shape {list(self.actual.shape)}, expected {list(self.expected.shape)}"
        flat = int(self._difference().argmax())
        place = [
            int(i)
            for i in torch.unravel_index(torch.tensor(flat, device="cpu"), self.expected.shape)
        ]
        actual, expected = (x.flatten()[flat].item() for x in (self.actual, self.expected))
        return f"at {place}: got {actual:.9g}, expected {expected:.9g}"

    def _comparable(self) -> bool:
        return isinstance(self.actual, Tensor) and self.actual.shape == self.expected.shape

    def _difference(self) -> Tensor:
        """|actual - expected| in float64; 0 where both are the same infinity or both NaN."""
        actual, expected = (x.detach().cpu().double() for x in (self.actual, self.expected))
        same = (actual == expected) | (actual.isnan() & expected.isnan())
        return (actual - expected).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0.0)


@dataclass(frozen=True)
class Outcome:
    """What one compared output came to."""

    name: str
    error: float
    passed: bool
    where: str = ""  # only for a failure


def golden_cases(root: Path, device: str = "cpu") -> Iterator[GoldenCase]:
    """Every case folder below `root`, in name order."""
    for meta in sorted(root.glob("*/*/meta.json")):
        yield GoldenCase(meta.parent, device)


def run_case(case: GoldenCase, adapters: Path) -> list[Outcome]:
    """Run the adapter `<component>.py` of the folder `adapters` on a case.

    The last outcome, `every key is read`, is there only when the adapter passed over some.
    Raises `Unsupported` when there is no adapter or it declines the case, and AssertionError when
    it compared nothing.
    """
    run = load_adapter(adapters, case.component)
    outcomes = []
    with torch.device(case.device):
        for check in run(case):
            passed = check.passed(case.atol, case.rtol)
            where = "" if passed else check.where()
            outcomes.append(Outcome(check.name, check.error(), passed, where))
    assert outcomes, f"the adapter of {case.component}/{case.name} compared nothing"
    complaints = KnownKeys.of(adapters, case.component).complaints(case.keys(read=False))
    if complaints:
        outcomes.append(Outcome("every key is read", float("inf"), False, "; ".join(complaints)))
    return outcomes


@cache
def load_adapter(folder: Path, component: str) -> Callable[[GoldenCase], Iterator[Check]]:
    """`run` of the file `<component>.py` in `folder`. Raises `Unsupported` when there is none."""
    path = folder / f"{component}.py"
    if not path.exists():
        raise Unsupported(f"no adapter for {component}: this toolkit has no such component yet")
    package = _adapter_package(folder)
    name = f"{package}.{component}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    spec.loader.exec_module(module)
    return module.run


@cache
def _adapter_package(folder: Path) -> str:
    """A synthetic parent package, so that adapters can import their neighbours relatively."""
    package = ModuleType(f"golden_adapters_{abs(hash(folder))}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return package.__name__


@dataclass(eq=False)
class ScriptedTicket:
    """A request to a `ScriptedEngine`."""

    request: Request
    answer: Answer | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


@dataclass(eq=False)
class ScriptedEngine:
    """Stands for the engine of a model in tests of tasks: a function answers the requests.

    Attributes:
        reply: Gives the answer to a request, or raises.
        together: How many requests there were in each step, of which one gets its answer.
    """

    reply: Callable[[Request], Answer]
    together: list[int] = field(default_factory=list)
    _waiting: list[ScriptedTicket] = field(default_factory=list)

    def submit(self, request: Request, **known: Any) -> ScriptedTicket:
        """Take in a request."""
        self._waiting.append(ScriptedTicket(request))
        return self._waiting[-1]

    def step(self) -> None:
        """Answer the request that has waited longest."""
        self.together.append(len(self._waiting))
        ticket = self._waiting.pop(0)
        try:
            ticket.answer = self.reply(ticket.request)
        except Exception as error:
            ticket.error = error

    def wait(self, ticket: ScriptedTicket) -> Answer:
        """The answer. Raises what `reply` raised."""
        while not ticket.done:
            self.step()
        if ticket.answer is None:
            assert ticket.error
            raise ticket.error
        return ticket.answer

    def cancel(self, ticket: ScriptedTicket) -> None:
        """Forget a request."""
        self._waiting = [other for other in self._waiting if other is not ticket]
