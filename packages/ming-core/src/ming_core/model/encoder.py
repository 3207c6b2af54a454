"""What an encoder is: it turns media of one modality into embeddings of the backbone.

An encoder is a plain `nn.Module`. Its tensor names are the released top-level names (`vision.…`,
`linear_proj.…`). It is registered under the `model_type` of its section in config.json.
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
    """Preprocessed media of one modality. All items are concatenated along the first axis.

    Attributes:
        modality: "image" or "audio".
        tensors: Inputs of the encoder's forward, such as `pixel_values` [patches, C*t*p*p].
        grid: Size of each item, [items, 3] int64 (time, height, width), in patches before merging.
            None for media without a grid.
        tokens: Number of placeholder tokens of each item.
        seconds: For each item, the time of every temporal patch of a video; () for a still picture
            or a sound. So an item is a video if its entry is not empty. An empty list means that
            no item is a video.
        frames_per_patch: Number of frames in each temporal patch of a video.
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
    """Join the inputs of many media: one input for each encoder, with its items in order."""
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
    """The field `seconds`, with an entry for every item."""
    return features.seconds or [()] * len(features.tokens)


def split_grids(features: Sequence[Features]) -> tuple[Tensor | None, Tensor | None]:
    """Grids [n, 3] of all still pictures, and of all videos, each in reading order.

    They are the arguments of `rope_index`. None if there is no still picture, or no video.
    """
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for item in features:
        if item.grid is not None:
            for row, seconds in zip(item.grid, item_seconds(item), strict=True):
                rows[bool(seconds)].append(row)
    stills, videos = (torch.stack(kind) if kind else None for kind in rows)
    return stills, videos


class Processor(Protocol):
    """Turns media into `Features`. It has no weights and needs no device."""

    def __call__(self, parts: Sequence[Media]) -> Features: ...


@dataclass(frozen=True)
class Taken:
    """What a medium takes in a prompt.

    Attributes:
        part: The medium.
        features: What its processor made of it; the tensors may have been dropped.
        step: Largest number of tokens from the start of one run of its patches to the start of the
            next, so the timestamp between them counts. None if all patches are one run.
    """

    part: Media
    features: Features
    step: int | None


@dataclass(frozen=True)
class Smaller:
    """A proposal: how media can use fewer tokens.

    Attributes:
        parts: Medium -> smaller medium. Empty if no medium would be small enough.
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
        """Propose media that use at least `surplus` tokens less. No file is opened.

        media: all media of this modality in the prompt. Returns None if none of them can be
        smaller. The caller reads the proposed media, and asks again if they are still too large.
        """
        ...


@runtime_checkable
class Fills(Protocol):
    """A processor that can make an input for training steps that lack its modality."""

    def dummy(self, given: Features | None) -> Features | None:
        """A tiny input that uses all weights of the encoder that `given` does not use.

        given: the inputs of a batch; None without any. Returns None if they use all weights.
        """
        ...


class Encoder(Protocol):
    """What every encoder has. A class of yours derives from `nn.Module` only.

    If a class has `needs_preprocessor = True`, a checkpoint without preprocessor_config.json is
    refused.
    """

    modality: str
    processor: Processor

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """Build it from a whole config.json and preprocessor_config.json, also on `meta`."""
        ...

    def __call__(self, features: Features) -> Tensor:
        """Embeddings [sum(tokens), hidden_size], L2-normalised where the release does so."""
        ...
