"""Speech for training: said once by the programs, kept on disk, varied at each use."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import active_children, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from numpy.lib import format as header
from rich.progress import track

from ming_audio.config import Ear, WhisperConfig
from ming_audio.lengths import RATE
from ming_core.chat.prompt import TextEncoder
from ming_core.errors import BadConfig
from ming_core.model.encoder import Features, by_modality
from ming_core.output import remove_parts, replacing
from ming_recipes.nano.augment import LONGEST, plain, vary
from ming_recipes.nano.config import NanoPerception
from ming_recipes.nano.shards import FULL, Shard, read_shard
from ming_recipes.nano.world.scene import generator, pick, seed_of
from ming_recipes.nano.world.speech import Utterance, followed_by, utterance_of, without_words
from ming_recipes.nano.world.vocabulary import Language
from ming_recipes.nano.world.voices import speak
from ming_recipes.nano.world.wordless import WORDLESS, wordless

SHARD = 500
VARIATION_STREAM, DRAW_STREAM = 6, 10
_PAUSE = (0.3, 1.2)  # seconds between two sentences
_AHEAD = 20  # recordings among which the next one of a language is looked for


@dataclass(frozen=True)
class Recordings:
    """The first `count` utterances of a split, in shards of SHARD in a folder.

    packed: a file that has them (`ming_recipes.nano.shards`); without it programs speak them.
    free_words: the share of utterances in words of any order (`world.speech.utterance_of`).
    """

    folder: Path
    split: str
    count: int
    packed: Path | None = None
    free_words: float = 0.0

    @property
    def starts(self) -> range:
        """The first utterance of each shard."""
        return range(0, self.count, SHARD)

    def prepare(self) -> None:
        """Make the shards that are missing, a process for each core.

        Raises MissingVoice, or BadConfig if the packed file does not have them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)
        missing = [first for first in self.starts if not _is_whole(self._path(first))]
        if not missing:
            return
        with ProcessPoolExecutor(os.cpu_count(), initializer=_serve) as pool:
            try:
                done = pool.map(self._record, missing)
                for _ in track(done, f"speech {self.split}", total=len(missing)):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in active_children():  # they would go on for minutes
                    worker.terminate()
                raise

    def __getitem__(self, index: int) -> tuple[Utterance, np.ndarray]:
        """The utterance and its samples, [N] int16 at 16 kHz.

        Cheap if indices follow each other.
        """
        place = index % SHARD
        ends, samples = _load(self._path(index - place))
        return self._said(index), samples[ends[place] : ends[place + 1]]

    def index(self, use: int) -> int:
        """Which utterance is used; uses count on beyond the recordings."""
        return use % self.count

    def utterance(self, use: int) -> Utterance:
        """What is said, without the sound."""
        return self._said(self.index(use))

    def shard(self, first: int) -> tuple[Shard, np.ndarray]:
        """A prepared shard to be packed, and its samples."""
        ends, samples = _load(self._path(first))
        texts = [self._said(index).text for index in range(first, self._end(first))]
        return Shard(self.split, first, ends[1:].tolist(), texts), samples

    def _said(self, index: int) -> Utterance:
        return utterance_of(self.split, index, self.free_words)

    def _record(self, first: int) -> None:
        ends, samples = self._spoken(first) if self.packed is None else self._unpacked(first)
        with replacing(self._path(first)) as file:
            np.save(file, ends)
            np.save(file, samples)

    def _spoken(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        said = [
            np.round(speak(self._said(index)).clip(-1, 1) * FULL)
            for index in range(first, self._end(first))
        ]
        return np.cumsum([0, *map(len, said)]), np.concatenate(said).astype(np.int16)

    def _unpacked(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.packed is not None
        shard, samples = read_shard(self.packed, self.split, first)
        wanted = [self._said(index).text for index in range(first, self._end(first))]
        if shard.texts[: len(wanted)] != wanted:
            raise BadConfig(
                f"{self.packed} does not hold the {self.count} recordings of split {self.split!r} "
                "that these settings ask for; pack it with the same settings"
            )
        ends = np.array([0, *shard.ends[: len(wanted)]])
        return ends, samples[: ends[-1]]

    def _path(self, first: int) -> Path:
        return self.folder / f"{self.split}-{first:06d}-{self._end(first):06d}.npy"

    def _end(self, first: int) -> int:
        return min(first + SHARD, self.count)


def recordings_of(config: NanoPerception, folder: Path) -> tuple[Recordings, Recordings]:
    """What a run hears in training and in validation, kept in a folder."""
    packed = Path(config.speech) if config.speech else None
    return (
        Recordings(folder, "train", config.recordings, packed, config.free_words),
        Recordings(folder, "val", config.validation_sounds, packed),
    )


def _serve() -> None:
    """In each process that records: leave it to the first one to stop, and end when that one ends,
    also when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    first = parent_process()
    assert first is not None

    def end() -> None:
        first.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


def _is_whole(path: Path) -> bool:
    try:
        ends, samples = _load(path)
        return bool(ends[-1] == len(samples))
    except (OSError, ValueError, EOFError):
        return False


@lru_cache(maxsize=4)
def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where utterances end, and all samples, which stay on disk until they are used."""
    with path.open("rb") as file:
        ends = np.load(file, allow_pickle=False)
        header.read_magic(file)
        shape, _, kind = header.read_array_header_1_0(file)
        return ends, np.memmap(file, kind, "r", file.tell(), shape)


@dataclass(frozen=True)
class Sounds:
    """Some utterances as a model is given them.

    features: of all, in order. ids: the transcript of each in the tokenizer's entries.
    """

    features: Features
    utterances: list[Utterance]
    ids: list[list[int]]

    def to(self, device: torch.device, dtype: torch.dtype) -> Sounds:
        return replace(self, features=self.features.to(device, dtype))

    @classmethod
    def joined(cls, parts: Sequence[Sounds]) -> Sounds:
        (features,) = by_modality([part.features for part in parts])
        utterances = [one for part in parts for one in part.utterances]
        return cls(features, utterances, [row for part in parts for row in part.ids])


@dataclass(frozen=True)
class Variety:
    """What some uses of the recordings are in training; shares of 1.

    joined: of the uses, those in which one or two more sentences follow after pauses. wordless: of
    the uses, those in which nothing is said (`world.wordless`). other_lists: of the lists of words
    to listen for, those of words that have nothing to do with what is said (`world.hotwords`).
    """

    joined: float = 0.0
    wordless: float = 0.0
    other_lists: float = 0.0


AS_RECORDED = Variety()


class Listening:
    """Recordings through the front end of an ear."""

    def __init__(
        self,
        recordings: Recordings,
        ear: Ear,
        tokenizer: TextEncoder,
        variety: Variety = AS_RECORDED,
    ) -> None:
        assert isinstance(ear.config, WhisperConfig)
        self.recordings, self.ear, self.tokenizer = recordings, ear, tokenizer
        self.variety = variety
        self.n_mels = ear.config.n_mels

    def __call__(self, use: int) -> Sounds:
        """The utterance of a use: each time another variation in training, the plain sound
        elsewhere."""
        index = self.recordings.index(use)
        if self.recordings.split == "train":
            utterance, samples = self._drawn(index, generator(seed_of("train", use), DRAW_STREAM))
            rng = generator(seed_of("train", use), VARIATION_STREAM)
            mel = vary(samples, self.n_mels, rng)
        else:
            utterance, samples = self.recordings[index]
            mel = plain(samples, self.n_mels)
        features = Features(
            modality="audio",
            tensors={"mel": mel, "frames": torch.tensor([[len(mel)]])},
            grid=None,
            tokens=[self.ear.tokens(len(mel))],
        )
        return Sounds(features, [utterance], [self.tokenizer.encode(utterance.text)])

    def _drawn(self, index: int, rng: np.random.Generator) -> tuple[Utterance, np.ndarray]:
        """An utterance, alone or with others behind it, or a sound without words in its place."""
        kind = rng.random()
        if kind < self.variety.wordless:
            sound = wordless(pick(rng, tuple(WORDLESS)), rng)
            said = without_words(self.recordings.utterance(index))
            return said, np.round(sound * FULL).astype(np.int16)
        said, samples = self.recordings[index]
        if kind >= self.variety.wordless + self.variety.joined:
            return said, samples
        for _ in range(1 if rng.random() < 0.7 else 2):
            following = self._next(index, said.lang)
            if following is None:
                break
            other, more = self.recordings[following]
            pause = np.zeros(int(rng.uniform(*_PAUSE) * RATE), np.int16)
            longer = np.concatenate((samples, pause, more))
            if len(longer) > LONGEST * RATE:  # it would be heard faster than anybody speaks
                break
            index, said, samples = following, followed_by(said, other), longer
        return said, samples

    def _next(self, index: int, language: Language) -> int | None:
        """The next recording of a language behind an index, if it is near."""
        near = (self.recordings.index(index + step) for step in range(1, _AHEAD))
        return next((i for i in near if self.recordings.utterance(i).lang == language), None)
