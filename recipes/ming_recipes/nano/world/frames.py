"""Wide and tall pictures: a part of a square one, and where its objects lie once it is square.

nano sees squares. The image processor stretches other pictures half of the way and fills up the
rest (`ming_vision.square`), so objects become taller or wider than they are in square pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ming_recipes.nano.world.lettering import lettering
from ming_recipes.nano.world.scene import RenderedText, Scene, SceneObject, pick
from ming_recipes.nano.world.vocabulary import CANVAS
from ming_vision.square import Place, Square

RATIOS = (9 / 16, 2 / 3, 3 / 4)
"""Shorter to longer side: of films and screens, of photos."""

STRETCH = 0.5
"""`square_stretch` of nano's preprocessor_config.json."""

_TRIES = 16
_CORNER = 1.2  # the farthest any shape reaches from its centre, in radii


@dataclass(frozen=True, slots=True)
class StretchedObject(SceneObject):
    """An object of a picture that was made square: `across` times as wide, `down` times as high."""

    across: float = 1.0
    down: float = 1.0

    @property
    def box(self) -> tuple[int, int, int, int]:
        wide, high = self.r * self.across, self.r * self.down
        edges = (self.x - wide, self.y - high, self.x + wide, self.y + high)
        x0, y0, x1, y1 = (min(max(int(np.floor(edge + 0.5)), 0), CANVAS - 1) for edge in edges)
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Part:
    """A part of the canvas: its top left px, height and width."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The part of a picture [..., 64, 64, 3]."""
        rows, columns = (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )
        return picture[..., rows, columns, :]

    def holds(self, x0: float, y0: float, x1: float, y1: float) -> bool | None:
        """Whether something lies inside; None if it is cut."""
        inside = (
            x0 >= self.left
            and y0 >= self.top
            and x1 <= self.left + self.width - 1
            and y1 <= self.top + self.height - 1
        )
        beside = (
            x1 < self.left
            or y1 < self.top
            or x0 > self.left + self.width - 1
            or y0 > self.top + self.height - 1
        )
        return True if inside else False if beside else None

    @property
    def place(self) -> Place:
        """Where the part lies on the square that the model sees."""
        return Square(STRETCH).place(self.height, self.width, CANVAS)

    def on_square(self, x: float, y: float) -> tuple[float, float]:
        """Px of the canvas -> px of the square."""
        across, down = self.place.to_canvas(
            (x - self.left + 0.5) / self.width, (y - self.top + 0.5) / self.height
        )
        return across * CANVAS - 0.5, down * CANVAS - 0.5


def cut(scene: Scene, rng: np.random.Generator) -> tuple[Part, Scene] | None:
    """A wide or tall part of a picture that cuts through nothing and shows at least one object.

    Returns it with what it shows, as it lies on the square. None if no such part is found.
    """
    for _ in range(_TRIES):
        short = round(CANVAS * pick(rng, RATIOS))
        start = int(rng.random() * (CANVAS - short + 1))
        wide = rng.random() < 0.5
        part = Part(start, 0, short, CANVAS) if wide else Part(0, start, CANVAS, short)
        inside = [part.holds(*_extent(item)) for item in scene.objects]
        text, written = scene.text, False
        if text is not None:
            height, width = lettering(text.value).coverage.shape
            written = part.holds(text.x, text.y, text.x + width - 1, text.y + height - 1)
        if None in inside or written is None or not any(inside):
            continue
        objects = tuple(
            _stretched(item, part)
            for item, shown in zip(scene.objects, inside, strict=True)
            if shown
        )
        return part, Scene(objects, scene.background, _moved(text, part) if written else None)
    return None


def _extent(item: SceneObject) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of an object, on the canvas."""
    reach = item.r * _CORNER + 1
    x0, y0, x1, y1 = item.x - reach, item.y - reach, item.x + reach, item.y + reach
    return max(x0, 0), max(y0, 0), min(x1, CANVAS - 1), min(y1, CANVAS - 1)


def _stretched(item: SceneObject, part: Part) -> SceneObject:
    x, y = part.on_square(item.x, item.y)
    across, down = part.place.width * CANVAS / part.width, part.place.height * CANVAS / part.height
    return StretchedObject(
        item.shape,
        item.color,
        item.size,
        item.r,
        x,
        y,
        item.rot,
        item.jitter,
        item.shade,
        across,
        down,
    )


def _moved(text: RenderedText | None, part: Part) -> RenderedText:
    """The text where its middle lies on the square."""
    assert text is not None
    height, width = lettering(text.value).coverage.shape
    x, y = part.on_square(text.x + (width - 1) / 2, text.y + (height - 1) / 2)
    return replace(text, x=round(x - (width - 1) / 2), y=round(y - (height - 1) / 2))
