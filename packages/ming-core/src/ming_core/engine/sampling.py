"""The rules by which tokens are chosen, and by which an answer ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypedDict

from ming_core.errors import BadConfig

LOOP_TURNS = 6
"""How often the same tokens must follow each other at least to count as a loop."""


End = Literal["stop", "length", "loop", "broken", "cancelled"]
"""Why an answer ended: the model was done, its tokens were used up, it said the same thing over and
over, its logits were no finite numbers (it then has no token of this step), or nobody wanted it."""


_DRAWING = {"top_k": 0, "top_p": 1.0, "seed": None}
"""What only matters where tokens are drawn, and its usual value."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: Highest number of generated tokens.
        temperature: 0 always takes the most likely token (greedy decoding).
        top_k: Sample only from the k most likely tokens; 0 means all.
        top_p: Sample only from the most likely tokens with this total probability; 1 means all.
        no_repeat_ngram: No n-gram of this size occurs twice in prompt and answer; 0 means off.
        max_loop: The answer ends if its last `max_loop` tokens repeat a short sequence, at least 6
            times; 0 means off.
        seed: Makes sampled answers repeatable.

    Raises BadConfig for values out of range, and for top_k, top_p and seed at temperature 0.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    no_repeat_ngram: int = 0
    max_loop: int = 96
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            if not _is_number(getattr(self, name), Real):
                raise BadConfig(f"{name} is {getattr(self, name)!r}; it must be a number")
            self._set(name, _float(getattr(self, name)))
        for name in ("max_new_tokens", "top_k", "no_repeat_ngram", "max_loop", "seed"):
            value = getattr(self, name)
            if not _is_number(value, Integral) and not (name == "seed" and value is None):
                raise BadConfig(f"{name} is {value!r}; it must be a whole number")
            self._set(name, value if value is None else int(value))
        limits = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "0 (off) or more"),
            "max_loop": (
                self.max_loop == 0 or self.max_loop >= LOOP_TURNS,
                f"0 (off) or at least {LOOP_TURNS}",
            ),
            "seed": (-(2**63) <= (self.seed or 0) < 2**64, "from -2^63 to 2^64 - 1"),
        }
        for name, (ok, expected) in limits.items():
            if not ok:
                raise BadConfig(f"{name} is {getattr(self, name)}; it must be {expected}")
        if self.temperature == 0:
            given = [name for name, usual in _DRAWING.items() if getattr(self, name) != usual]
            if given:
                raise BadConfig(
                    f"{given[0]} has no effect at temperature 0, which always takes the most "
                    f"likely token; give a temperature above 0, or leave {given[0]} out"
                )

    def _set(self, name: str, value: float | None) -> None:
        """Keep a number of any library as a plain one, which torch takes."""
        object.__setattr__(self, name, value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_number(value: object, kind: type) -> bool:
    """Whether a value is such a number; true and false are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments of the tasks."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    no_repeat_ngram: int
    max_loop: int
    seed: int | None


def loop_of(ids: Sequence[int], length: int) -> int:
    """How many tokens are repeated if the last `length` of `ids` are a loop, else 0."""
    if not length or len(ids) < length:
        return 0
    tail = ids[-length:]
    for size in range(1, length // LOOP_TURNS + 1):
        if tail[-1] == tail[-1 - size] and tail[size:] == tail[:-size]:
            return size
    return 0


def repeating_tokens(ids: Sequence[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram already present in `ids`."""
    if len(ids) < n:
        return []
    tail = ids[len(ids) - n + 1 :]
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == tail]
