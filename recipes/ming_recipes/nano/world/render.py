"""Pixels and exact label maps of a scene.

Analytic anti-aliasing: the coverage of a pixel is clip(0.5 - d, 0, 1), d being the signed distance
in px. Only basic arithmetic and square roots act on arrays, so that every machine that keeps to
IEEE 754 draws the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from ming_recipes.nano.world.lettering import lettering
from ming_recipes.nano.world.scene import (
    NOISE_STREAM,
    REACH,
    STREAMS,
    TEXTURE_STREAM,
    Background,
    Scene,
    SceneObject,
    generator,
)
from ming_recipes.nano.world.vocabulary import CANVAS, COLOR_RGB, HUE_RGB

_NOISE_SIGMA = 3.5
_HUE_SIGMA = 5.0
_SHADING = np.float32(0.10)
_INK = {True: (238.0, 238.0, 240.0), False: (22.0, 22.0, 26.0)}

_AXIS = np.arange(CANVAS, dtype=np.float32)
_FROM_CENTER = _AXIS - np.float32((CANVAS - 1) / 2)
_VIGNETTE = 1 - np.float32(0.12 / 2048) * (_FROM_CENTER[:, None] ** 2 + _FROM_CENTER**2)

Window = tuple[slice, slice]


def render(scene: Scene, frame: int = 0) -> np.ndarray:
    """The picture [64, 64, 3] uint8, a pure function of the scene.

    frame: number of a video's frame, each of which has its own sensor noise.
    """
    # Planes first: row operations then run over 64 contiguous values.
    image = _background(scene.background)
    if scene.text is not None:
        ink = np.array(_INK[scene.background.hue == "night"], dtype=np.float32)
        coverage = lettering(scene.text.value).coverage
        height, width = coverage.shape
        x, y = scene.text.x, scene.text.y
        _blend(image, (slice(y, y + height), slice(x, x + width)), coverage, ink[:, None, None])
    for item in scene.objects:
        window, cover, u, v = _coverage(item)
        base = np.array(COLOR_RGB[item.color], dtype=np.float32)
        base += np.array(item.jitter, dtype=np.float32)
        across = np.float32(math.cos(item.shade)) * u + np.float32(math.sin(item.shade)) * v
        _blend(image, window, cover, base[:, None, None] * (1 + _SHADING * across))
    stream = NOISE_STREAM + STREAMS * frame
    noise = generator(scene.background.seed, stream).standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(_NOISE_SIGMA)
    image += noise
    image += np.float32(0.5)
    np.clip(image, 0, 255, out=image)
    return np.ascontiguousarray(image.astype(np.uint8).transpose(1, 2, 0))


def instance_map(scene: Scene) -> np.ndarray:
    """Index of the visible object per pixel, -1 for the background; [64, 64] int8."""
    ids = np.full((CANVAS, CANVAS), -1, dtype=np.int8)
    for index, item in enumerate(scene.objects):
        window, cover, _, _ = _coverage(item)
        ids[window][cover > 0.5] = index
    return ids


def visible_masks(scene: Scene) -> np.ndarray:
    """Pixels in which each object is seen; [objects, 64, 64] bool."""
    return instance_map(scene) == np.arange(len(scene.objects), dtype=np.int8)[:, None, None]


def amodal_masks(scene: Scene) -> np.ndarray:
    """Pixels of each whole object, hidden parts included; [objects, 64, 64] bool."""
    masks = np.zeros((len(scene.objects), CANVAS, CANVAS), dtype=bool)
    for mask, item in zip(masks, scene.objects, strict=True):
        window, cover, _, _ = _coverage(item)
        mask[window] = cover > 0.5
    return masks


def boxes(scene: Scene) -> np.ndarray:
    """Inclusive x0, y0, x1, y1 of each object; [objects, 4] int64."""
    return np.array([item.box for item in scene.objects], dtype=np.int64).reshape(-1, 4)


def distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of a shape, in radii; below 0 inside.

    u, v: offsets from its centre to the right and down, float32 in radii, which broadcast.
    """
    return _SHAPE[shape](u, v)


def _blend(image: np.ndarray, window: Window, cover: np.ndarray, color: np.ndarray) -> None:
    part = image[:, window[0], window[1]]
    part += cover * (color - part)


def _coverage(item: SceneObject) -> tuple[Window, np.ndarray, np.ndarray, np.ndarray]:
    """Window on the canvas; coverage [h, w]; pixel offsets from the centre in radii, unrotated."""
    reach = REACH * item.r * (1 + abs(item.rot)) + 1
    x0, x1 = max(math.ceil(item.x - reach), 0), min(math.floor(item.x + reach) + 1, CANVAS)
    y0, y1 = max(math.ceil(item.y - reach), 0), min(math.floor(item.y + reach) + 1, CANVAS)
    dx = (_AXIS[x0:x1] - np.float32(item.x)) / np.float32(item.r)
    dy = (_AXIS[y0:y1, None] - np.float32(item.y)) / np.float32(item.r)
    cos, sin = np.float32(math.cos(item.rot)), np.float32(math.sin(item.rot))
    cover = distance(item.shape, cos * dx + sin * dy, cos * dy - sin * dx)
    cover *= np.float32(-item.r)
    cover += np.float32(0.5)
    np.clip(cover, 0, 1, out=cover)
    return (slice(y0, y1), slice(x0, x1)), cover, dx, dy


