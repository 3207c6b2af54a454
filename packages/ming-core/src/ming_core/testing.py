"""Helpers for tests of this toolkit and of third-party plugins: golden cases and their checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


class Unsupported(Exception):
    """Raised by a parity adapter for a case that the toolkit deliberately does not run."""


@dataclass(frozen=True)
class GoldenCase:
    """One folder `<component>/<case>/` of recorded reference inputs and outputs (docs/formats.md)."""

    folder: Path

    @property
    def component(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.folder / "meta.json").read_text("utf-8"))

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text("utf-8"))

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
        if tensors.exists():
            return load_file(tensors)
        return json.loads((self.folder / "io.json").read_text("utf-8"))

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """`in.<name>` entries without the prefix."""
        return {k.removeprefix("in."): v for k, v in self._io.items() if k.startswith("in.")}

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """`out.<name>` entries without the prefix."""
        return {k.removeprefix("out."): v for k, v in self._io.items() if k.startswith("out.")}


@dataclass(frozen=True)
class Check:
    """One compared output. Tensors are compared within the case's tolerance, anything else by ==.

    An adapter selects the comparable entries itself (for example the unmasked positions).
    """

    name: str
    actual: Any
    expected: Any

    def error(self) -> float:
        """Worst absolute difference; 0 or infinity for values that are no float tensors."""
        if not isinstance(self.expected, Tensor):
            return 0.0 if self.actual == self.expected else float("inf")
        if self.actual.shape != self.expected.shape:
            return float("inf")
        if self.expected.numel() == 0:
            return 0.0
        return (self.actual.double() - self.expected.double()).abs().max().item()

    def passed(self, atol: float, rtol: float) -> bool:
        if not isinstance(self.expected, Tensor):
            return self.actual == self.expected
        if self.actual.shape != self.expected.shape:
            return False
        if not self.expected.is_floating_point():
            return bool(torch.equal(self.actual.to(self.expected.dtype), self.expected))
        return torch.allclose(self.actual.double(), self.expected.double(), rtol=rtol, atol=atol)


def golden_cases(root: Path) -> Iterator[GoldenCase]:
    """Every case folder below `root`, in name order."""
    for meta in sorted(root.glob("*/*/meta.json")):
        yield GoldenCase(meta.parent)
