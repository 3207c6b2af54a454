"""Which weights are trained, and how fast: patterns of their names.

    {"backbone.*": 1.0, "encoders.image.*": 0.1}

trains the language model at the full learning rate and the image encoder at a tenth of it. What no
pattern names is frozen. Of several patterns that name a weight, the last one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from ming_core.errors import BadConfig


def rates(module: nn.Module, patterns: Mapping[str, float]) -> dict[str, float]:
    """The multiple of the learning rate of each parameter that is trained, by its name.

    Patterns are those of file names: `*` stands for any characters. A multiple of 0 freezes.
    Raises BadConfig for a pattern that names nothing.
    """
    names = [name for name, _ in module.named_parameters()]
    found: dict[str, float] = {}
    for pattern, rate in patterns.items():
        own = [name for name in names if fnmatchcase(name, pattern)]
        if not own:
            raise BadConfig(f"no weight has a name like {pattern!r}; {_nearest(pattern, names)}")
        found.update(dict.fromkeys(own, float(rate)))
    return {name: rate for name, rate in found.items() if rate}


def freeze_others(module: nn.Module, trained: Mapping[str, float]) -> None:
    """Only these parameters get gradients."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trained)


def _nearest(pattern: str, names: list[str]) -> str:
    """The names that come closest, or the parts that there are."""
    plain = pattern.replace("*", "").strip(".")
    parts = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, 9)}
    near = get_close_matches(plain, [*parts, *names], n=3, cutoff=0.6)
    if near:
        return f"near it: {', '.join(near)}"
    tops = {".".join(name.split(".")[:2]) for name in names}
    return f"names begin with {', '.join(sorted(tops)[:8])}"
