"""The modalities of the models and the kinds of media, in one table.

A model has three modalities: text, image and audio. Each has a router in every mixture of experts;
image and audio also have an encoder. A medium is of one kind, and the kind says which encoder reads
it: the encoder of images reads videos, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TEXT, IMAGE, AUDIO = 0, 1, 2
"""Modality ids of tokens, which say whose router scores them."""


@dataclass(frozen=True)
class Kind:
    """A kind of media that people give to a model.

    Attributes:
        name: What plugins, chat formats and errors call it.
        modality: Whose encoder reads it: "image" or "audio".
        id: Modality id of its tokens.
        nouns: What messages call several of them.
        suffixes: Endings of the names of its files.
    """

    name: str
    modality: str
    id: int
    nouns: str
    suffixes: frozenset[str]


def _kind(name: str, modality: str, id: int, nouns: str, suffixes: str) -> Kind:
    return Kind(name, modality, id, nouns, frozenset(suffixes.split()))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            _kind(
                "image",
                "image",
                IMAGE,
                "images",
                ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm .pbm "
                ".pnm",
            ),
            _kind(
                "audio",
                "audio",
                AUDIO,
                "sound",
                ".wav .flac .mp3 .mp2 .ogg .oga .opus .spx .m4a .m4b .aac .aif .aiff .aifc .wma "
                ".amr .ac3 .eac3 .au .snd .caf .w64 .wv .tta .ape .mka",
            ),
            _kind(
                "video",
                "image",
                IMAGE,
                "videos",
                ".mp4 .mkv .mov .webm .avi .m4v .3gp .3g2 .ts .mts .m2ts .mpg .mpeg .vob .wmv .asf "
                ".flv .ogv .ivf .y4m",
            ),
        )
    }
)

MODALITY_IDS: Mapping[str, int] = MappingProxyType(
    {"text": TEXT} | {kind.modality: kind.id for kind in KINDS.values()}
)
"""Modality -> id of its tokens."""
