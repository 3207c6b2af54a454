"""What an encoder is: raw media of one modality in, backbone embeddings out.

An encoder is a plain `nn.Module` whose tensor names are the released top-level names
(`vision.…`, `linear_proj.…`), registered by the `model_type` of its section in config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from ming_core.media import Media


@dataclass(frozen=True)
class Features:
    """Preprocessed media of one modality, items concatenated along the first axis.

    tensors: inputs of the encoder's forward, e.g. `pixel_values` [patches, C*t*p*p].
    grid: [items, 3] int64 (time, height, width) in patches before merging; None without a grid.
    tokens: how many placeholder tokens each item expands to.
    seconds: for each item the time of every temporal patch of a video, () for a still or a sound;
    an item is a video if and only if its entry is not empty. An empty list: no item is a video.
    frames_per_patch: frames of a video in each temporal patch.
    """

    modality: str
    tensors: dict[str, Tensor]
    grid: Tensor | None
    tokens: list[int]
    seconds: list[tuple[float, ...]] = field(default_factory=list)
    frames_per_patch: int = 1

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Features:
        """Moved to `device`; floating-point tensors are cast to `dtype`."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, dtype if x.is_floating_point() else None)

        grid = None if self.grid is None else self.grid.to(device)
        return replace(self, tensors={k: move(v) for k, v in self.tensors.items()}, grid=grid)


def by_modality(features: Sequence[Features]) -> list[Features]:
    """Inputs of many media as one joined input per encoder, items of a modality in order."""
    groups: dict[str, list[Features]] = {}
    for item in features:
        groups.setdefault(item.modality, []).append(item)
    return [_join(items) for items in groups.values()]


def _join(features: list[Features]) -> Features:
    first = features[0]
    grids = [item.grid for item in features if item.grid is not None]
    return Features(
        modality=first.modality,
        tensors={key: torch.cat([f.tensors[key] for f in features]) for key in first.tensors},
        grid=torch.cat(grids) if grids else None,
        tokens=[count for item in features for count in item.tokens],
        seconds=[times for f in features for times in item_seconds(f)],
        frames_per_patch=first.frames_per_patch,
    )


def item_seconds(features: Features) -> list[tuple[float, ...]]:
    """`seconds` with an entry for every item."""
    return features.seconds or [()] * len(features.tokens)


def split_grids(features: Sequence[Features]) -> tuple[Tensor | None, Tensor | None]:
    """Grids [n, 3] of all stills and of all videos, each in reading order; None if there is none.

    This is how `rope_index` takes them.
    """
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for item in features:
        if item.grid is not None:
            for row, seconds in zip(item.grid, item_seconds(item), strict=True):
                rows[bool(seconds)].append(row)
    stills, videos = (torch.stack(kind) if kind else None for kind in rows)
    return stills, videos


class Processor(Protocol):
    """Turns media parts into `Features`; owns no weights and needs no device."""

    def __call__(self, parts: Sequence[Media]) -> Features: ...


@dataclass(frozen=True)
class Taken:
    """What a medium takes in a prompt.

    Attributes:
        part: The medium.
        features: What its processor made of it; the tensors may have been dropped.
        step: Most tokens from the start of one run of its patches to the next, with the timestamp
            between them. None if all patches are one run.
    """

    part: Media
    features: Features
    step: int | None


@dataclass(frozen=True)
class Smaller:
    """How media can use fewer tokens.

    Attributes:
        parts: What to put in the place of a medium, for all that can be smaller. Empty if nothing
            that would be small enough is known.
        advice: What the user should do if the prompt fits then.
        otherwise: What the user should do if it does not.
    """

    parts: Mapping[Media, Media]
    advice: str
    otherwise: str


@runtime_checkable
class Shrinks(Protocol):
    """A processor that can make its media smaller when a prompt does not fit into the context."""

    def smaller(self, media: Sequence[Taken], surplus: int) -> Smaller | None:
        """How to use at least `surplus` tokens less, without opening anything.

        media: all of this modality in a prompt. None if none of them can be smaller. The caller
        reads what is proposed and asks again if that was not enough.
        """
        ...


class Encoder(Protocol):
    """Structural type of every encoder; implementations derive from `nn.Module` only.

    A class with `needs_preprocessor = True` makes a checkpoint without preprocessor_config.json an
    error.
    """

    modality: str
    processor: Processor

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """Build from a whole config.json and preprocessor_config.json; works on `meta`."""
        ...

    def __call__(self, features: Features) -> Tensor:
        """Embeddings [sum(tokens), hidden_size], L2-normalised where the release does so."""
        ...
