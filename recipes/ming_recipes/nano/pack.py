"""Speak what a run of nano's recipe hears, and pack it into one file for another machine:

    python -m ming_recipes.nano.pack speech.tar recordings=15000

Settings are those of the recipe. 15,000 recordings are ten hours, 52 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ming_audio.lengths import RATE
from ming_recipes.nano.recipe import RECIPE
from ming_recipes.nano.shards import Shard, write_shards
from ming_recipes.nano.speech import Recordings, recordings_of
from ming_recipes.training.recipe import settings


def pack(found: Sequence[Recordings], file: Path) -> float:
    """Write what is spoken, and return its hours. Raises MissingVoice."""
    samples = 0

    def spoken() -> Iterator[tuple[Shard, np.ndarray]]:
        nonlocal samples
        for recordings in found:
            for first in recordings.starts:
                shard, sound = recordings.shard(first)
                samples += len(sound)
                yield shard, sound

    for recordings in found:
        recordings.prepare()
    write_shards(file, spoken())
    return samples / RATE / 3600


def main(arguments: Sequence[str]) -> None:
    """arguments: the file to write, then settings of the recipe as key=value."""
    target, *overrides = arguments
    config = settings(RECIPE, [], overrides)
    with TemporaryDirectory() as folder:
        hours = pack(recordings_of(config, Path(folder)), Path(target))
    print(f"{target}: {hours:.1f} hours, {Path(target).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
