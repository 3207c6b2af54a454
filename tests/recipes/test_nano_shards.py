"""Recordings that travel in one file: what comes back, how small it is, and what is refused."""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ming_core.errors import BadConfig
from ming_recipes.nano import pack as packing
from ming_recipes.nano import speech
from ming_recipes.nano.pack import pack
from ming_recipes.nano.shards import BITS, Shard, decoded, encoded, read_shard, write_shards
from ming_recipes.nano.speech import Recordings
from ming_recipes.nano.world.speech import Utterance, utterance_of

RATE = 16_000
COUNT = 24


def tones(said: Utterance) -> np.ndarray:
    """A stand-in for the programs: syllables of a pitch for each character, [N] float32."""
    parts = []
    for letter in said.text:
        time = np.arange(RATE // 14) / RATE
        pitch = 110 * (1 + ord(letter) % 17 / 10)
        voiced = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
        parts.append(0.2 * voiced * np.sin(np.pi * 14 * time))
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings in this process, said by `tones`."""
    monkeypatch.setattr(speech, "speak", tones)
    monkeypatch.setattr(speech, "SHARD", 10)

    def prepare(self: Recordings) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for first in self.starts:
            self._record(first)

    monkeypatch.setattr(Recordings, "prepare", prepare)


@pytest.fixture
def packed(tmp_path: Path, voices: None) -> tuple[Path, Recordings]:
    """A file of 24 recordings in three shards, and the recordings themselves."""
    recordings = Recordings(tmp_path / "first", "train", COUNT)
    hours = pack([recordings, Recordings(tmp_path / "first", "val", 6)], tmp_path / "speech.tar")
    assert hours > 0
    return tmp_path / "speech.tar", recordings


def test_recordings_come_back_at_the_same_places(
    packed: tuple[Path, Recordings], tmp_path: Path
) -> None:
    file, first = packed
    again = Recordings(tmp_path / "second", "train", COUNT, file)
    again.prepare()
    for index in range(COUNT):
        (said, sound), (other, heard) = first[index], again[index]
        assert said == other == utterance_of("train", index)
        assert len(sound) == len(heard)
        assert heard.dtype == np.int16
        # In step to a sample, and of the same loudness.
        apart = np.corrcoef(sound[200:-200], heard[200:-200])[0, 1]
        late = np.corrcoef(sound[200:-200], heard[208:-192])[0, 1]
        assert apart > 0.6
        assert apart > late
        assert np.std(heard) == pytest.approx(np.std(sound), rel=0.25)


def test_a_run_may_use_fewer_recordings_than_are_packed(
    packed: tuple[Path, Recordings], tmp_path: Path
) -> None:
    few = Recordings(tmp_path / "few", "train", 13, packed[0])
    few.prepare()
    assert few[12][0] == utterance_of("train", 12)
    assert len(few[12][1]) == len(packed[1][12][1])


def test_ten_hours_take_less_than_sixty_megabytes() -> None:
    sound = np.concatenate([tones(utterance_of("train", index)) for index in range(12)])
    samples = np.round(sound * 2**15).astype(np.int16)
    data = encoded(samples)
    assert len(data) / (len(samples) / RATE) * 36_000 < 60e6
    assert BITS / 8 * 36_000 < 55e6
    start = time.perf_counter()
    assert len(decoded(data)) == len(samples)
    # A tenth of what a quiet machine does: ten hours in ten minutes of one core at most.
    assert len(samples) / RATE / (time.perf_counter() - start) > 60


def test_it_is_a_tar_that_other_programs_read(packed: tuple[Path, Recordings]) -> None:
    with tarfile.open(packed[0]) as tar:
        names = tar.getnames()
        assert names[:4] == [
            "train-000000.json",
            "train-000000.opus",
            "train-000010.json",
            "train-000010.opus",
        ]
        assert names[-1] == "val-000000.opus"
        opus = tar.extractfile("train-000000.opus")
        assert opus is not None
        assert opus.read(4) == b"OggS"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": 31, "split": "test"}, "has no recordings of split 'test' from 0 on"),
        ({"count": 30}, "does not hold the 30 recordings of split 'train'"),
        ({"free_words": 1.0}, "pack it with the same settings"),
        ({"split": "val", "count": 7}, "does not hold the 7 recordings of split 'val'"),
    ],
)
def test_other_recordings_than_those_packed_are_refused(
    packed: tuple[Path, Recordings], tmp_path: Path, change: dict, reason: str
) -> None:
    wanted = Recordings(tmp_path / "other", "train", COUNT, packed[0])
    with pytest.raises(BadConfig, match=reason):
        replace(wanted, **change).prepare()


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read as recordings"):
        read_shard(tmp_path / "missing.tar", "train", 0)
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(BadConfig, match="cannot be read as recordings"):
        read_shard(tmp_path / "text.tar", "train", 0)
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name in ("train-000000.json", "train-000000.opus"):
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
    with pytest.raises(BadConfig, match="cannot be read as recordings"):
        read_shard(tmp_path / "odd.tar", "train", 0)
    sound = np.zeros(RATE, np.int16)
    write_shards(tmp_path / "long.tar", [(Shard("train", 0, [RATE + 1], ["a"]), sound)])
    with pytest.raises(BadConfig, match="not as long as it says"):
        read_shard(tmp_path / "long.tar", "train", 0)


def test_a_broken_copy_is_refused(packed: tuple[Path, Recordings], tmp_path: Path) -> None:
    torn = tmp_path / "torn.tar"
    torn.write_bytes(packed[0].read_bytes()[:3000])
    with pytest.raises(BadConfig, match=r"torn\.tar"):
        read_shard(torn, "train", 0)


def test_the_command_packs_what_settings_ask_for(
    tmp_path: Path, voices: None, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "speech.tar"
    packing.main([str(target), "recordings=11", "validation_sounds=3", "free_words=0.5"])
    assert capsys.readouterr().out == f"{target}: 0.0 hours, {target.stat().st_size / 1e6:.1f} MB\n"
    shard, _ = read_shard(target, "train", 0)
    assert shard.texts == [utterance_of("train", index, 0.5).text for index in range(10)]
    assert not (tmp_path / "speech").exists()
