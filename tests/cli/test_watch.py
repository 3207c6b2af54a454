"""`ming watch`: what is printed when, with a session that answers without weights."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@dataclass
class FakeRemark:
    seconds: float
    question: str
    answer: Any


@dataclass
class FakeSession:
    """Notes what it sees; remarks on each frame that is whiter than the one before."""

    model: Any
    options: dict[str, Any] = field(default_factory=dict)
    seen: list[float] = field(default_factory=list)
    asked: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    standing: list[tuple[str, float, dict[str, Any]]] = field(default_factory=list)
    brightness: float = -9.0

    def whenever(self, question: str, every: float, **sampling: Any) -> None:
        self.standing.append((question, every, sampling))

    def see(self, picture: Image.Image, seconds: float) -> list[FakeRemark]:
        self.seen.append(seconds)
        before, self.brightness = self.brightness, float(np.asarray(picture).mean())
        if self.brightness <= before + 1:
            return []
        answer = self.answer(f"{self.brightness:.0f}")
        return [FakeRemark(seconds, question, answer) for question, _, _ in self.standing]

    def ask(self, question: str, think: bool = False, **sampling: Any) -> Any:
        self.thought = think
        self.asked.append((len(self.seen), question, sampling))
        return self.answer(f"after {len(self.seen)}")

    def answer(self, text: str) -> Any:
        self.model.pieces = (text,)
        return self.model.ask("")


@pytest.fixture
def session(fake: Any) -> FakeSession:
    made = FakeSession(fake)

    def watch(**options: Any) -> FakeSession:
        made.options = options
        return made

    fake.watch = watch
    return made


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A folder of six frames, half a second apart, which get whiter at 0.5 s and at 2 s."""
    for number, grey in enumerate((0, 90, 90, 90, 200, 200)):
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / f"frame{number}.png")
    return str(tmp_path)


def test_answers_come_at_their_time(run, session: FakeSession, clip: str) -> None:
    arguments = ["--ask", "how was it?", "--ask", "1.2: what moves?", "--whenever", "how bright?"]
    result = run("watch", clip, *arguments, "--every", "0.5")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "0.0 s  how bright?  0",
        "0.5 s  how bright?  90",
        "1.5 s  what moves?  after 4",
        "2.0 s  how bright?  200",
        "2.5 s  how was it?  after 6",
    ]
    assert session.seen == [0, 0.5, 1, 1.5, 2, 2.5]
    options: dict[str, Any] = {}
    assert session.standing == [("how bright?", 0.5, options)]
    assert session.asked == [(4, "what moves?", options), (6, "how was it?", options)]
    assert session.options == {"frames": None, "keep": "uniform", "fps": None}


def test_options_reach_the_session(run, fake, session: FakeSession, clip: str) -> None:
    options = ["--frames", "8", "--keep", "recent", "--fps", "3", "--max-new-tokens", "5"]
    options += ["--temperature", "1", "--seed", "1"]
    assert run("watch", clip, "--ask", "99:late?", *options, "-m", "m").code == 0
    assert fake.loaded == [("m", "auto", "auto")]
    assert session.options == {"frames": 8, "keep": "recent", "fps": 3.0}
    sampling = {"max_new_tokens": 5, "temperature": 1.0, "seed": 1}
    assert session.asked == [(6, "late?", sampling)]  # past the end


def test_reasoning_goes_to_stderr(run, session: FakeSession, clip: str, monkeypatch) -> None:
    answer = session.answer
    monkeypatch.setattr(session, "answer", lambda text: answer(f"<think>why</think>{text}"))
    result = run("watch", clip, "--ask", "0:what?", "--think")
    assert (result.out, result.err) == ("0.0 s  what?  after 1\n", "why\n")
    assert session.thought
    alone = run("watch", clip, "--whenever", "what?", "--think")
    assert (alone.code, alone.out) == (2, "")
    assert "--think is about --ask, which is not given; leave it out" in alone.err


