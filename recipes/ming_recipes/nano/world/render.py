"""Pixels and exact label maps of a scene.

Analytic anti-aliasing: the coverage of a pixel is clip(0.5 - d, 0, 1), d being the signed distance
in px. Only basic arithmetic and square roots act on arrays, so that every machine that keeps to
IEEE 754 draws the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

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

NOISE_SIGMA = 3.5
HUE_SIGMA = 5.0
SHADING = 0.10
INK = {True: (238.0, 238.0, 240.0), False: (22.0, 22.0, 26.0)}

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
        ink = np.array(INK[scene.background.hue == "night"], dtype=np.float32)
        coverage = lettering(scene.text.value).coverage
        height, width = coverage.shape
        x, y = scene.text.x, scene.text.y
        _blend(image, (slice(y, y + height), slice(x, x + width)), coverage, ink[:, None, None])
    for item in scene.objects:
        window, cover, u, v = _coverage(item)
        base = np.array(COLOR_RGB[item.color], dtype=np.float32)
        base += np.array(item.jitter, dtype=np.float32)
        across = np.float32(math.cos(item.shade)) * u + np.float32(math.sin(item.shade)) * v
        _blend(image, window, cover, base[:, None, None] * (1 + SHADING * across))
    image += np.float32(NOISE_SIGMA) * noise(scene.background, frame)
    image += np.float32(0.5)
    np.clip(image, 0, 255, out=image)
    return np.ascontiguousarray(image.astype(np.uint8).transpose(1, 2, 0))


def noise(background: Background, frame: int = 0) -> np.ndarray:
    """The noise of the sensor in a frame before it is scaled, [3, 64, 64] float32."""
    rng = generator(background.seed, NOISE_STREAM + STREAMS * frame)
    return rng.standard_normal((3, CANVAS, CANVAS), dtype=np.float32)


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


def distance(shape: str, u: Any, v: Any, library: Any = np) -> Any:
    """Signed distance to the outline of a shape, in radii; below 0 inside.

    u, v: offsets from its centre to the right and down, float32 in radii, which broadcast: arrays
    of `library`, which is numpy or torch.
    """
    return _SHAPE[shape](library, u, v)


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


def _norm(xp: Any, u: Any, v: Any) -> Any:
    return xp.sqrt(u * u + v * v)


def _circle(xp: Any, u: Any, v: Any) -> Any:
    return _norm(xp, u, v) - 0.95


def _square(xp: Any, u: Any, v: Any) -> Any:
    return xp.maximum(xp.abs(u), xp.abs(v)) - 0.84


def _triangle(xp: Any, u: Any, v: Any) -> Any:
    w = v - 0.12
    sides = 0.866 * xp.abs(u) - 0.5 * w
    return xp.maximum(w, sides) - 0.62


def _star(xp: Any, u: Any, v: Any) -> Any:
    # Fold the plane into the half sector of one tip, then measure to its straight edge.
    up, x = -v, xp.abs(u)
    for side in (1, -1):
        kx, ky = side * math.cos(math.pi / 5), -math.sin(math.pi / 5)
        twice = 2 * xp.clip(kx * x + ky * up, 0, None)
        x, up = x - twice * kx, up - twice * ky
    x = xp.abs(x)
    tip, inner = 1.1, 0.48
    ex, ey = inner * math.sin(math.pi / 5), inner * math.cos(math.pi / 5) - tip
    length = math.hypot(ex, ey)
    return -ey / length * x + ex / length * (up - tip)


def _heart(xp: Any, u: Any, v: Any) -> Any:
    side = xp.abs(u)
    lobes = _norm(xp, side - 0.45, v + 0.40) - 0.52
    wedge = 0.78 * side + 0.62 * (v + 0.05) - 0.56
    # Above this line the lobes alone bound the heart.
    return xp.minimum(lobes, xp.maximum(wedge, -0.30 - v))


def _cross(xp: Any, u: Any, v: Any) -> Any:
    u, v = xp.abs(u), xp.abs(v)
    long, short = xp.maximum(u, v), xp.minimum(u, v)
    return xp.maximum(long - 0.95, short - 0.32)


def _ring(xp: Any, u: Any, v: Any) -> Any:
    return xp.abs(_norm(xp, u, v) - 0.68) - 0.27


def _moon(xp: Any, u: Any, v: Any) -> Any:
    disc = _norm(xp, u, v) - 0.98
    bite = 0.80 - _norm(xp, u - 0.5, v + 0.1)
    return xp.maximum(disc, bite)


_SHAPE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
}


@dataclass(frozen=True)
class Drawn:
    """What chance decides about a background; numbers that a texture does not use are 0.

    tint [3] float32: added to the RGB of the hue. cos, sin: direction of a gradient or of stripes.
    size: period of stripes or side of a cell in px. start, below: shift of stripes, or of cells to
    the right and down, in multiples of `size`. coarse [5, 5], fine [11, 11] float32: the knots of
    clouds.

    For many backgrounds at once, all are tensors with an axis [N] in front.
    """

    tint: Any
    cos: Any
    sin: Any
    size: Any
    start: Any
    below: Any
    coarse: Any
    fine: Any


COARSE, FINE = 5, 11
"""Knots of clouds on each side of the canvas."""

ANGLES = {"gradient": 2 * math.pi, "striped": math.pi}
"""Textures with a direction, and the range of its angle in rad."""

PERIODS = {"striped": (6, 5), "checkered": (6, 4)}
"""Textures that repeat: smallest size in px, and by how much the largest is more."""


def drawn(background: Background) -> Drawn:
    """The draws behind the seed of a background."""
    rng = generator(background.seed, TEXTURE_STREAM)
    texture, none = background.texture, np.float32(0)
    tint = HUE_SIGMA * rng.standard_normal(3, dtype=np.float32)
    cos = sin = size = start = below = none
    if texture in ANGLES:
        angle = rng.random() * ANGLES[texture]
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    if texture in PERIODS:
        least, more = PERIODS[texture]
        size, start = np.float32(least + more * rng.random()), np.float32(rng.random())
    if texture == "checkered":
        below = np.float32(rng.random())
    clouds = (
        rng.random((knots, knots), dtype=np.float32)
        if texture == "cloudy"
        else np.zeros((knots, knots), np.float32)
        for knots in (COARSE, FINE)
    )
    return Drawn(tint, cos, sin, size, start, below, *clouds)


@dataclass(frozen=True)
class Canvas:
    """The places of the pixels, in arrays of a library, numpy or torch.

    right [64], down [64, 1]: of pixels, float32. taps: by number of knots, the neighbours [64, 4]
    of each pixel and their weights. vignette [64, 64].
    """

    library: Any
    right: Any
    down: Any
    vignette: Any
    taps: Mapping[int, tuple[Any, Any]]

    @classmethod
    def of(cls, library: Any, convert: Callable[[np.ndarray], Any] = lambda array: array) -> Canvas:
        """convert: makes an array of the library of one of numpy."""
        right, down = convert(_AXIS), convert(_AXIS[:, None])
        taps = {
            knots: tuple(convert(part) for part in catmull_rom(knots)) for knots in (COARSE, FINE)
        }
        return cls(library, right, down, convert(_VIGNETTE), taps)


def _background(background: Background) -> np.ndarray:
    """Colour planes [3, 64, 64] float32."""
    chance = drawn(background)
    hue = np.array(HUE_RGB[background.hue], dtype=np.float32)
    hue += chance.tint
    light = texture(background.texture, chance, _canvas())
    return hue[:, None, None] * (light * _VIGNETTE)


@cache
def _canvas() -> Canvas:
    return Canvas.of(np)


def texture(name: str, chance: Drawn, canvas: Canvas) -> Any:
    """The light of a background in multiples of its hue, [..., 64, 64] float32."""
    return _TEXTURE[name](chance, canvas)


def _plain(chance: Drawn, canvas: Canvas) -> Any:
    return chance.size + canvas.library.ones_like(canvas.vignette)  # of which the size is 0


def _gradient(chance: Drawn, canvas: Canvas) -> Any:
    return 1 + 0.28 / 45 * canvas.library.clip(_along(chance, canvas), -45, 45)


def _cloudy(chance: Drawn, canvas: Canvas) -> Any:
    coarse, fine = (_value_noise(knots, canvas) for knots in (chance.coarse, chance.fine))
    return 0.78 + 0.30 * coarse + 0.15 * fine


def _striped(chance: Drawn, canvas: Canvas) -> Any:
    library = canvas.library
    phase = _along(chance, canvas) / chance.size + chance.start
    wave = library.abs(phase - library.floor(phase) - 0.5) - 0.25
    # Distance to the nearest edge in px, so stripes are anti-aliased as shapes are.
    return 1 + 0.11 * library.clip(2 * wave * chance.size, -1, 1)


def _checkered(chance: Drawn, canvas: Canvas) -> Any:
    columns, rows = (
        canvas.library.floor((places + chance.size * shift) / chance.size)
        for places, shift in ((canvas.right, chance.start), (canvas.down, chance.below))
    )
    return 0.89 + 0.22 * ((rows + columns) % 2)


_TEXTURE: dict[str, Callable[[Drawn, Canvas], Any]] = {
    "plain": _plain,
    "gradient": _gradient,
    "cloudy": _cloudy,
    "striped": _striped,
    "checkered": _checkered,
}


def _along(chance: Drawn, canvas: Canvas) -> Any:
    """Signed px from the canvas centre along a direction; [..., 64, 64]."""
    middle = (CANVAS - 1) / 2
    return chance.cos * (canvas.right - middle) + chance.sin * (canvas.down - middle)


@cache
def catmull_rom(knots: int) -> tuple[np.ndarray, np.ndarray]:
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


def _value_noise(lattice: Any, canvas: Canvas) -> Any:
    """Bicubic interpolation of a square lattice [..., k, k] to [..., 64, 64], summed in a fixed
    order."""
    neighbours, weights = canvas.taps[lattice.shape[-1]]
    rows = weights[:, 0, None] * lattice[..., neighbours[:, 0], :]
    for tap in range(1, 4):
        rows += weights[:, tap, None] * lattice[..., neighbours[:, tap], :]
    noise = weights[:, 0] * rows[..., neighbours[:, 0]]
    for tap in range(1, 4):
        noise += weights[:, tap] * rows[..., neighbours[:, tap]]
    return noise
