"""Position ids of a prompt: one rule per rotary kind, all rows of a batch in one pass.

Every token has three positions (time, height, width). A text token costs one position; an image
or video block, whose tokens lie on a grid, costs what its rule says. So the first free position
before a token is a cumulative sum of costs over the unmasked tokens of its row, and no Python
loop over tokens or blocks is needed.

- `1d` (Lite 1.0): the place among the unmasked tokens of the row.
- `mrope` (Lite 1.5): block tokens hold (start + t, start + row, start + column).
- `video_rope` (flash): the grid is centred on the time diagonal, a temporal patch advances time
  by 2 and a block costs its last time + 1. Heights and widths may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ming_core.model.config import BackboneConfig

TIME_SCALE = 2.0
"""Positions per second of video; flash also advances by it for each temporal patch."""


@dataclass(frozen=True)
class PositionRule:
    """What the position ids depend on.

    `interleaved`: each temporal patch of a video is a block of its own after an image start
    token. Lite uses the image patch token for videos too and tells them apart by the start token.
    """

    kind: Literal["1d", "mrope", "video_rope"]
    image_patch: int | None = None
    video_patch: int | None = None
    image_start: int | None = None
    video_start: int | None = None
    merge: int = 2
    interleaved: bool = False

    @classmethod
    def from_config(cls, config: BackboneConfig) -> PositionRule:
        image_patch, video_patch = config.image_patch_token, config.video_patch_token
        return cls(
            kind=config.rope.kind,
            image_patch=image_patch,
            video_patch=image_patch if video_patch is None else video_patch,
            image_start=config.image_start_token,
            video_start=config.video_start_token,
            merge=config.spatial_merge_size,
            interleaved=bool(config.use_interleaved_frame_timestamp),
        )


def rope_index(
    rule: PositionRule,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    image_grid_thw: Tensor | None = None,
    video_grid_thw: Tensor | None = None,
    second_per_grid_ts: Tensor | Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Positions [3, B, S] int64 (time, height, width; padding holds 1) and deltas [B, 1] int64.

    input_ids, attention_mask [B, S]; grids [n, 3] (time, height, width) in patch units before the
    spatial merge, of all images (videos) of the batch in reading order; seconds per temporal
    patch [videos]. The token number n after the prompt has position S + n + delta.
    Without grids every token counts as text. ValueError if grids and patch tokens do not match.
    """
    batch, length = input_ids.shape
    device = input_ids.device
    real = input_ids.new_ones(batch, length, dtype=torch.bool)
    if attention_mask is not None:
        real = attention_mask.to(device).bool()

    # From here on the unmasked tokens [N] of the whole batch, row after row.
    ids = input_ids[real]
    row = torch.arange(batch, device=device)[:, None].expand(batch, length)[real]
    cost = torch.ones(len(ids), dtype=torch.float64, device=device)
    offset = torch.zeros(3, len(ids), dtype=torch.float32, device=device)
    if rule.kind != "1d" and (image_grid_thw is not None or video_grid_thw is not None):
        starts, is_video = _find_blocks(rule, ids, row)
        grid, step = _block_grids(
            rule, is_video, image_grid_thw, video_grid_thw, second_per_grid_ts
        )
        size = grid.prod(dim=1)
        block = torch.repeat_interleave(torch.arange(len(grid), device=device), size)
        inside = torch.arange(len(block), device=device) - (size.cumsum(0) - size)[block]
        place = starts[block] + inside
        _check_runs(rule, ids, starts, size, place)
        offset[:, place] = _offsets(rule, grid[block], step[block], inside)
        # The whole cost sits on the last token, so that the tokens of a block share their start.
        cost[place] = 0.0
        cost[starts + size - 1] = _costs(rule, grid, step).double()

    row_cost = torch.zeros(batch, dtype=torch.float64, device=device).index_add_(0, row, cost)
    start = cost.cumsum(0) - cost - (row_cost.cumsum(0) - row_cost)[row]
    positions = torch.ones(3, batch, length, dtype=torch.int64, device=device)
    # Summed in float32 and truncated toward zero, as in training: matters for fractional seconds.
    positions[:, real] = (start.float() + offset).long()
    return positions, (row_cost.long() - length)[:, None]


def decode_positions(step: int, deltas: Tensor, prompt_length: int) -> Tensor:
    """Positions [3, B, 1] of the generated token number `step` (0 = first after the prompt).

    deltas [B, 1] of `rope_index`; prompt_length: S, padding included.
    """
    return (deltas + (prompt_length + step)).expand(3, -1, -1)


