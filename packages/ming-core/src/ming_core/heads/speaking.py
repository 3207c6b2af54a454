"""Many texts spoken together, while they are still being written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ming_core.heads.condition import Condition
from ming_core.heads.protocols import Speaker

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def speak(
    speaker: Speaker[Any],
    condition: Condition,
    texts: Sequence[Iterable[str]],
    rngs: Sequence[torch.Generator],
) -> Iterator[tuple[int, Tensor]]:
    """Speak one text for each row of the condition, all at once.

    texts: the pieces of each text, as they are written; `[text]` for one that is complete. Yields
    the number of a row and what it says next, [samples] at `speaker.rate`.
    """
    going = dict(enumerate(speaker.start(condition, rngs)))
    left = {number: iter(pieces) for number, pieces in enumerate(texts)}
    while going:
        written = []
        for number, state in going.items():
            piece = next(left[number], None) if number in left else ""
            if piece is None:
                del left[number]
                speaker.finish(state)
            written.append(piece or "")
        said = speaker.step(list(going.values()), written)
        for number, samples in zip(list(going), said, strict=True):
            if len(samples):
                yield number, samples
            if going[number].done:
                del going[number]
