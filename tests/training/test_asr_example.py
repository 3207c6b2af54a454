"""The recordings of fifty new names, with a program that only hums."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ming_audio.datasets import read_folder
from ming_recipes.asr import example
from ming_recipes.nano.world.names import NAMES
from ming_recipes.nano.world.speech import TRAIN_VOICES, Utterance


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[Utterance]:
    found: list[Utterance] = []

    def hum(said: Utterance) -> np.ndarray:
        found.append(said)
        return np.full(160, 0.25, dtype=np.float32)

    monkeypatch.setattr(example, "speak", hum)
    return found


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_new_names_are_said_by_known_voices_and_tested_by_others(
    tmp_path: Path, spoken: list[Utterance]
) -> None:
    example.main(str(tmp_path / "a"))
    assert len(example.NEW_NAMES) == 50
    assert not set(example.NEW_NAMES) & set(NAMES["en"])
    train, known, held_out = (
        rows(tmp_path / "a" / name) for name in ("train", "known", "held-out")
    )
    assert (len(train), len(known), len(held_out)) == (600, 400, 100)
    heard = {said.voice for said in spoken[: len(train)]}
    assert heard <= set(TRAIN_VOICES["en"][0])
    assert not heard & {said.voice for said in spoken[-len(held_out) :]}
    for name in example.NEW_NAMES:
        assert sum(name in str(row["text"]).split() for row in train) >= 12
        assert not any(name in str(row["text"]) for row in known)
    listed = [row for row in train if row["hotwords"]]
    assert 150 < len(listed) < 250
    for row in listed:
        assert isinstance(row["hotwords"], list)
        assert isinstance(row["entity_list"], list)
        assert set(row["entity_list"]) < set(row["hotwords"])
    example.main(str(tmp_path / "b"))
    assert rows(tmp_path / "b" / "train") == train


def test_the_benchmark_of_names_reads_the_held_out_rows(
    tmp_path: Path, spoken: list[Utterance]
) -> None:
    example.main(str(tmp_path / "a"))
    style, utterances = read_folder(tmp_path / "a" / "held-out")
    assert style == "contextasr"
    assert len(utterances) == 100
    assert all(set(one.entities) <= set(example.NEW_NAMES) and one.entities for one in utterances)