def frame_grids(grid: Tensor) -> Tensor:
    """Grids [videos, 3] as one row (1, height, width) per temporal patch."""
    frames = grid.repeat_interleave(grid[:, 0], dim=0)
    return torch.cat([torch.ones_like(frames[:, :1]), frames[:, 1:]], dim=1)


def _equal(ids: Tensor, token: int | None) -> Tensor:
    """Where `ids` hold `token`; nowhere if the model has no such token."""
    return torch.zeros_like(ids, dtype=torch.bool) if token is None else ids == token


def _find_blocks(rule: PositionRule, ids: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Index [n] of the first patch of every block and whether [n] it is a video block.

    A block is a patch token directly after a start token of its row. Looking back rather than
    ahead, a start token at the end of a row needs no special case.
    """
    before = torch.full_like(ids, -1)
    before[1:] = torch.where(row[1:] == row[:-1], ids[:-1], -1)
    after_image = _equal(before, rule.image_start)
    video = _equal(before, rule.video_start) & _equal(ids, rule.video_patch)
    if rule.video_patch != rule.image_patch:
        video |= after_image & _equal(ids, rule.video_patch)
    image = after_image & _equal(ids, rule.image_patch)
    starts = (image | video).nonzero().squeeze(1)
    return starts, video[starts]


def _block_grids(
    rule: PositionRule,
    is_video: Tensor,
    image_grid: Tensor | None,
    video_grid: Tensor | None,
    seconds: Tensor | Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    """Merged grids [n, 3] and positions per temporal patch [n] of all blocks in reading order."""
    device = is_video.device
    none = torch.zeros(0, 3, dtype=torch.int64, device=device)
    images, videos = (none if g is None else g.to(device) for g in (image_grid, video_grid))
    default = TIME_SCALE if rule.kind == "video_rope" else 1.0
    time_step = torch.full((len(videos),), default, dtype=torch.float32, device=device)
    if seconds is not None:
        time_step = torch.as_tensor(seconds, dtype=torch.float32, device=device) * TIME_SCALE
        if len(time_step) != len(videos):
            raise ValueError(f"{len(time_step)} seconds per patch given for {len(videos)} videos")
    if rule.interleaved:
        time_step = time_step.repeat_interleave(videos[:, 0])
        videos = frame_grids(videos)

    found = int(is_video.sum())
    for name, have, need in (
        ("video", found, len(videos)),
        ("image", len(is_video) - found, len(images)),
    ):
        if have != need:
            raise ValueError(f"the tokens hold {have} {name} blocks, the {name} grids {need}")
    grid = torch.empty(len(is_video), 3, dtype=torch.int64, device=device)
    step = torch.full((len(is_video),), default, dtype=torch.float32, device=device)
    grid[is_video], grid[~is_video] = videos.long(), images.long()
    step[is_video] = time_step
    merge = torch.tensor([1, rule.merge, rule.merge], device=device)
    return grid // merge, step


def _check_runs(
    rule: PositionRule, ids: Tensor, starts: Tensor, size: Tensor, place: Tensor
) -> None:
    """Every block must be followed by exactly its own number of patch tokens."""
    patch = _equal(ids, rule.image_patch) | _equal(ids, rule.video_patch)
    if bool((place >= len(ids)).any()) or not bool(patch[place].all()):
        raise ValueError("a block has fewer patch tokens than its grid asks for")
    ends = starts + size
    if bool(patch[ends[ends < len(ids)]].any()):
        raise ValueError("a block has more patch tokens than its grid asks for")


def _offsets(rule: PositionRule, grid: Tensor, step: Tensor, inside: Tensor) -> Tensor:
    """Offsets [3, n] of block tokens from the block's start; `inside` counts t, row, column."""
    _, height, width = grid.unbind(1)
    t = inside // (height * width)
    y = inside // width % height
    x = inside % width
    time = t * step
    if rule.kind == "video_rope":
        return torch.stack([time, time + y - (height - 1) // 2, time + x - (width - 1) // 2])
    return torch.stack([time.floor(), y.float(), x.float()])


def _costs(rule: PositionRule, grid: Tensor, step: Tensor) -> Tensor:
    """Positions [n] that each block takes: flash counts its time only, Lite the longest side."""
    last = (grid[:, 0] - 1) * step
    if rule.kind == "video_rope":
        return last + 1
    return torch.stack([last.floor(), *(grid[:, 1:].T - 1).float()]).amax(0) + 1
