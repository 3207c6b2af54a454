"""Query tokens: learnt vectors that a head adds to a prompt, to read their hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from ming_core.model.encoder import Features

NO_QUERY = -1
"""Query id of every other token."""


@dataclass(frozen=True)
class Queries:
    """The query tokens of a head. Each scale is a block of its own in the prompt.

    A block stands between the ordinary markers of a medium, and the routers take it for one. The
    number of a vector, counted through all scales, is the query id of its token.

    Attributes:
        vectors: Learnt vectors [n, D] of each scale, in the order of the prompt.
        where: "answer": at the end of the prompt, after the start of the answer. "question": at the
            end of the last question.
        layout: Where the position rule puts the tokens of a block. "strip": in one row, as in all
            releases. "grid": in a square. "picture": in a square that covers the first picture of
            the prompt, or as "grid" if the prompt has none.
        modality: The medium whose markers, patch token and router they have. Sounds have no layout:
            "audio" tokens get positions as text does.
    """

    vectors: tuple[Tensor, ...]
    where: Literal["answer", "question"] = "answer"
    layout: Literal["strip", "grid", "picture"] = "strip"
    modality: Literal["image", "audio"] = "image"

    def __post_init__(self) -> None:
        if not self.vectors or not all(self.counts):
            raise ValueError("queries need at least one scale, and each scale at least one vector")
        if self.layout != "strip":
            for count in self.counts:
                if isqrt(count) ** 2 != count:
                    raise ValueError(f"{count} queries make no square; use the layout 'strip'")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tokens of each scale."""
        return tuple(len(scale) for scale in self.vectors)

    def joined(self) -> Tensor:
        """All vectors [sum(counts), D], by query id."""
        import torch

        return torch.cat(self.vectors)

    def features(self, merge: int) -> Features:
        """Their blocks as the position rule sees them: pictures without pixels.

        merge: patches of a side that become one token. A strip of n tokens is the grid
        (1, merge, merge * n), in the releases (1, 2, 2 s^2).
        """
        import torch

        from ming_core.model.encoder import Features

        grid = None
        if self.modality == "image":
            sides = [
                (1, n) if self.layout == "strip" else (isqrt(n), isqrt(n)) for n in self.counts
            ]
            grid = torch.tensor(
                [(1, merge * rows, merge * columns) for rows, columns in sides], device="cpu"
            )
        return Features(self.modality, {}, grid, list(self.counts))


def cover_picture(
    positions: Tensor, query_ids: Tensor, queries: Queries, start: int, size: tuple[int, int]
) -> None:
    """Give queries of the layout "picture" the rows and columns of a picture of their prompt.

    positions [3, T] of one prompt, changed in place; query_ids [T]; start: place of the picture's
    first token; size: its rows and columns of tokens. A square of queries with more or fewer cells
    than the picture has takes the nearest ones.
    """
    import torch

    height, width = size
    first = 0
    for count in queries.counts:
        side = isqrt(count)
        cell = 2 * torch.arange(side, device=positions.device) + 1
        rows, columns = cell * height // (2 * side), cell * width // (2 * side)
        source = start + (rows[:, None] * width + columns[None, :]).flatten()
        place = ((query_ids >= first) & (query_ids < first + count)).nonzero().squeeze(1)
        positions[1:, place] = positions[1:, source]
        first += count
