"""Draw many scenes, and their motion, at once on any device: `scene.sample_scene` and
`motion.sample_clip` for tensors.

The frequencies are the same; the scenes are others, since the random numbers come from torch. They
are a pure function of the generator's state and its kind of device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_recipes.nano.world.many import WRITINGS, Scenes, tables
from ming_recipes.nano.world.motion import FRAMES, MOVERS, SPEED
from ming_recipes.nano.world.motion import TRIES as MOTION_TRIES
from ming_recipes.nano.world.render import ANGLES, COARSE, FINE, HUE_SIGMA, PERIODS, Drawn
from ming_recipes.nano.world.scene import (
    COUNT_WEIGHTS,
    JITTER,
    MAX_OBJECTS,
    MIN_DISTANCE,
    REACH,
    REPEAT_PROBABILITY,
    SIZE_WEIGHTS,
    TEXT_PROBABILITY,
    TILT,
    TRIES,
)
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    DIRECTIONS,
    HELD_OUT,
    HUES,
    SHAPES,
    SIZE_RADIUS,
    TEXT_DIGITS,
    TEXT_LETTERS,
    TEXTURES,
)

_AT_ONCE = 25  # places tried together; nearly always one of them is free
_REDRAWS = 16  # of pairs that are held out, a tenth of all


class Lots:
    """Draws from a generator of torch on its device."""

    def __init__(self, rng: torch.Generator) -> None:
        self.rng, self.device = rng, rng.device

    def uniform(self, *size: int) -> Tensor:
        """[*size] float32 in 0..1, without 1."""
        return torch.rand(size, generator=self.rng, device=self.device)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.rng, device=self.device)

    def below(self, limit: int, *size: int) -> Tensor:
        """[*size] int64 in 0..limit, without the limit."""
        return torch.randint(limit, size, generator=self.rng, device=self.device)

    def weighted(self, weights: tuple[float, ...], *size: int) -> Tensor:
        """[*size] int64: indices, as often as their weights say."""
        ends = torch.tensor(weights, device=self.device).cumsum(0)
        point = self.uniform(*size) * ends[-1]
        return torch.bucketize(point, ends[:-1], right=True)

    def table(self, *values: float) -> Tensor:
        return torch.tensor(values, device=self.device)


def draw_scenes(
    count: int,
    rng: torch.Generator,
    split: str = "train",
    max_objects: int = MAX_OBJECTS,
    text_probability: float = TEXT_PROBABILITY,
) -> Scenes:
    """`count` scenes on the device of the generator. Only "compositional" holds held-out
    colour-shape pairs, and always one."""
    if not 1 <= max_objects <= MAX_OBJECTS:
        raise BadConfig(f"max_objects is {max_objects}; choose 1 to {MAX_OBJECTS}")
    lots = Lots(rng)
    hue, texture = lots.below(len(HUES), count), lots.below(len(TEXTURES), count)
    writing, left, top = _writings(lots, count, text_probability)
    wanted = 1 + lots.weighted(COUNT_WEIGHTS[:max_objects], count)
    color, shape = _names(lots, count, split == "compositional")
    size = lots.weighted(SIZE_WEIGHTS, count, MAX_OBJECTS)
    least, most = (lots.table(*ends) for ends in zip(*SIZE_RADIUS.values(), strict=True))
    radius = least[size] + lots.uniform(count, MAX_OBJECTS) * (most - least)[size]
    radius = _rounded(radius, 2)
    x, y, placed = _places(lots, radius, wanted, writing, left, top)
    there = torch.arange(MAX_OBJECTS, device=rng.device) < placed[:, None]

    def own(values: Tensor) -> Tensor:
        return torch.where(there if values.dim() == 2 else there[..., None], values, 0)

    turned, lit = lots.uniform(count, MAX_OBJECTS), lots.uniform(count, MAX_OBJECTS)
    return Scenes(
        count=placed,
        shape=own(shape),
        color=own(color),
        size=own(size),
        radius=own(radius),
        x=own(x),
        y=own(y),
        rot=own(_rounded((2 * turned - 1) * TILT, 3)),
        shade=own(_rounded(lit * 2 * math.pi, 3)),
        jitter=own(_rounded(lots.normal(count, MAX_OBJECTS, 3) * JITTER, 1)),
        hue=hue,
        texture=texture,
        chance=_chance(lots, texture),
        writing=writing,
        writing_x=left,
        writing_y=top,
    )


def draw_motion(scenes: Scenes, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Set up to two objects of each scene in motion; their centres stay on the canvas.

    Returns px per frame to the right and down [N, 5] each, 0 at rest, and the frames [N].
    """
    lots = Lots(rng)
    count = len(scenes)
    frames = torch.tensor(FRAMES, device=rng.device)[lots.below(len(FRAMES), count)]
    movers = lots.weighted(MOVERS, count)
    there = scenes.there
    # A random order of the objects, those that are none at the end.
    order = (lots.uniform(count, MAX_OBJECTS) + ~there).argsort(-1).argsort(-1)
    moving = there & (order < movers[:, None])
    tries = count, MAX_OBJECTS, MOTION_TRIES
    ways = torch.tensor(list(DIRECTIONS), dtype=torch.float32, device=rng.device)
    way = ways[lots.below(len(DIRECTIONS), *tries)]
    speed = SPEED[0] + lots.uniform(*tries) * (SPEED[1] - SPEED[0])
    steps = way * _rounded(speed / way.norm(dim=-1), 2)[..., None]
    starts = torch.stack((scenes.x, scenes.y), -1)[:, :, None]
    ends = starts + steps * (frames - 1)[:, None, None, None]
    inside = ((ends >= 0) & (ends <= CANVAS - 1)).all(-1)
    first = inside.int().argmax(-1)[..., None, None].expand(-1, -1, 1, 2)
    taken = steps.gather(2, first)[:, :, 0] * (moving & inside.any(-1))[..., None]
    return taken[..., 0], taken[..., 1], frames


