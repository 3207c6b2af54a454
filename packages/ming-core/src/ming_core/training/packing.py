"""Several samples in one row: the plan, and the packed tensors.

Samples that begin with the same tokens, such as several conversations about one picture, may share
this prefix: it is stored once, and each of them sees it. A sample of its own is one whose prefix
has no token. Nothing else differs between the two, so there is one packer.

`segment_ids` say which tokens of a row belong together; `ming_core.model.masks` makes masks of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.model.masks import shared_segment_mask
from ming_core.training.labels import IGNORED


class Placement(NamedTuple):
    """Where a sample goes: row of the batch and offset of the first token that is stored of it.

    The first sample of a group in a row is stored whole, and the others without their prefix.
    """

    row: int
    offset: int


@dataclass(frozen=True)
class Sample:
    """One unpacked sample of T tokens.

    input_ids, labels (aligned with the ids) and modality_ids [T]; position_ids [3, T] as computed
    for the sample alone. weights [T] float32: what each target counts in the loss; None means 1.
    query_ids [T]: as `Prompt.query_ids`; None without queries.

    Samples of one `group` begin with the same `prefix` tokens, which are no targets. They lie in
    one row, one after another; those that lie in several rows share it in each.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    modality_ids: Tensor
    weights: Tensor | None = None
    query_ids: Tensor | None = None
    prefix: int = 0
    group: int | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Packed:
    """B rows of T tokens. Padding has segment -1, label IGNORED, weight 0, position 0 and modality
    text.

    A prefix that is shared is a segment of its own. `order` names the samples in reading order.
    The media of a batch are given in this order; those of a prefix come once, with the first sample
    of the group. The queries of all samples are those of one head: a query id means the same vector
    everywhere.
    """

    input_ids: Tensor  # [B, T]
    labels: Tensor  # [B, T]
    weights: Tensor  # [B, T] float32, 0 for what is no target
    position_ids: Tensor  # [3, B, T]
    modality_ids: Tensor  # [B, T]
    segment_ids: Tensor  # [B, T]: 0, 1, ... along the row
    sample_ids: Tensor  # [B, T]: number of the sample, -1 for padding and shared prefixes
    cu_seqlens: Tensor  # [B, S + 1] int32: first tokens of the segments and the end, then -1
    order: list[int]
    mask: Tensor | None = None  # [B, 1, T, T] bool; None if no prefix is shared
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


def plan_samples(samples: Sequence[Sample], capacity: int) -> list[Placement]:
    """`plan_packing` of samples, in which a group is one piece: its prefix and what follows it.

    Raises BadConfig for a sample or a group longer than `capacity`.
    """
    groups: dict[object, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault((sample.group,) if sample.group is not None else i, []).append(i)
    stored = [_stored(samples, members) for members in groups.values()]
    plan = plan_packing([sum(lengths) for lengths in stored], capacity)
    placements = [Placement(0, 0)] * len(samples)
    for (row, offset), members, lengths in zip(plan, groups.values(), stored, strict=True):
        for i, length in zip(members, lengths, strict=True):
            placements[i] = Placement(row, offset)
            offset += length
    return placements


def pack(
    samples: Sequence[Sample], placements: Sequence[Placement], capacity: int, pad_id: int = 0
) -> Packed:
    """Copy samples to their places in rows of `capacity` tokens.

    The first label of each segment becomes IGNORED: the token before it belongs to another one.
    Raises ValueError for a target that would be lost with a shared prefix: one inside of it, or the
    token after it.
    """
    rows = max(p.row for p in placements) + 1
    packed = Packed(
        input_ids=torch.full((rows, capacity), pad_id, device="cpu"),
        labels=torch.full((rows, capacity), IGNORED, device="cpu"),
        weights=torch.zeros(rows, capacity, dtype=torch.float32, device="cpu"),
        position_ids=torch.zeros(3, rows, capacity, dtype=torch.long, device="cpu"),
        modality_ids=torch.zeros(rows, capacity, dtype=torch.long, device="cpu"),
        segment_ids=torch.full((rows, capacity), -1, device="cpu"),
        sample_ids=torch.full((rows, capacity), -1, device="cpu"),
        cu_seqlens=torch.empty(0, device="cpu"),
        order=sorted(range(len(samples)), key=lambda i: placements[i]),
    )
    query_ids = torch.full((rows, capacity), -1, device="cpu")
    shared = torch.full((rows, capacity), -1, device="cpu")
    sharing = Counter(_group(p.row, sample) for p, sample in zip(placements, samples))
    prefixes: dict[tuple[int, int | None], int] = {}  # the segment of a group's prefix in a row
    bounds: list[list[int]] = [[0] for _ in range(rows)]

    def store(number: int, row: int, part: slice, segment_start: int) -> int:
        """Write a part of a sample as the next segment of its row; returns the segment."""
        sample, segment = samples[number], len(bounds[row]) - 1
        place = slice(segment_start, segment_start + part.stop - part.start)
        packed.input_ids[row, place] = sample.input_ids[part]
        packed.labels[row, place] = sample.labels[part]
        packed.labels[row, segment_start] = IGNORED
        packed.weights[row, place] = 1.0 if sample.weights is None else sample.weights[part]
        packed.position_ids[:, row, place] = sample.position_ids[:, part]
        packed.modality_ids[row, place] = sample.modality_ids[part]
        packed.segment_ids[row, place] = segment
        packed.sample_ids[row, place] = number
        if sample.query_ids is not None:
            query_ids[row, place] = sample.query_ids[part]
        bounds[row].append(place.stop)
        return segment

    for number in packed.order:
        sample, (row, start) = samples[number], placements[number]
        group, prefix = _group(row, sample), 0
        if sample.group is not None and sharing[group] > 1:
            prefix = sample.prefix
            if (sample.labels[1 : prefix + 1] != IGNORED).any():
                raise ValueError(
                    f"sample {number} has targets among its first {prefix + 1} tokens, and shares "
                    f"{prefix} of them"
                )
            if prefix and group not in prefixes:
                prefixes[group] = store(number, row, slice(0, prefix), start)
                packed.sample_ids[row, start : start + prefix] = -1
                start += prefix
        segment = store(number, row, slice(prefix, len(sample)), start)
        if prefix:
            shared[row][packed.segment_ids[row] == segment] = prefixes[group]
    packed.weights[packed.labels == IGNORED] = 0.0
    cu_seqlens = torch.full((rows, max(map(len, bounds))), -1, dtype=torch.int32, device="cpu")
    for row, ends in enumerate(bounds):
        cu_seqlens[row, : len(ends)] = torch.tensor(ends, device="cpu")
    return replace(
        packed,
        cu_seqlens=cu_seqlens,
        mask=shared_segment_mask(packed.segment_ids, shared) if prefixes else None,
        query_ids=query_ids if any(s.query_ids is not None for s in samples) else None,
    )


def _group(row: int, sample: Sample) -> tuple[int, int | None]:
    """The samples of a group that lie in one row share their prefix."""
    return row, sample.group


def _stored(samples: Sequence[Sample], members: Sequence[int]) -> list[int]:
    """How many tokens are stored of each sample of a group."""
    first, *rest = (samples[i] for i in members)
    return [len(first), *(len(sample) - sample.prefix for sample in rest)]
