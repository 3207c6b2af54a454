"""Where every patch of a packed batch lies: window order, coordinates, attention segments, and the
learned positions around it.

Pure index arithmetic on the grid sizes. Training and chat see the same grids again and again, so
the result for a batch is kept (`layout` is cached).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ming_core.model.segments import Segments

Grid = tuple[int, int, int]
"""Frames, rows and columns of one image or video, in patches (frames already merged in time)."""


def grids_of(grid: Tensor) -> tuple[Grid, ...]:
    """A grid tensor [items, 3] as the key under which tables are kept."""
    return tuple((t, h, w) for t, h, w in grid.tolist())


@dataclass(frozen=True)
class Layout:
    """Index tables of one packed batch of N patches.

    window_index: [N / merge^2] int64; merged tokens listed window by window.
    inverse: its inverse permutation.
    position: [N, 2] int64; row and column of every patch in its frame, in window order.
    windows, frames: attention runs inside a window and inside a whole frame (never across frames).
    """

    window_index: Tensor
    inverse: Tensor
    position: Tensor
    windows: Segments
    frames: Segments


@lru_cache(maxsize=256)
def _frame(
    rows: int, columns: int, merge: int, window: int | None
) -> tuple[Tensor, Tensor, list[int]]:
    """One frame: window order of its merged tokens, patch coordinates [rows * columns, 2] in
    merge-block order, and the merged size of every window.

    Windows are `window` x `window` merged tokens, row by row; those at the right and bottom edge
    hold what is left. Without `window` there is one, the frame.
    """
    high, wide = rows // merge, columns // merge
    window = window or max(high, wide)
    y, x = torch.meshgrid(
        torch.arange(high, device="cpu"), torch.arange(wide, device="cpu"), indexing="ij"
    )
    owner = (y // window * -(-wide // window) + x // window).flatten()
    block = torch.arange(merge, device="cpu")
    patch_y = (y[..., None, None] * merge + block[:, None]).expand(-1, -1, merge, merge)
    patch_x = (x[..., None, None] * merge + block).expand(-1, -1, merge, merge)
    position = torch.stack((patch_y.flatten(), patch_x.flatten()), dim=-1)
    return owner.argsort(stable=True), position, owner.bincount().tolist()


@lru_cache(maxsize=16)
def layout(grids: tuple[Grid, ...], merge: int, window: int | None, device: torch.device) -> Layout:
    """Tables for `grids` packed one after another; `window` is the window's side in merged tokens,
    None for towers that attend over whole frames only.

    Rows and columns must be multiples of `merge`. The tensors are shared: never write to them.
    """
    order, position, windows, frames = [], [], [], []
    offset = 0
    # A cached inference tensor could not take part in a later backward pass.
    with torch.inference_mode(False), torch.device("cpu"):
        for time, rows, columns in grids:
            index, where, sizes = _frame(rows, columns, merge, window)
            for _ in range(time):
                order.append(index + offset)
                position.append(where.view(-1, merge**2, 2)[index])
                windows += [size * merge**2 for size in sizes]
                frames.append(rows * columns)
                offset += len(index)
        window_index = torch.cat(order)
        return Layout(
            window_index=window_index.to(device),
            inverse=window_index.argsort().to(device),
            position=torch.cat(position).flatten(0, 1).to(device),
            windows=Segments.of(windows, device),
            frames=Segments.of(frames, device),
        )


@lru_cache(maxsize=16)
def resampling(
    grids: tuple[Grid, ...], side: int, merge: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Bilinear resampling of a `side` x `side` table to every frame, corners on corners.

    Returns the four entries around each patch, [4, N] int64, row-major in the table, and their
    shares [4, N, 1] float32; patches in merge-block order. The tensors are shared: never write to
    them.
    """
    indices, shares = [], []
    with torch.inference_mode(False), torch.device("cpu"):
        for time, rows, columns in grids:
            _, position, _ = _frame(rows, columns, merge, None)
            low, high, rest = [], [], []
            for axis, count in enumerate((rows, columns)):
                at = torch.linspace(0, side - 1, count, dtype=torch.float32, device="cpu")[
                    position[:, axis]
                ]
                low.append(at.long())
                high.append((at.long() + 1).clamp_(max=side - 1))
                rest.append(at - at.long())
            y, x = rest
            corners = [(a, b) for a in (low[0], high[0]) for b in (low[1], high[1])]
            index = torch.stack([a * side + b for a, b in corners])
            share = torch.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])
            indices.append(index.repeat(1, time))
            shares.append(share.repeat(1, time))
        return torch.cat(indices, 1).to(device), torch.cat(shares, 1)[..., None].to(device)