def _rounded(values: Tensor, decimals: int) -> Tensor:
    return values.round(decimals=decimals)


def _writings(lots: Lots, count: int, probability: float) -> tuple[Tensor, Tensor, Tensor]:
    """Index into WRITINGS, -1 for none, and the left and top px."""
    known = tables(lots.device)
    mixed = len(TEXT_LETTERS) * len(TEXT_DIGITS)
    value = torch.where(
        lots.uniform(count) < 0.5,
        lots.below(mixed, count),
        mixed + lots.below(len(WRITINGS) - mixed, count),
    )
    left, top = (
        1 + (lots.uniform(count) * (CANVAS - 1 - sides[value])).long()
        for sides in (known.wide, known.high)
    )
    there = lots.uniform(count) < probability
    return torch.where(there, value, -1), left * there, top * there


def _names(lots: Lots, count: int, compositional: bool) -> tuple[Tensor, Tensor]:
    """Indices of colours and shapes, [count, 5] each."""
    unseen = torch.zeros(len(COLORS), len(SHAPES), dtype=torch.bool)
    pairs = [(list(COLORS).index(color), list(SHAPES).index(shape)) for color, shape in HELD_OUT]
    for pair in pairs:
        unseen[pair] = not compositional
    unseen = unseen.to(lots.device)
    color, shape = lots.below(len(COLORS), count, 1), lots.below(len(SHAPES), count, 1)
    if compositional:
        held_out = torch.tensor(pairs, device=lots.device)[lots.below(len(pairs), count)]
        color, shape = held_out[:, :1], held_out[:, 1:]
    for nth in range(compositional, MAX_OBJECTS):
        own = _name(lots, color[:, :nth], shape[:, :nth], count)
        for _ in range(0 if compositional else _REDRAWS):
            again = _name(lots, color[:, :nth], shape[:, :nth], count)
            bad = unseen[own]
            own = torch.where(bad, again[0], own[0]), torch.where(bad, again[1], own[1])
        color, shape = (
            torch.cat((before[:, :nth], new[:, None]), 1)
            for before, new in zip((color, shape), own, strict=True)
        )
    return color, shape


