"""Rows are measured once, and go on being measured after a stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ming_core.errors import BadConfig
from ming_recipes.training import sizes
from ming_recipes.training.data import DataSet, measure_sets
from ming_recipes.training.dialects import Row
from ming_recipes.training.examples import Parts, read_example
from ming_recipes.training.files import open_rows
from ming_recipes.training.records import BadRow, Record
from ming_recipes.training.sizes import measure

Said = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def test_size_of_every_kind_of_row(
    mixed: list[dict[str, Any]], write_rows: Write, parts: Parts
) -> None:
    rows = open_rows(write_rows(mixed))
    measured = measure(rows, parts)
    assert not measured.faults
    for number, size in enumerate(measured.sizes):
        example = read_example(rows[number], parts)
        assert size is not None
        assert size.tokens == len(example.prompt.input_ids)
        assert size.targets == sum(example.prompt.targets)
        assert size.work == example.work()
        heard = sum(sum(item.tokens) for item in example.features)
        assert sum(map(bool, example.prompt.modality_ids)) == heard
    first, second, third, sound, video, two = measured.sizes[:6]
    assert first is not None
    assert second is not None
    assert third is not None
    assert sound is not None
    assert video is not None
    assert two is not None
    assert first.group == second.group == third.group
    assert first.prefix == second.prefix > 16
    assert two.group == first.group  # it begins with the same picture
    assert len({first.group, sound.group, video.group}) == 3
    assert two.work["image"] == 2 * first.work["image"]
    assert not measured.sizes[-1].work  # type: ignore[union-attr]


def test_reasoning_and_system_texts_do_not_share_a_prefix(
    write_rows: Write, said: Said, parts: Parts
) -> None:
    asked = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "what?"}]
    later = [{"type": "text", "text": "what?"}, {"type": "image", "image": "a.png"}]
    rows = [said(asked), said(asked, think="warm"), said(asked, system="be brief"), said(later)]
    found = measure(open_rows(write_rows(rows)), parts).sizes
    assert len({size.group for size in found if size}) == 4
    assert found[-1].prefix == 0  # type: ignore[union-attr]


def test_rows_are_measured_once_and_a_stopped_measuring_goes_on(
    mixed: list[dict[str, Any]],
    write_rows: Write,
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = open_rows(write_rows([*mixed, "broken", mixed[0]]))
    file = tmp_path / "sizes.jsonl"
    whole = measure(rows, parts, file)
    content = file.read_bytes()
    measured: list[int] = []
    original = sizes.measure_row

    def watched(rows: Any, number: int, parts: Parts) -> dict[str, Any]:
        measured.append(number)
        return original(rows, number, parts)

    monkeypatch.setattr(sizes, "measure_row", watched)
    assert measure(rows, parts, file).sizes == whole.sizes
    assert not measured
    place = content.index(b'{"row": 5') + 20  # killed in the middle of a line
    file.write_bytes(content[:place])
    again = measure(rows, parts, file)
    assert measured == list(range(5, len(rows)))
    assert again.sizes == whole.sizes
    assert list(map(str, again.faults.values())) == list(map(str, whole.faults.values()))
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b'{"sizes": 1, "rows": "other"}\n{}\n'])
def test_another_file_in_its_place_is_measured_anew(
    content: bytes, write_rows: Write, said: Said, parts: Parts, tmp_path: Path
) -> None:
    rows = open_rows(write_rows([said("one?"), said("two?")]))
    file = tmp_path / "sizes.jsonl"
    file.write_bytes(content)
    assert len(measure(rows, parts, file).kept()) == 2
    assert file.read_bytes().count(b"\n") == 3


def test_changed_rows_are_measured_anew(
    write_rows: Write, said: Said, parts: Parts, tmp_path: Path
) -> None:
    file = tmp_path / "sizes.jsonl"
    before = measure(open_rows(write_rows([said("one?")])), parts, file)
    after = measure(open_rows(write_rows([said("one, two, three?"), said("four?")])), parts, file)
    assert len(after.sizes) == 2
    assert after.sizes[0].tokens > before.sizes[0].tokens  # type: ignore[union-attr]


def test_workers_measure_the_same(
    mixed: list[dict[str, Any]], write_rows: Write, parts: Parts
) -> None:
    rows = open_rows(write_rows([*mixed, {}] * 3))
    alone, together = measure(rows, parts), measure(rows, parts, workers=2)
    assert alone.sizes == together.sizes
    assert list(map(str, alone.faults.values())) == list(map(str, together.faults.values()))


def test_a_process_that_measures_outlives_a_signal_to_the_whole_group(
    write_rows: Write, said: Said, parts: Parts
) -> None:
    """The training answers it, and would otherwise hear of a process that has failed."""
    told: list[int] = []

    def signal_all(done: int, rows: int, dataset: str) -> None:
        if not told:
            told.extend(child.pid for child in psutil.Process().children())
            for process in told:
                os.kill(process, signal.SIGTERM)

    rows = open_rows(write_rows([said(f"number {number}?") for number in range(80)]))
    assert len(measure(rows, parts, workers=1, progress=signal_all).kept()) == 80
    assert told


@pytest.mark.parametrize("count", [3, 70])
def test_a_reader_with_a_fault_loses_no_rows_in_silence(
    write_rows: Write, said: Said, parts: Parts, count: int
) -> None:
    """A loader takes StopIteration for the end of the data."""

    def read(row: Row) -> Record:
        return next(iter(()))

    rows = open_rows(write_rows([said(f"{n}?") for n in range(count)]), read=read)
    with pytest.raises(RuntimeError, match="the reader of a recipe has raised StopIteration"):
        measure(rows, parts, workers=1)


def test_what_is_left_out_is_told_with_numbers(write_rows: Write, said: Said, parts: Parts) -> None:
    rows = [
        said("one?", id="x"),
        said("one?", id="x"),
        said("red " * 20_000),
        said("<image>?", images=["no.png"]),
        said("<image>?", images=["no.png"]),
    ]
    measured = measure(open_rows(write_rows(rows)), parts)
    assert measured.kept() == [0, 1]
    long, doubled = measured.faults[2], measured.doubled[0]
    assert long.fault == "too long"
    assert "has 20018 tokens, and the context of nano holds 4096" in long.reason
    assert doubled.reason == "the id 'x' is that of rows.jsonl line 1, too"
    told = measured.told()
    assert told[0].startswith("2 of 5 rows of rows are left out (missing media); the first: rows")
    assert told[1].startswith("1 of 5 rows of rows are left out (too long)")
    assert told[2].startswith("1 of 5 rows of rows have an id that was used before, and are kept")
    assert measured.limited(20).kept() == [0, 1]
    assert "has 20 tokens, and a packed row holds 19" in measured.limited(19).faults[0].reason


def test_media_that_cannot_be_read_or_that_the_model_lacks(
    write_rows: Write, said: Said, parts: Parts, media: Path
) -> None:
    (media / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (media / "empty.wav").write_bytes(b"")
    rows = open_rows(
        write_rows(
            [
                said("<image>?", images=["broken.png"]),
                said("<audio>?", audios=["empty.wav"]),
                said("<image>?", images=["s.wav"]),
                said("<audio>?", audios=["s.wav"]),
            ]
        )
    )
    measured = measure(rows, parts)
    assert [measured.faults[n].fault for n in range(3)] == ["unreadable media"] * 3
    assert measured.kept() == [3]
    from dataclasses import replace

    seeing = replace(parts, processors={"image": parts.processors["image"]})
    with pytest.raises(BadRow, match="nano reads no media of the kind audio"):
        read_example(rows[3], seeing)


def test_sets_are_measured_into_a_folder_and_must_have_rows(
    write_rows: Write, said: Said, parts: Parts, tmp_path: Path
) -> None:
    one, two = write_rows([said("one?")], "one.jsonl"), write_rows([said("two?")], "two.jsonl")
    sets = [DataSet(str(one)), DataSet(str(two), "second")]
    found = measure_sets(sets, parts, 64, tmp_path / "sizes", workers=0)
    assert [measured.name for measured in found] == ["one", "second"]
    assert len(list((tmp_path / "sizes").glob("*.jsonl"))) == 2
    with pytest.raises(BadConfig, match="two data sets have one name"):
        measure_sets([DataSet(str(one)), DataSet(str(one))], parts, 64)
    with pytest.raises(BadConfig, match="has no path"):
        measure_sets([DataSet("")], parts, 64)
    with pytest.raises(BadConfig, match=r"nothing can be learnt .* 1 of 1 rows .* 20 tokens"):
        measure_sets(sets[:1], parts, 10)
