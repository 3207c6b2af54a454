"""Many scenes at once as tensors on any device.

`lots.draw_scenes` draws them there and `paint` paints them there, so that a GPU does not wait for
its data. Both do for many scenes what `scene.sample_scene` and `render.render` do for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ming_recipes.nano.world.lettering import lettering
from ming_recipes.nano.world.render import (
    INK,
    NOISE_SIGMA,
    SHADING,
    Canvas,
    Drawn,
    distance,
    drawn,
    texture,
)
from ming_recipes.nano.world.scene import (
    MAX_OBJECTS,
    Background,
    RenderedText,
    Scene,
    SceneObject,
)
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLOR_RGB,
    COLORS,
    HUE_RGB,
    HUES,
    SHAPES,
    SIZES,
    TEXT_DIGITS,
    TEXT_LETTERS,
    TEXTURES,
)

WRITINGS: tuple[str, ...] = (
    *(letter + digit for letter in TEXT_LETTERS for digit in TEXT_DIGITS),
    *map(str, range(10, 100)),
)
"""All that is ever written into a picture."""

_SHAPES, _COLORS, _SIZES = tuple(SHAPES), tuple(COLORS), tuple(SIZES)
_HUES, _TEXTURES = tuple(HUES), tuple(TEXTURES)


@dataclass(frozen=True)
class Scenes:
    """N scenes of up to 5 objects, the first `count` of each row; what lies behind them is 0.

    count [N]; shape, color, size [N, 5]: int64 indices into the tables of the vocabulary; radius,
    x, y, rot, shade [N, 5], jitter [N, 5, 3]: float32 as in `SceneObject`; hue, texture [N]: int64
    indices; chance: what else decides about the backgrounds; writing [N]: index into WRITINGS, -1
    for none; writing_x, writing_y [N]: top left px of its ink.
    """

    count: Tensor
    shape: Tensor
    color: Tensor
    size: Tensor
    radius: Tensor
    x: Tensor
    y: Tensor
    rot: Tensor
    shade: Tensor
    jitter: Tensor
    hue: Tensor
    texture: Tensor
    chance: Drawn
    writing: Tensor
    writing_x: Tensor
    writing_y: Tensor

    def __len__(self) -> int:
        return len(self.count)

    def to(self, device: torch.device | str) -> Scenes:
        return _each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        return _each(self, lambda tensor: tensor[rows])

    @property
    def there(self) -> Tensor:
        """[N, 5] bool: where there is an object."""
        return torch.arange(MAX_OBJECTS, device=self.count.device) < self.count[:, None]

    def moved(self, right: Tensor, down: Tensor) -> Scenes:
        """The scenes after their objects went so many px, [N, 5] each."""
        return replace(self, x=self.x + right, y=self.y + down)

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Self:
        """The same scenes as tensors, with the backgrounds that `render` gives them."""

        def numbers(values: list[Any], kind: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=kind)

        def objects(read: Any, kind: torch.dtype, empty: Any = 0) -> Tensor:
            rows = [[read(item) for item in scene.objects] for scene in scenes]
            return numbers([row + [empty] * (MAX_OBJECTS - len(row)) for row in rows], kind)

        chances = [drawn(scene.background) for scene in scenes]
        written = [scene.text or RenderedText("", 0, 0) for scene in scenes]
        return cls(
            count=numbers([len(scene.objects) for scene in scenes], torch.int64),
            shape=objects(lambda item: _SHAPES.index(item.shape), torch.int64),
            color=objects(lambda item: _COLORS.index(item.color), torch.int64),
            size=objects(lambda item: _SIZES.index(item.size), torch.int64),
            radius=objects(lambda item: item.r, torch.float32),
            x=objects(lambda item: item.x, torch.float32),
            y=objects(lambda item: item.y, torch.float32),
            rot=objects(lambda item: item.rot, torch.float32),
            shade=objects(lambda item: item.shade, torch.float32),
            jitter=objects(lambda item: list(item.jitter), torch.float32, [0.0] * 3),
            hue=numbers([_HUES.index(scene.background.hue) for scene in scenes], torch.int64),
            texture=numbers(
                [_TEXTURES.index(scene.background.texture) for scene in scenes], torch.int64
            ),
            chance=Drawn(
                **{
                    field.name: torch.from_numpy(
                        np.stack([getattr(chance, field.name) for chance in chances])
                    )
                    for field in fields(Drawn)
                }
            ),
            writing=numbers(
                [WRITINGS.index(text.value) if text.value else -1 for text in written], torch.int64
            ),
            writing_x=numbers([text.x for text in written], torch.int64),
            writing_y=numbers([text.y for text in written], torch.int64),
        )

    def scenes(self) -> list[Scene]:
        """The same as objects, to ask questions about. The seed of a background, which would be
        other noise and texture than those here, is 0."""
        found = []
        own = _each(self, lambda tensor: tensor.tolist())
        for n, count in enumerate(own.count):
            objects = tuple(
                SceneObject(
                    shape=_SHAPES[own.shape[n][i]],
                    color=_COLORS[own.color[n][i]],
                    size=_SIZES[own.size[n][i]],
                    r=round(own.radius[n][i], 2),
                    x=round(own.x[n][i], 2),
                    y=round(own.y[n][i], 2),
                    rot=round(own.rot[n][i], 3),
                    jitter=tuple(round(value, 1) for value in own.jitter[n][i]),
                    shade=round(own.shade[n][i], 3),
                )
                for i in range(count)
            )
            written = own.writing[n]
            text = (
                RenderedText(WRITINGS[written], own.writing_x[n], own.writing_y[n])
                if written >= 0
                else None
            )
            ground = Background(_HUES[own.hue[n]], _TEXTURES[own.texture[n]], seed=0)
            found.append(Scene(objects, ground, text))
        return found


def _each(value: Any, change: Any) -> Any:
    """A dataclass of tensors, also nested, with each of them changed."""
    if isinstance(value, Tensor):
        return change(value)
    names = [field.name for field in fields(value)]
    return replace(value, **{name: _each(getattr(value, name), change) for name in names})


def paint(scenes: Scenes, noise: Tensor) -> Tensor:
    """Pictures [N, 3, 64, 64] uint8. noise [N, 3, 64, 64]: of the sensor, of mean 0 and spread 1.

    They are those of `render` but for rounding: a value in a thousand differs, by 1.
    """
    device = scenes.count.device
    canvas, known = _canvas(device), tables(device)
    light = torch.empty(len(scenes), CANVAS, CANVAS, device=device)
    for index, name in enumerate(_TEXTURES):
        at = (scenes.texture == index).nonzero()[:, 0]
        chance = _each(scenes.chance, lambda tensor, at=at: tensor[at])
        wide = {key: getattr(chance, key)[:, None, None] for key in _NUMBERS}
        light[at] = texture(name, replace(chance, **wide), canvas)
    hue = known.hues[scenes.hue] + scenes.chance.tint
    image = hue[:, :, None, None] * (light * canvas.vignette)[:, None]
    _write(image, scenes, known)
    _lay(image, scenes, canvas, known)
    image += NOISE_SIGMA * noise + 0.5
    return image.clamp_(0, 255).to(torch.uint8)


_NUMBERS = ("cos", "sin", "size", "start", "below")


@dataclass(frozen=True)
class Tables:
    """colors, hues [K, 3]: RGB. ink [K, 3]: by hue. letters [W, H, W]: ink of WRITINGS in 0..1, at
    the top left of the largest; high, wide [W]: px of each. centers [W, 2, 2]: x, y of characters.
    """

    colors: Tensor
    hues: Tensor
    ink: Tensor
    letters: Tensor
    high: Tensor
    wide: Tensor
    centers: Tensor


@cache
def _canvas(device: torch.device) -> Canvas:
    return Canvas.of(torch, lambda array: torch.from_numpy(array.copy()).to(device))


@cache
def tables(device: torch.device) -> Tables:
    """What the vocabulary looks like, once for each device."""
    found = [lettering(value) for value in WRITINGS]
    high, wide = np.array([one.coverage.shape for one in found]).T
    letters = torch.zeros(len(found), high.max(), wide.max())
    for row, one in zip(letters, found, strict=True):
        height, width = one.coverage.shape
        row[:height, :width] = torch.from_numpy(one.coverage.copy())
    on_host = Tables(
        colors=torch.tensor(list(COLOR_RGB.values()), dtype=torch.float32),
        hues=torch.tensor(list(HUE_RGB.values()), dtype=torch.float32),
        ink=torch.tensor([INK[hue == "night"] for hue in _HUES]),
        letters=letters,
        high=torch.from_numpy(high),
        wide=torch.from_numpy(wide),
        centers=torch.tensor([one.centers for one in found], dtype=torch.float32),
    )
    return _each(on_host, lambda tensor: tensor.to(device))


def _write(image: Tensor, scenes: Scenes, known: Tables) -> None:
    """Put the writings into pictures [N, 3, 64, 64]."""
    at = (scenes.writing >= 0).nonzero()[:, 0]
    value = scenes.writing[at]
    places = torch.arange(CANVAS, device=image.device)
    rows, columns = places - scenes.writing_y[at, None], places - scenes.writing_x[at, None]
    height, width = known.letters.shape[1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None
    ]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    cover = known.letters[value[:, None, None], rows[:, :, None], columns[:, None]] * inside
    ink = known.ink[scenes.hue[at]][:, :, None, None]
    image[at] = torch.lerp(image[at], ink.expand_as(image[at]), cover[:, None])


def _lay(image: Tensor, scenes: Scenes, canvas: Canvas, known: Tables) -> None:
    """Lay the objects onto pictures [N, 3, 64, 64], later ones nearer."""
    picture, slot = scenes.there.nonzero(as_tuple=True)

    def own(values: Tensor) -> Tensor:
        return values[picture, slot][:, None, None]

    radius, rot, shade = own(scenes.radius), own(scenes.rot), own(scenes.shade)
    dx, dy = (canvas.right - own(scenes.x)) / radius, (canvas.down - own(scenes.y)) / radius
    u, v = rot.cos() * dx + rot.sin() * dy, rot.cos() * dy - rot.sin() * dx
    cover = torch.empty_like(u)
    shapes = scenes.shape[picture, slot]
    for index, name in enumerate(_SHAPES):
        at = (shapes == index).nonzero()[:, 0]
        cover[at] = distance(name, u[at], v[at], torch)
    cover = (0.5 - radius * cover).clamp_(0, 1)
    base = known.colors[scenes.color[picture, slot]] + scenes.jitter[picture, slot]
    across = 1 + SHADING * (shade.cos() * dx + shade.sin() * dy)
    for nth in range(MAX_OBJECTS):
        at = (slot == nth).nonzero()[:, 0]
        color = base[at][:, :, None, None] * across[at][:, None]
        below = image[picture[at]]
        image[picture[at]] = torch.lerp(below, color, cover[at][:, None])


def patches(pictures: Tensor, side: int, merge: int, depth: int) -> Tensor:
    """Pictures [N, 3, H, W] of N stills, or [N, depth, 3, H, W] of frames -> rows [N*h*w, C] of
    patches as `patchify` orders them, still uint8. A still fills all of the depth."""
    if pictures.dim() == 4:
        pictures = pictures[:, None].expand(-1, depth, -1, -1, -1)
    blocks = pictures.unflatten(-1, (-1, merge, side)).unflatten(3, (-1, merge, side))
    rows = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return rows.reshape(-1, 3 * depth * side * side)
