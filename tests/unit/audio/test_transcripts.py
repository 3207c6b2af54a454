"""Transcripts as text, subtitles and JSON; files appear complete or not at all."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ming_audio.subtitles import cues
from ming_audio.transcripts import Segment, Transcript, clock, joined
from ming_core.errors import BadConfig

TALK = Transcript(
    text="good morning 大家好 a < b",
    language="en",
    segments=(
        Segment(0.25, 1.5, "good morning", "en"),
        Segment(1.5, 3.0, "", "en"),
        Segment(3.0, 4.0006, "大家好", "zh"),
        Segment(3661.0, 3662.5, "a <  b\n\n1 --> 2 & c", "en"),
    ),
    seconds=3700.00049,
    notes=("a note",),
)


def test_text() -> None:
    assert str(TALK) == TALK.text
    assert TALK.to_txt() == "good morning 大家好 a < b\n"


def test_srt() -> None:
    assert TALK.to_srt() == (
        "1\n00:00:00,250 --> 00:00:01,500\ngood morning\n\n"
        "2\n00:00:03,000 --> 00:00:04,001\n大家好\n\n"
        "3\n01:01:01,000 --> 01:01:02,500\na < b 1 → 2 & c\n"
    )


def test_vtt() -> None:
    assert TALK.to_vtt() == (
        "WEBVTT\n\n"
        "00:00:00.250 --> 00:00:01.500\ngood morning\n\n"
        "00:00:03.000 --> 00:00:04.001\n大家好\n\n"
        "01:01:01.000 --> 01:01:02.500\na &lt; b 1 → 2 &amp; c\n"
    )


def test_json() -> None:
    values = json.loads(TALK.to_json())
    assert values["seconds"] == 3700.0
    assert values["notes"] == ["a note"]
    times = {"start": 3.0, "end": 4.001}
    said = {"text": "大家好", "language": "zh", "confidence": 1.0}
    assert values["segments"][2] == {**times, **said}
    assert "大家好" in TALK.to_json()  # readable, not escaped


def test_nobody_spoke() -> None:
    silent = Transcript("", None, (), 2.0)
    assert [silent.to_txt(), silent.to_srt(), silent.to_vtt()] == ["\n", "", "WEBVTT\n"]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (7325.0625, "02:02:05.062")],
)
def test_clock(seconds: float, written: str) -> None:
    assert clock(seconds) == written


def test_the_suffix_tells_the_format(tmp_path: Path) -> None:
    for name in ("a.txt", "a.srt", "a.VTT", "a.json", "a.text"):
        assert TALK.save(tmp_path / name) == tmp_path / name
    starts = {path.name: path.read_text("utf-8")[:4] for path in tmp_path.iterdir()}
    assert starts == {
        "a.txt": "good",
        "a.srt": "1\n00",
        "a.VTT": "WEBV",
        "a.json": "{\n  ",
        "a.text": "good",
    }
    assert TALK.save(tmp_path / "b.txt", "srt").read_text("utf-8") == TALK.to_srt()
    wrong: Any = "doc"
    with pytest.raises(BadConfig, match="format is 'doc'; use 'txt' or 'srt' or 'vtt' or 'json'"):
        TALK.save(tmp_path / "c.doc", wrong)


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.srt"
    path.write_text("old", "utf-8")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        TALK.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.srt"]
    assert path.read_text("utf-8") == "old"


def spoken(*texts: str) -> Transcript:
    """Ten seconds for each text."""
    segments = [Segment(10.0 * i, 10.0 * i + 10, text) for i, text in enumerate(texts)]
    return Transcript(" ".join(texts), None, tuple(segments), 10.0 * len(texts))


@pytest.mark.parametrize(
    ("text", "widest"),
    [
        ("the quick brown fox jumps over the lazy dog, and then it sleeps. " * 6, 42),
        ("大家好，今天我们来讲一讲人工智能的历史。它从上个世纪开始，一直到今天。" * 6, 19),
        ("我们 use the 模型 Ming-Flash-Omni 来听 and to see, 真的很好。" * 5, 42),
        ("x" * 500, 42),
        ("one two", 42),
    ],
)
def test_long_segments_are_cues_that_can_be_read(text: str, widest: int) -> None:
    found = list(cues(spoken(text).segments))
    lines = [line for cue in found for line in cue.lines]
    assert max(map(len, lines)) <= widest
    assert max(len(cue.lines) for cue in found) <= 2
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert found[0].start == 0
    assert found[-1].end == pytest.approx(10)
    for cue, after in pairwise(found):
        assert cue.end == after.start
        shown = sum(map(len, cue.lines)) / sum(map(len, lines))
        assert (cue.end - cue.start) / 10 == pytest.approx(shown, abs=0.05)
    assert not any(line[0] in "，。,." for line in lines)


def test_a_cue_ends_with_its_sentence() -> None:
    text = "this is the first sentence of the day. " + "and this one is quite a bit longer, is it?"
    found = list(cues(spoken(text + " yes").segments))
    assert " ".join(found[0].lines) == "this is the first sentence of the day."


def test_cues_of_channels_never_overlap() -> None:
    calls = [
        Transcript("", "en", (Segment(0, 5, "a", "en"), Segment(6, 6.2, "c", "en")), 9, ("n",)),
        Transcript("", "zh", (Segment(0, 4, "b", "zh"), Segment(6.1, 9, "d", "zh")), 9),
    ]
    both = joined(calls)
    assert both.text == "[0] a\n[1] b\n[0] c\n[1] d"
    assert both.language == "zh"
    assert both.notes == ("n in channel 0",)
    assert [segment["channel"] for segment in both.to_dict()["segments"]] == [0, 1, 0, 1]
    found = list(cues(both.segments))
    assert [cue.lines for cue in found] == [("[0] a",), ("[1] b",), ("[0] c",), ("[1] d",)]
    for cue, after in pairwise(found):
        assert cue.start < cue.end <= after.start
