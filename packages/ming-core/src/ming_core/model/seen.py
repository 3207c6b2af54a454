"""Media that a model has looked at: opened and encoded once, then remembered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ming_core.media import Media
from ming_core.model.encoder import Features, by_modality, item_seconds
from ming_core.model.omni import Omni


@dataclass(eq=False)
class Seen:
    """One medium as a model knows it; as the `source` of a medium it stands for itself.

    features: what its processor made. values: [tokens, D], None until it has been encoded; from
    then on `features` keeps the sizes only. finite: whether all values are finite numbers.
    encoder: what encoded it; other encoders' values mean something else. None if that is not known.
    """

    features: Features
    values: Tensor | None = None
    finite: bool = True
    encoder: ReferenceType[nn.Module] | None = None

    def is_of(self, encoder: object) -> bool:
        """Whether this encoder made its values, as far as that is known."""
        return self.encoder is None or self.encoder() is encoder

    @property
    def tokens(self) -> int:
        """Placeholder tokens it takes in a prompt."""
        return sum(self.features.tokens)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Times of the temporal patches of a video; () for anything else."""
        return tuple(time for times in item_seconds(self.features) for time in times)


class SeenMedia:
    """Media by object, at most `capacity` tokens of them; the oldest are forgotten first.

    An entry goes when its medium does: nothing but the caller keeps a medium alive.
    """

    def __init__(self, capacity: float = math.inf) -> None:
        self.capacity = capacity
        self._known: WeakKeyDictionary[Media, Seen] = WeakKeyDictionary()

    @property
    def tokens(self) -> int:
        """Tokens of everything remembered."""
        return sum(item.tokens for item in self._known.values())

    def look(self, media: Iterable[Media], read: Callable[[Media], Features]) -> list[Seen]:
        """What is known of each medium; `read` opens an unknown one, once if it comes twice."""
        found: dict[Media, Seen] = {}
        for medium in (media := list(media)):
            if medium not in found:
                known = (
                    medium.source if isinstance(medium.source, Seen) else self._known.get(medium)
                )
                found[medium] = known if known and known.finite else Seen(read(medium))
        return [found[medium] for medium in media]

    def keep(self, media: Sequence[Media], seen: Sequence[Seen]) -> None:
        """Remember these as the newest."""
        for medium, item in zip(media, seen, strict=True):
            self._known.pop(medium, None)
            self._known[medium] = item
        for medium in list(self._known):
            if self.tokens <= self.capacity:
                return
            del self._known[medium]


def encode(
    omni: Omni, seen: Iterable[Seen], device: torch.device | str, dtype: torch.dtype
) -> None:
    """Encode what has not been encoded yet, all media of a modality together.

    Each encoder works where its weights are. device and dtype: of an encoder without weights.
    """
    todo = list(dict.fromkeys(item for item in seen if item.values is None))
    for features in by_modality([item.features for item in todo]):
        group = [item for item in todo if item.features.modality == features.modality]
        weights = next(omni.encoders[features.modality].parameters(), None)
        place = (device, dtype) if weights is None else (weights.device, weights.dtype)
        values = omni.encode(features.to(*place))
        parts = values.split([item.tokens for item in group])
        for item, part in zip(group, parts, strict=True):
            item.values = part.clone()  # a view would keep all of them alive
            item.finite = bool(part.isfinite().all())
            item.encoder = ref(omni.encoders[features.modality])
            item.features = replace(item.features, tensors={})


def encoded(seen: Sequence[Seen], skip: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Values of encoded media per modality, in reading order: `OmniBatch.encoded`.

    skip: how many leading tokens of each to leave out.
    """
    groups: dict[str, list[Tensor]] = {}
    for item, start in zip(seen, skip or [0] * len(seen), strict=True):
        if item.values is None:
            raise ValueError("a medium has not been encoded yet")
        groups.setdefault(item.features.modality, []).append(item.values[start:])
    return {modality: torch.cat(values) for modality, values in groups.items()}


def shared_tokens(old: Seen, new: Seen) -> int:
    """How many leading tokens of two media are the same, as far as both are encoded."""
    if old is new:
        return old.tokens
    if old.values is None or new.values is None or not _alike(old.features, new.features):
        return 0
    count = min(old.tokens, new.tokens)
    differ = (old.values[:count] != new.values[:count]).any(dim=1).nonzero()
    return int(differ[0]) if len(differ) else count


def _alike(old: Features, new: Features) -> bool:
    """Whether equal values are also at equal places: same modality, kind, height and width."""
    if old.modality != new.modality or any(item_seconds(old)) != any(item_seconds(new)):
        return False
    if old.grid is None or new.grid is None:
        return old.grid is new.grid
    return torch.equal(old.grid[:, 1:], new.grid[:, 1:])
