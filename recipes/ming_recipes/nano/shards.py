"""Recordings in one small file, to take to a machine on which no program speaks.

`python -m ming_recipes.nano.pack` makes it, and the recipe reads it with `speech=speech.tar`. It is
a tar of shards (WebDataset): `<split>-<first>.opus`, the sounds of up to 500 utterances behind each
other (Ogg Opus, 12 kbit/s: 52 MB for ten hours), and `<split>-<first>.json`, where each of them
ends and what is said.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ming_audio.lengths import RATE
from ming_core.errors import BadConfig
from ming_core.output import replacing

BITS = 12_000
"""Per second. nano hears the same in it; at 8,000 it does not."""

FULL = 2**15 - 1


@dataclass(frozen=True)
class Shard:
    """Utterances of a split from `first` on. ends: the sample behind each, at 16 kHz. texts: what
    is said."""

    split: str
    first: int
    ends: list[int]
    texts: list[str]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.first:06d}"


def encoded(samples: np.ndarray) -> bytes:
    """[N] int16 at 16 kHz as Ogg Opus."""
    import av  # slow to load, and used only where recordings are packed

    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        style = {"application": "voip", "frame_duration": "60"}
        stream = container.add_stream("libopus", rate=RATE, layout="mono", options=style)
        stream.bit_rate = BITS
        for start in range(0, len(samples), RATE):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + RATE], "s16", "mono")
            frame.rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """What `encoded` was given, but for what Opus leaves out. Needs no av. Raises ValueError."""
    try:
        sound, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.SoundFileError as error:
        raise ValueError(str(error)) from None
    if rate != RATE or sound.ndim != 1:
        raise ValueError(f"its sounds have {rate} samples per second, not one channel of {RATE}")
    return np.round(sound.clip(-1, 1) * FULL).astype(np.int16)


def write_shards(file: Path, shards: Iterable[tuple[Shard, np.ndarray]]) -> None:
    """A file of shards and their sounds, [N] int16 at 16 kHz; it appears only when complete."""
    with replacing(file) as out, tarfile.open(fileobj=out, mode="w") as tar:
        for shard, samples in shards:
            own = {"split": shard.split, "first": shard.first}
            facts = json.dumps(
                {**own, "ends": shard.ends, "texts": shard.texts}, ensure_ascii=False
            )
            for suffix, data in ((".json", facts.encode()), (".opus", encoded(samples))):
                member = tarfile.TarInfo(shard.name + suffix)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read_shard(file: Path, split: str, first: int) -> tuple[Shard, np.ndarray]:
    """A shard and its sounds, [N] int16 at 16 kHz. Raises BadConfig if the file cannot be read or
    has no such shard."""
    name = f"{split}-{first:06d}"
    try:
        with tarfile.open(file, "r:") as tar:
            facts, sound = (_member(tar, name + suffix) for suffix in (".json", ".opus"))
        shard = Shard(**json.loads(facts))
        samples = decoded(sound)
    except KeyError:
        raise BadConfig(
            f"{file} has no recordings of split {split!r} from {first} on; pack more of them, or "
            "ask for fewer"
        ) from None
    except (OSError, tarfile.TarError, ValueError, TypeError) as error:
        raise BadConfig(
            f"{file} cannot be read as recordings ({error}); make it with "
            "python -m ming_recipes.nano.pack"
        ) from error
    if not shard.ends or shard.ends[-1] != len(samples):
        raise BadConfig(f"{file}: the sounds of {name} are not as long as it says; copy it again")
    return shard, samples


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found.read()
