"""Batches of pictures that are drawn where the model is trained, so that a GPU waits for nothing.

Only for stages that ask nothing: questions are text, which processes of the CPU make ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ming_core.model.encoder import Features
from ming_recipes.nano.config import Seen
from ming_recipes.nano.data import media_only
from ming_recipes.nano.probes.cells import CELLS, MOTION_CLASS, DenseLabels, by_token
from ming_recipes.nano.world.batch import CHARACTERS
from ming_recipes.nano.world.lots import draw_motion, draw_scenes
from ming_recipes.nano.world.many import WRITINGS, Scenes, paint, patches, tables
from ming_recipes.nano.world.scene import MAX_OBJECTS
from ming_recipes.nano.world.vocabulary import CANVAS, COLORS, SHAPES, SIZES
from ming_recipes.training.batch import Batch
from ming_vision.processing import ImageProcessor


@dataclass(frozen=True)
class Drawn:
    """What the objectives need of pictures that were drawn together; see `data.Supervision`."""

    scenes: Scenes
    cells: DenseLabels
    sounds: None = None


@dataclass(frozen=True)
class Order:
    """A batch of pictures that is yet to be drawn: stills, and pairs of frames of videos."""

    seed: int
    pictures: int
    seen: Seen
    processor: ImageProcessor

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """The batch on a device: a pure function of the seed and of the kind of device."""
        rng = torch.Generator(device).manual_seed(self.seed)
        scenes = draw_scenes(self.pictures, rng, text_probability=self.seen.text)
        right, down, _ = draw_motion(scenes, rng)
        moving = torch.rand(self.pictures, 1, generator=rng, device=device) < self.seen.video
        right, down = right * moving, down * moving
        size = self.pictures, 3, CANVAS, CANVAS
        noise, more = (torch.randn(size, generator=rng, device=device) for _ in range(2))
        # Both frames of a still are one picture.
        more = torch.where(moving[:, :, None, None], more, noise)
        frames = paint(scenes, noise), paint(scenes.moved(right, down), more)
        features = features_of(torch.stack(frames, 1), self.processor)
        batch = media_only([features], [], []).to(device, dtype)
        between = scenes.moved(right / 2, down / 2)
        return replace(batch, extra=Drawn(between, labels_of(between, right, down)))


def features_of(frames: Tensor, processor: ImageProcessor) -> Features:
    """Pictures [N, frames of a patch, 3, 64, 64] uint8 as the processor would give them."""
    side, merge, depth = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    rows = patches(frames, side, merge, depth).unflatten(-1, (3, -1))
    mean, std = (
        torch.tensor(values, device=frames.device)[:, None]
        for values in (processor.mean, processor.std)
    )
    rows = ((rows * processor.rescale_factor - mean) / std).flatten(1)
    cells = CANVAS // side
    grid = torch.tensor([[1, cells, cells]] * len(frames))
    return Features("image", {"pixel_values": rows}, grid, [(cells // merge) ** 2] * len(frames))


def labels_of(scenes: Scenes, right: Tensor, down: Tensor) -> DenseLabels:
    """`probes.cells.dense_labels` of scenes whose objects move to the right and down, [N, 5]."""
    device, count = scenes.count.device, len(scenes)
    known, every = tables(device), torch.arange(count, device=device)

    def grid(value: float, *more: int, kind: torch.dtype = torch.int64) -> Tensor:
        return torch.full((count, CELLS, CELLS, *more), value, dtype=kind, device=device)

    shape, color, size, character = grid(-1), grid(-1), grid(-1), grid(len(CHARACTERS))
    motion = grid(0)
    place = grid(0, 3, kind=torch.float32)
    words = grid(0, len(SHAPES) + len(COLORS) + len(SIZES), kind=torch.float32)
    ways = _ways(device)[(right.sign() + 1).long(), (down.sign() + 1).long()]
    for nth in range(MAX_OBJECTS):  # later ones lie nearer
        n = every[scenes.count > nth]
        column, row, across, below = _cell(scenes.x[n, nth], scenes.y[n, nth])
        at = n, row, column
        own = [values[n, nth] for values in (scenes.shape, scenes.color, scenes.size)]
        for labels, values in zip((shape, color, size), own, strict=True):
            labels[at] = values
        motion[at] = ways[n, nth]
        radius = scenes.radius[n, nth] * (CELLS / CANVAS)
        place[at] = torch.stack((across, below, radius), -1)
        for start, values in zip((0, len(SHAPES), len(SHAPES) + len(COLORS)), own, strict=True):
            words[(*at, start + values)] = 1
    n = every[scenes.writing >= 0]
    value = scenes.writing[n]
    for nth in range(known.centers.shape[1]):
        middle = known.centers[value, nth]
        column, row, _, _ = _cell(
            scenes.writing_x[n] + middle[:, 0], scenes.writing_y[n] + middle[:, 1]
        )
        character[n, row, column] = _characters(device)[value, nth]
    written = torch.nn.functional.one_hot(character, len(CHARACTERS) + 1)[..., :-1].float()
    written = by_token(written).amax(2)
    shown = (by_token(words).amax(2), written, written.amax(-1, keepdim=True))
    return DenseLabels(
        shape=by_token(shape),
        color=by_token(color),
        size=by_token(size),
        motion=by_token(motion),
        place=by_token(place),
        character=by_token(character),
        hue=scenes.hue,
        texture=scenes.texture,
        words=torch.cat(shown, -1),
    )


def _cell(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Column, row and the position within that cell, as `world.batch.cell_of`."""
    across, down = (x + 0.5) * (CELLS / CANVAS), (y + 0.5) * (CELLS / CANVAS)
    column, row = (places.long().clamp(0, CELLS - 1) for places in (across, down))
    return column, row, across - column, down - row


def _ways(device: torch.device) -> Tensor:
    """[3, 3] class of a motion, by 1 + the signs of its step to the right and down."""
    classes = torch.zeros(3, 3, dtype=torch.int64)
    for way, number in MOTION_CLASS.items():
        if way is not None:
            classes[way[0] + 1, way[1] + 1] = number
    return classes.to(device)


def _characters(device: torch.device) -> Tensor:
    """[writings, 2] index into CHARACTERS."""
    rows = [[CHARACTERS.index(letter) for letter in value] for value in WRITINGS]
    return torch.tensor(rows, device=device)