def _name(lots: Lots, colors: Tensor, shapes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A colour and a shape [count]; each sometimes that of an object before."""
    found = []
    for names, before in ((COLORS, colors), (SHAPES, shapes)):
        own = lots.below(len(names), count)
        if before.shape[1]:
            which = lots.below(before.shape[1], count)[:, None]
            repeats = lots.uniform(count) < REPEAT_PROBABILITY
            own = torch.where(repeats, before.gather(1, which)[:, 0], own)
        found.append(own)
    return found[0], found[1]


def _places(
    lots: Lots, radius: Tensor, wanted: Tensor, writing: Tensor, left: Tensor, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres x, y [N, 5] of objects of the radii, and how many of the wanted found a place.

    A scene has TRIES tries for all of its objects.
    """
    known, last = tables(lots.device), CANVAS - 1
    x, y = torch.zeros_like(radius), torch.zeros_like(radius)
    written = writing.clamp(min=0)
    right, bottom = left + known.wide[written] - 1, top + known.high[written] - 1
    placed, tries = torch.zeros_like(wanted), torch.full_like(wanted, TRIES)
    for nth in range(int(wanted.max())):
        open_ = ((placed == nth) & (wanted > nth)).nonzero()[:, 0]
        while len(open_):
            r = radius[open_, nth, None]
            at_x, at_y = (
                _rounded(r + lots.uniform(len(open_), _AT_ONCE) * (last - 2 * r), 2)
                for _ in range(2)
            )
            dx, dy = (
                torch.maximum(low[open_, None] - at, at - high[open_, None]).clamp(min=0)
                for low, high, at in ((left, right, at_x), (top, bottom, at_y))
            )
            touches = (writing[open_, None] >= 0) & (dx.hypot(dy) < REACH * r + 1)
            far = torch.hypot(
                at_x[..., None] - x[open_, None, :nth], at_y[..., None] - y[open_, None, :nth]
            )
            near = far < MIN_DISTANCE * (r[..., None] + radius[open_, None, :nth])
            free = ~touches & ~near.any(-1)
            first = free.int().argmax(-1)
            good = free.any(-1) & (first < tries[open_])
            rows, column = open_[good], first[good]
            x[rows, nth], y[rows, nth] = at_x[good, column], at_y[good, column]
            placed[rows] += 1
            tries[rows] -= column + 1
            others = open_[~good]
            tries[others] -= _AT_ONCE
            open_ = others[tries[others] > 0]
    return x, y, placed


def _chance(lots: Lots, texture: Tensor) -> Drawn:
    """What else decides about the backgrounds, as `render.drawn`."""
    count, names = len(texture), tuple(TEXTURES)
    turn = lots.table(*(ANGLES.get(name, 0.0) for name in names))[texture]
    least, more = (
        lots.table(*(PERIODS.get(name, (0, 0))[end] for name in names))[texture] for end in (0, 1)
    )
    repeats, cloudy = least > 0, (texture == names.index("cloudy"))[:, None, None]
    angle = lots.uniform(count) * turn
    return Drawn(
        tint=HUE_SIGMA * lots.normal(count, 3),
        cos=angle.cos() * (turn > 0),
        sin=angle.sin(),
        size=least + more * lots.uniform(count),
        start=lots.uniform(count) * repeats,
        below=lots.uniform(count) * (texture == names.index("checkered")),
        coarse=lots.uniform(count, COARSE, COARSE) * cloudy,
        fine=lots.uniform(count, FINE, FINE) * cloudy,
    )
