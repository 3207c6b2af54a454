"""Pictures that are a little different each time, so that few of them teach more."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as pil

from ming_core.media import Image, Media
from ming_recipes.training.records import Record

SHIFT, ZOOM, TURN = 0.12, 1.25, 12.0
"""Largest shift, as a share of a side; largest zoom, in and out; largest turn in degrees."""

BRIGHTNESS, NOISE = 0.15, 4.0
"""Largest change of brightness as a share, and spread of the noise in grey levels."""


def changed_picture(medium: Media, record: Record, rng: np.random.Generator) -> Media:
    """A still picture moved, zoomed, turned and lit a little; every other medium as it is.

    It keeps its size. Nothing is mirrored, as left and right may be asked. What comes in at the
    edges repeats what lies there.
    """
    if not isinstance(medium, Image):
        return medium
    from ming_vision.image import open_image

    picture = np.asarray(open_image(medium.source).convert("RGB"))
    height, width = picture.shape[:2]
    margin = max(height, width) // 2
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    zoom = math.exp(rng.uniform(-1, 1) * math.log(ZOOM))
    turn = math.radians(rng.uniform(-TURN, TURN))
    moved = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    across, down = math.cos(turn) / zoom, math.sin(turn) / zoom
    x, y = (width - 1) / 2, (height - 1) / 2
    # Of each pixel of the result: where it lies in the padded picture.
    place = (
        across,
        down,
        x - across * x - down * y - moved[0] + margin,
        -down,
        across,
        y + down * x - across * y - moved[1] + margin,
    )
    turned = pil.fromarray(padded).transform(
        (width, height), pil.Transform.AFFINE, place, pil.Resampling.BILINEAR
    )
    light = 1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    level = np.asarray(turned, dtype=np.float32) * light + rng.normal(0, NOISE, picture.shape)
    return Image(level.round().clip(0, 255).astype(np.uint8))
