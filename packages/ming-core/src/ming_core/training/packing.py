"""Several samples in one row: the plan, and the packed tensors.

`segment_ids` say which tokens of a row belong together; `ming_core.model.masks` makes masks of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.training.losses import IGNORE


class Placement(NamedTuple):
    """Where a sample goes: row of the batch and offset of its first token."""

    row: int
    offset: int


@dataclass(frozen=True)
class Sample:
    """One unpacked sample of T tokens.

    input_ids, labels (aligned with the ids) and modality_ids [T]; position_ids [3, T] as computed
    for the sample alone. query_ids [T]: as `Prompt.query_ids`; None without queries.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    modality_ids: Tensor
    query_ids: Tensor | None = None


@dataclass(frozen=True)
class Packed:
    """B rows of T tokens. Padding has segment -1, label IGNORE, position 0 and modality text.

    The queries of all samples are those of one head: a query id means the same vector everywhere.
    """

    input_ids: Tensor  # [B, T]
    labels: Tensor  # [B, T]
    position_ids: Tensor  # [3, B, T]
    modality_ids: Tensor  # [B, T]
    segment_ids: Tensor  # [B, T]: 0, 1, ... along the row
    cu_seqlens: Tensor  # [B, S + 1] int32: first tokens of the segments and the end, then -1
    query_ids: Tensor | None = None  # [B, T], -1 for other tokens; None if no sample has queries

    @property
    def max_seqlen(self) -> int:
        lengths = self.cu_seqlens.diff(dim=1)
        return int(lengths.max())


def plan_packing(lengths: Sequence[int], capacity: int) -> list[Placement]:
    """First-fit-decreasing: the longest sample first, each into the first row with room.

    Equal lengths keep their order; inside a row samples are in index order. The plan depends on
    nothing else. Raises BadConfig for a sample longer than `capacity`.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > capacity:
            raise BadConfig(
                f"sample {i} has {lengths[i]} tokens and a packed row holds {capacity}; "
                "raise the capacity or shorten the sample"
            )
        row = next((r for r, left in enumerate(room) if left >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(i)
        room[row] -= lengths[i]
    placements = [Placement(0, 0)] * len(lengths)
    for row, members in enumerate(rows):
        offset = 0
        for i in sorted(members):
            placements[i] = Placement(row, offset)
            offset += lengths[i]
    return placements


def pack(
    samples: Sequence[Sample], placements: Sequence[Placement], capacity: int, pad_id: int = 0
) -> Packed:
    """Copy samples to their places in rows of `capacity` tokens.

    The first label of each sample becomes IGNORE: the token before it belongs to another sample.
    """
    rows = max(p.row for p in placements) + 1
    input_ids = torch.full((rows, capacity), pad_id, device="cpu")
    labels = torch.full((rows, capacity), IGNORE, device="cpu")
    position_ids = torch.zeros(3, rows, capacity, dtype=torch.long, device="cpu")
    modality_ids = torch.zeros(rows, capacity, dtype=torch.long, device="cpu")
    segment_ids = torch.full((rows, capacity), -1, device="cpu")
    query_ids = torch.full((rows, capacity), -1, device="cpu")
    bounds: list[list[int]] = [[0] for _ in range(rows)]
    for placement, sample in sorted(zip(placements, samples), key=lambda pair: pair[0]):
        row, start = placement
        end = start + len(sample.input_ids)
        input_ids[row, start:end] = sample.input_ids
        labels[row, start:end] = sample.labels
        labels[row, start] = IGNORE
        position_ids[:, row, start:end] = sample.position_ids
        modality_ids[row, start:end] = sample.modality_ids
        segment_ids[row, start:end] = len(bounds[row]) - 1
        if sample.query_ids is not None:
            query_ids[row, start:end] = sample.query_ids
        bounds[row].append(end)
    cu_seqlens = torch.full((rows, max(map(len, bounds))), -1, dtype=torch.int32, device="cpu")
    for row, ends in enumerate(bounds):
        cu_seqlens[row, : len(ends)] = torch.tensor(ends, device="cpu")
    asked = query_ids if any(sample.query_ids is not None for sample in samples) else None
    return Packed(input_ids, labels, position_ids, modality_ids, segment_ids, cu_seqlens, asked)
