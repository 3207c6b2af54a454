"""Helpers for tests of this toolkit and of third-party plugins: golden cases and their checks.

A golden case is a folder of recorded reference inputs and outputs. An adapter is a Python file
`<component>.py` with `run(case: GoldenCase) -> Iterator[Check]`; it computes the case with our code
and yields one `Check` per compared output, intermediates first. Adapters of one folder may share
helpers with relative imports (`from ._common import ...`).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


class Unsupported(Exception):
    """Raised by a parity adapter for a case that the toolkit deliberately does not run."""


@dataclass(frozen=True)
class GoldenCase:
    """One folder `<component>/<case>/` of recorded inputs and outputs (docs/formats.md)."""

    folder: Path

    @property
    def component(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def meta(self) -> dict[str, Any]:
        return self._json("meta.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, or {} for a pure function without settings."""
        return self._json("config.json") if (self.folder / "config.json").exists() else {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """cases.json: input and expected output per row, in text-only cases."""
        return self._json("cases.json")

    @property
    def atol(self) -> float:
        return float(self.meta["tolerance"]["atol"])

    @property
    def rtol(self) -> float:
        return float(self.meta["tolerance"]["rtol"])

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        path = self.folder / "weights.safetensors"
        return load_file(path) if path.exists() else {}

    @cached_property
    def _io(self) -> dict[str, Any]:
        tensors = self.folder / "io.safetensors"
        return load_file(tensors) if tensors.exists() else self._json("io.json")

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """`in.<name>` entries without the prefix."""
        return {k.removeprefix("in."): v for k, v in self._io.items() if k.startswith("in.")}

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """`out.<name>` entries without the prefix."""
        return {k.removeprefix("out."): v for k, v in self._io.items() if k.startswith("out.")}

    def _json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text("utf-8"))


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
        limit = atol + rtol * self.expected.double().abs().nan_to_num(posinf=0.0)
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
        place = [int(i) for i in torch.unravel_index(torch.tensor(flat), self.expected.shape)]
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


def golden_cases(root: Path) -> Iterator[GoldenCase]:
    """Every case folder below `root`, in name order."""
    for meta in sorted(root.glob("*/*/meta.json")):
        yield GoldenCase(meta.parent)


def run_case(case: GoldenCase, adapters: Path) -> list[Outcome]:
    """Run the adapter `<component>.py` of the folder `adapters` on a case.

    Raises `Unsupported` when there is no adapter or it declines the case, and AssertionError when
    it compared nothing.
    """
    run = load_adapter(adapters, case.component)
    outcomes = []
    for check in run(case):
        passed = check.passed(case.atol, case.rtol)
        where = "" if passed else check.where()
        outcomes.append(Outcome(check.name, check.error(), passed, where))
    assert outcomes, f"the adapter of {case.component}/{case.name} compared nothing"
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