def _norm(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v)


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _norm(u, v) - np.float32(0.95)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.84)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    w = v - np.float32(0.12)
    sides = np.float32(0.866) * np.abs(u) - np.float32(0.5) * w
    return np.maximum(w, sides) - np.float32(0.62)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Fold the plane into the half sector of one tip, then measure to its straight edge.
    up, x = -v, np.abs(u)
    for side in (1, -1):
        kx, ky = np.float32(side * math.cos(math.pi / 5)), np.float32(-math.sin(math.pi / 5))
        twice = 2 * np.maximum(kx * x + ky * up, 0)
        x, up = x - twice * kx, up - twice * ky
    x = np.abs(x)
    tip, inner = 1.1, 0.48
    ex, ey = inner * math.sin(math.pi / 5), inner * math.cos(math.pi / 5) - tip
    length = math.hypot(ex, ey)
    return np.float32(-ey / length) * x + np.float32(ex / length) * (up - np.float32(tip))


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    side = np.abs(u)
    lobes = _norm(side - np.float32(0.45), v + np.float32(0.40)) - np.float32(0.52)
    wedge = np.float32(0.78) * side + np.float32(0.62) * (v + np.float32(0.05)) - np.float32(0.56)
    # Above this line the lobes alone bound the heart.
    return np.minimum(lobes, np.maximum(wedge, np.float32(-0.30) - v))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    long, short = np.maximum(u, v), np.minimum(u, v)
    return np.maximum(long - np.float32(0.95), short - np.float32(0.32))


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(_norm(u, v) - np.float32(0.68)) - np.float32(0.27)


def _moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    disc = _norm(u, v) - np.float32(0.98)
    bite = np.float32(0.80) - _norm(u - np.float32(0.5), v + np.float32(0.1))
    return np.maximum(disc, bite)


_SHAPE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
}


def _background(background: Background) -> np.ndarray:
    """Colour planes [3, 64, 64] float32."""
    rng = generator(background.seed, TEXTURE_STREAM)
    hue = np.array(HUE_RGB[background.hue], dtype=np.float32)
    hue += _HUE_SIGMA * rng.standard_normal(3, dtype=np.float32)
    return hue[:, None, None] * (_TEXTURE[background.texture](rng) * _VIGNETTE)


def _plain(rng: np.random.Generator) -> np.ndarray:
    return np.ones((CANVAS, CANVAS), dtype=np.float32)


def _gradient(rng: np.random.Generator) -> np.ndarray:
    along = _along(rng.random() * 2 * math.pi)
    return 1 + np.float32(0.28 / 45) * np.clip(along, -45, 45)


def _cloudy(rng: np.random.Generator) -> np.ndarray:
    coarse = _value_noise(rng.random((5, 5), dtype=np.float32))
    fine = _value_noise(rng.random((11, 11), dtype=np.float32))
    return np.float32(0.78) + np.float32(0.30) * coarse + np.float32(0.15) * fine


def _striped(rng: np.random.Generator) -> np.ndarray:
    along = _along(rng.random() * math.pi)
    period = np.float32(6 + 5 * rng.random())
    phase = along / period + np.float32(rng.random())
    wave = np.abs(phase - np.floor(phase) - np.float32(0.5)) - np.float32(0.25)
    # Distance to the nearest edge in px, so stripes are anti-aliased as shapes are.
    return 1 + np.float32(0.11) * np.clip(2 * wave * period, -1, 1)


def _checkered(rng: np.random.Generator) -> np.ndarray:
    cell = np.float32(6 + 4 * rng.random())
    columns = np.floor((_AXIS + cell * np.float32(rng.random())) / cell)
    rows = np.floor((_AXIS + cell * np.float32(rng.random())) / cell)
    odd = (rows[:, None] + columns) % 2
    return np.float32(0.89) + np.float32(0.22) * odd


_TEXTURE: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "plain": _plain,
    "gradient": _gradient,
    "cloudy": _cloudy,
    "striped": _striped,
    "checkered": _checkered,
}


def _along(angle: float) -> np.ndarray:
    """Signed px from the canvas centre along a direction; [64, 64]."""
    return np.float32(math.cos(angle)) * _FROM_CENTER + (
        np.float32(math.sin(angle)) * _FROM_CENTER[:, None]
    )


@cache
def _taps(knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Catmull-Rom neighbours and weights of each px on `knots` knots; [64, 4] each."""
    position = np.arange(CANVAS) * (knots - 1) / (CANVAS - 1)
    start = np.minimum(np.floor(position).astype(np.int64), knots - 2)
    t = position - start
    weights = np.stack(
        [
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ],
        axis=1,
    ).astype(np.float32)
    neighbours = np.clip(start[:, None] + np.arange(-1, 3), 0, knots - 1)
    return neighbours, weights


def _value_noise(lattice: np.ndarray) -> np.ndarray:
    """Bicubic interpolation of a square lattice to [64, 64], summed in a fixed order."""
    neighbours, weights = _taps(lattice.shape[0])
    rows = weights[:, 0, None] * lattice[neighbours[:, 0]]
    for tap in range(1, 4):
        rows += weights[:, tap, None] * lattice[neighbours[:, tap]]
    noise = weights[:, 0] * rows[:, neighbours[:, 0]]
    for tap in range(1, 4):
        noise += weights[:, tap] * rows[:, neighbours[:, tap]]
    return noise