def test_json_is_one_object_a_line(run, session: FakeSession, clip: str) -> None:
    result = run("watch", clip, "--ask", "0:几个？", "--whenever", "how bright?", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [(x["seconds"], x["question"], x["standing"], x["answer"]) for x in lines] == [
        (0.0, "how bright?", True, "0"),
        (0.0, "几个？", False, "after 1"),
        (0.5, "how bright?", True, "90"),
        (2.0, "how bright?", True, "200"),
    ]
    assert {(x["task"], x["model"], x["file"]) for x in lines} == {("watch", "nano", clip)}
    assert "几个？" in result.out


def test_questions_at_one_time_keep_their_order(run, session: FakeSession, clip: str) -> None:
    run("watch", clip, "--ask", "1:b", "--ask", "1:a", "--ask", "0.5:c")
    assert [(count, question) for count, question, _ in session.asked] == [
        (2, "c"),
        (3, "b"),
        (3, "a"),
    ]


def test_realtime_waits_for_the_clock(
    run, session: FakeSession, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    run("watch", clip, "--ask", "x", "--realtime")
    assert len(waited) == 6
    assert waited == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.4)  # nobody really slept
    waited.clear()
    run("watch", clip, "--ask", "x")
    assert waited == []


def test_the_end_is_noted_on_a_terminal(run, session: FakeSession, clip: str) -> None:
    assert "2.5 s of video in " in run("watch", clip, "--ask", "x", tty=True).err
    assert run("watch", clip, "--ask", "x", "--quiet", tty=True).err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "ming watch has nothing to say; give a question with --ask or --whenever"),
        (["--ask", "3: "], "--ask '3: ' has no question; write it as '3:what moves?'"),
        (
            ["--whenever", " "],
            "--whenever has no question; write it as 'what moves?'",
        ),
        (["--ask", ""], "--ask '' has no question; write it as '3:what moves?'"),
    ],
)
def test_without_a_question(run, fake, clip: str, arguments: list[str], sentence: str) -> None:
    result = run("watch", clip, *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"ming: {sentence}\n")
    assert fake.loaded == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent.mp4", "there is no such file"),
        ("noise.mp4", "is no video in a known format, or it is damaged or cut short"),
        ("empty", "holds no pictures"),
        ("damaged.mp4", "no frame of"),
    ],
)
def test_a_file_that_is_no_video_is_refused_before_loading(
    run, fake, clips: Any, tmp_path: Path, name: str, sentence: str
) -> None:
    data = bytearray(clips.write("damaged.mp4", frames=1).read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    (tmp_path / "damaged.mp4").write_bytes(data)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty").mkdir()
    result = run("watch", str(tmp_path / name), "--ask", "what moves?")
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert fake.loaded == []


@pytest.mark.parametrize("suffix", ["mp4", "ts", "gif", "mkv"])
def test_standard_input_pipes_and_uris(
    run, session: FakeSession, clips: Any, tmp_path: Path, suffix: str
) -> None:
    codec, pixels = ("gif", "gray") if suffix == "gif" else ("mpeg4", "yuv420p")
    path = clips.write(f"a.{suffix}", codec, frames=7, pixels=pixels)
    seen = [i / 10 for i in range(7)]
    for source, stdin in (("-", path.read_bytes()), (path.as_uri(), ""), (str(path), "")):
        session.seen.clear()
        result = run("watch", source, "--ask", "what moves?", stdin=stdin)
        assert (result.code, result.out) == (0, "0.6 s  what moves?  after 7\n")
        assert session.seen == pytest.approx(seen, abs=0.011)
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    session.seen.clear()
    assert run("watch", str(pipe), "--ask", "what moves?").out == "0.6 s  what moves?  after 7\n"
    writer.join()


def test_a_still_picture_is_a_video_of_one_frame(run, session: FakeSession, clip: str) -> None:
    result = run("watch", f"{clip}/frame1.png", "--ask", "what is this?")
    assert (result.code, result.out) == (0, "0.0 s  what is this?  after 1\n")


def test_what_a_stream_misses_is_noted(run, session: FakeSession, clips: Any) -> None:
    path = clips.write("a.mkv", "mpeg4", frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("watch", str(path), "--ask", "what moves?")
    assert result.code == 0
    assert "a.mkv breaks off: it holds" in result.err
    assert result.err.count("\n") == 1
    assert "what moves?  after" in result.out
