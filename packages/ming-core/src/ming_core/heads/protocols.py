"""Protocols of heads. A head makes pictures or speech from a prompt and other inputs.

A head is an `nn.Module` whose parts are components of the checkpoint, each with names and a folder
of its own. There are two kinds. A painter makes all pictures of a batch at once; a speaker makes
sound piece by piece, for requests that come and go. docs/heads.md builds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ming_core.heads.condition import Condition
from ming_core.heads.states import States

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ming_core.checkpoints.components import Component
    from ming_core.model.queries import Queries
    from ming_core.model.transformer import Layer


@dataclass(frozen=True)
class Row:
    """What a head is told for one medium.

    read: hidden states of the layers that it reads, as in `Answer.states`; None for a head that
    reads nothing. inputs: what its processor made of references, voice and text.
    """

    read: States | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def states(self) -> States:
        """What was read. Raises ValueError if nothing was."""
        if self.read is None:
            raise ValueError("the head needs hidden states; give those of the layers that it reads")
        return self.read


class HeadProcessor(Protocol):
    """Turns references, targets, voices and text into tensors; owns no weights and no device."""

    def __call__(self, **inputs: Any) -> dict[str, Tensor]:
        """Tensors of one request or one training sample, without an axis for the batch.

        Its keywords are the inputs that the head takes. Raises BadMedia or BadConfig.
        """
        ...


class Head(Protocol):
    """What painters and speakers share; implementations derive from `nn.Module` only.

    gives: what it makes. reads: layers of the backbone whose hidden states it needs; a head that
    reads nothing works without the backbone. processor: see `HeadProcessor`.
    """

    gives: Literal["image", "audio"]
    reads: Sequence[Layer]
    processor: HeadProcessor

    def __init__(
        self,
        config: Mapping[str, Any],
        parts: Mapping[str, nn.Module],
        files: Mapping[str, Path],
    ) -> None:
        """Put its components together.

        config: a whole config.json. parts: the modules of its components, by name. files: those
        that its components ask for, by path below the model's folder.
        """
        ...

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> Sequence[Component]:
        """What it consists of on disk, from a whole config.json. Raises BadConfig."""
        ...

    @property
    def queries(self) -> Queries | None:
        """The tokens that it adds to the prompt; gradients reach their vectors."""
        ...

    def condition(self, rows: Sequence[Row]) -> Condition:
        """What its generator is told, one row for each of `rows`.

        No other method sees the backbone's output, so a head can be trained on stored conditions.
        A row's condition does not depend on the other rows.
        """
        ...

    def loss(
        self, condition: Condition, target: Mapping[str, Tensor], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """Named terms of the training loss, each a number; their sum is minimised.

        target: tensors of its processor, stacked along a first axis as the condition's rows are.
        """
        ...


class Painter(Head, Protocol):
    """Makes pictures: rows go in, pictures come out."""

    def paint(
        self,
        condition: Condition,
        rngs: Sequence[torch.Generator],
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Pictures [rows, 3, height, width] with values from 0 to 1.

        rngs: one for each row, so that a row gives the same picture alone as in a batch. steps,
        guidance: None means the head's own. A painter may take further keywords, such as a size.
        """
        ...


class Speech(Protocol):
    """The state of one spoken text, as its speaker keeps it.

    done: everything was said. To cancel a request is to forget its state.
    """

    done: bool


S = TypeVar("S", bound=Speech)


class Speaker(Head, Protocol[S]):
    """Speaks while the text is still being written. rate: samples per second of what it gives."""

    rate: int

    def start(self, condition: Condition, rngs: Sequence[torch.Generator]) -> list[S]:
        """A state for each row of the condition. rngs: one for each row."""
        ...

    def step(self, states: Sequence[S], texts: Sequence[str]) -> list[Tensor]:
        """Go on by one step with many requests; what each of them says now, [samples].

        Requests may join and leave between two steps. A request says the same alone as among
        others. texts: what was written of each text since the last step, "" for nothing. What a
        request says may be empty.
        """
        ...

    def finish(self, state: S) -> None:
        """The text of a request is complete. Further steps say the rest, until it is `done`."""
        ...
