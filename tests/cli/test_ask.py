from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ming_core.errors import BadMedia, MissingPlugin
from ming_core.media import Audio, Image, Video
from ming_core.media.options import option, refuse
from ming_core.notes import note_to_user
from ming_core.plugins import Plugin, Plugins
from ming_core.plugins.kinds import OptionsEntry
from ming_vision import VideoSampling

OPTIONS = {"think": False, "instructions": None}


def test_prints_the_answer_and_nothing_else(run, fake) -> None:
    result = run("ask", "how many?")
    assert (result.code, result.out, result.err) == (0, "three shapes\n", "")
    assert fake.loaded == [("nano", "auto", "auto")]
    assert fake.asked == [("how many?", (), OPTIONS)]


def test_passes_options_on(run, fake) -> None:
    run(
        "ask",
        "x",
        "-m",
        "m",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--temperature",
        "1",
        "--seed",
        "3",
    )
    assert fake.loaded == [("m", "cpu", "float32")]
    assert fake.asked[0][2] == OPTIONS | {"temperature": 1.0, "seed": 3}


def test_media_kinds_follow_the_suffix(run, fake, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.WAV", "c.mp4", "d.unknown")]
    for path in paths:
        path.touch()
    assert run("ask", "what?", *map(str, paths)).code == 0
    media = fake.asked[0][1]
    assert [type(part) for part in media] == [Image, Audio, Video, Image]
    assert [part.path for part in media] == paths


def test_json_is_one_object(run, fake, tmp_path: Path) -> None:
    picture = tmp_path / "图.png"
    picture.touch()
    result = run("ask", "几个？", str(picture), "--json", tty=True)
    answer = json.loads(result.out)
    assert answer.pop("seconds") >= 0
    assert answer == {
        "task": "ask",
        "model": "nano",
        "question": "几个？",
        "media": [str(picture)],
        "text": "three shapes",
        "answer": "three shapes",
        "thinking": None,
        "boxed": None,
        "tokens": 2,
    }
    assert "几个？" in result.out  # readable, not escaped


def test_streams_on_a_terminal_and_times_on_stderr(run, fake) -> None:
    result = run("ask", "how many?", tty=True)
    assert result.out == "three shapes\n"
    assert result.err == "loaded nano in 0.0 s\nanswered in 0.0 s\n"
    assert run("ask", "how many?", "--quiet", tty=True).err == ""


def test_reasoning_is_shown_apart(run, fake) -> None:
    fake.pieces = ("<thi", "nk>one, ", "two</th", "ink>\n", "\n", "\\boxed{2}", " < 3")
    piped = run("ask", "how many?", "--think")
    assert (piped.out, piped.err) == ("\\boxed{2} < 3\n", "one, two\n")
    assert fake.asked[0][2] == OPTIONS | {"think": True}
    shown = run("ask", "how many?", "--think", "--max-new-tokens", "9", tty=True)
    assert shown.out == "\\boxed{2} < 3\n"
    dimmed = "\x1b[2mone, \x1b[0m\x1b[2mtwo\x1b[0m\x1b[2m\n\x1b[0m"
    assert shown.err == f"loaded nano in 0.0 s\n{dimmed}answered in 0.0 s\n"
    assert fake.asked[1][2]["max_new_tokens"] == 9
    assert run("ask", "how many?", "--think", "-q").err == ""
    answer = json.loads(run("ask", "how many?", "--think", "--json").out)
    assert (answer["thinking"], answer["boxed"]) == ("one, two", "2")
    assert answer["text"].startswith("<think>one")


def test_dash_reads_the_question_from_stdin(run, fake) -> None:
    assert run("ask", "-", stdin="how many?\n").code == 0
    assert fake.asked[0][0] == "how many?"


def test_options_for_videos(run, fake, tmp_path: Path) -> None:
    (tmp_path / "c.mp4").touch()
    paths = [str(tmp_path / "c.mp4"), str(tmp_path)]  # a folder is a video of its pictures
    run("ask", "what?", *paths, "--fps", "0.5", "--max-frames", "6")
    assert [part.sampling for part in fake.asked[0][1]] == [VideoSampling(0.5, 6)] * 2
    run("ask", "what?", *paths, "--sound")
    assert [(p.sampling, p.sound) for p in fake.asked[1][1]] == [(None, True)] * 2
    assert run("ask", "what?", *paths, "--fps", "0").code == 2


@dataclass(frozen=True)
class Depth:
    """Options of media that a plugin could bring."""

    far_away: int = option("How far away a picture is looked at.", 0, least=0)

    def put(self, parts: Sequence[Any]) -> list[Any]:
        if not any(isinstance(part, Image) for part in parts):
            refuse("pictures", far_away=self.far_away)
        return [Image(self) if isinstance(part, Image) else part for part in parts]


class NoDataclass:
    pass


@dataclass(frozen=True)
class Nothing:
    deep: int = option("How deep.", 0)


@dataclass(frozen=True)
class Twice:
    model: str = option("A name that `ming ask` has itself.", "")
    put = Depth.put


@dataclass(frozen=True)
class Odd:
    phase: Nowhere = option("Its type is not there.", 0)  # type: ignore  # noqa: F821, RUF009
    put = Depth.put


def offered(monkeypatch: pytest.MonkeyPatch, *classes: Any) -> Plugins:
    """Plugins that register these classes of options, and nothing else."""
    plugins = Plugins()
    plugins.loaded.append(Plugin("acme", "acme", ()))
    for options in classes:
        entry = OptionsEntry(options.__name__, "a:b", "acme")
        object.__setattr__(entry, "load", lambda options=options: options)
        plugins.options.add(entry)
    monkeypatch.setattr("ming_core.cli.reading.get_plugins", lambda: plugins)
    return plugins


def test_options_of_media_come_from_plugins(
    run, fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise MissingPlugin("'Gone' of acme cannot be loaded")

    plugins = offered(monkeypatch, Depth)
    entry = OptionsEntry("Gone", "a:b", "acme")
    object.__setattr__(entry, "load", gone)
    plugins.options.add(entry)
    picture = tmp_path / "a.png"
    picture.touch()
    run("ask", "what?", str(picture), "--far-away", "3")
    assert fake.asked[0][1][0].source == Depth(3)
    run("ask", "what?", str(picture))
    assert fake.asked[1][1][0].path == picture
    assert run("ask", "what?", "--far-away", "3").err == (
        "ming: 'Gone' of acme cannot be loaded\n"
        "ming: --far-away is about pictures, and there is none; leave it out\n"
    )
    assert run("ask", "what?", str(picture), "--far-away", "-1").code == 2
    assert run("ask", "what?", str(picture), "--fps", "1").code == 2  # nobody brings it


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (NoDataclass, "options 'NoDataclass' are no dataclass of options: "),
        (Nothing, "options 'Nothing' are no dataclass of options: the class has no method put(pa"),
        (Twice, "options 'Twice': --model is an option already"),
        (Odd, "options 'Odd' are no dataclass of options: name 'Nowhere' is not defined"),
    ],
)
def test_wrong_options_are_left_out_alone(
    run, fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, reason: str
) -> None:
    plugins = offered(monkeypatch, Depth, options)
    (tmp_path / "a.png").touch()
    run("ask", "what?", str(tmp_path / "a.png"), "--far-away", "3")
    assert fake.asked[0][1][0].source == Depth(3)
    (failure,) = plugins.failures
    assert failure.distribution == "acme"
    assert failure.reason.startswith(reason)


@pytest.mark.parametrize(
    ("options", "nouns"),
    [(["--fps", "1"], "videos"), (["--sound"], "videos"), (["--channel", "1"], "sounds")],
)
def test_an_option_without_effect_is_refused(run, fake, tmp_path: Path, options, nouns) -> None:
    (tmp_path / "a.png").touch()
    result = run("ask", "what?", str(tmp_path / "a.png"), *options)
    assert result.code == 2
    assert result.err == f"ming: {options[0]} is about {nouns}, and there is none; leave it out\n"
    assert fake.loaded == []


def test_unreadable_media_is_refused_before_loading(run, fake, tmp_path: Path) -> None:
    result = run("ask", "what?", str(tmp_path / "no.png"))
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"ming: cannot read '{tmp_path / 'no.png'}': there is no such file; give the path of a "
        "picture, sound or video\n"
    )
    assert fake.loaded == []


def test_user_errors_are_one_sentence_and_code_2(run, fake) -> None:
    result = run("ask", "x", "--model", "broken")
    assert result == type(result)(2, "", "ming: broken lacks config.json; copy it again\n")
    fake.error = BadMedia("cannot read 'a.png'; convert it to PNG")
    assert run("ask", "x").err == "ming: cannot read 'a.png'; convert it to PNG\n"


def test_interrupt_exits_130_without_a_traceback(run, fake) -> None:
    fake.error = KeyboardInterrupt()
    result = run("ask", "x")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_a_bug_keeps_its_traceback(run, fake) -> None:
    fake.error = ValueError("logits [2, 3] expected")
    with pytest.raises(ValueError, match="logits"):
        run("ask", "x")


def test_missing_question(run, fake) -> None:
    result = run("ask")
    assert result.code == 2
    assert "Missing argument 'question'" in result.err


def test_a_sound_in_place_of_the_question_asks_it(run, fake, tmp_path: Path) -> None:
    spoken, picture = tmp_path / "question.flac", tmp_path / "a.png"
    spoken.touch()
    picture.touch()
    result = run("ask", str(spoken), str(picture), "--json")
    question, (about,), _ = fake.asked[0]
    assert isinstance(question, Audio)
    assert question.path == spoken
    assert about.path == picture
    assert json.loads(result.out)["question"] == str(spoken)


def test_a_question_that_only_ends_like_a_sound_is_text(run, fake) -> None:
    run("ask", "what is in talk.mp3")
    assert fake.asked[0][0] == "what is in talk.mp3"


def test_a_missing_recording_of_a_question_is_told(run, fake) -> None:
    result = run("ask", "nowhere.flac")
    assert result.code == 2
    assert result.err.startswith("ming: cannot read 'nowhere.flac': there is no such file")
    assert fake.loaded == []


@pytest.mark.parametrize("question", ["", "  ", "\n\t", "\u200b\ufeff"])
def test_an_empty_question_is_refused(run, fake, question: str) -> None:
    for result in (run("ask", question), run("ask", "-", stdin=question)):
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("ming: the question is empty; write it")
    assert fake.loaded == []


def test_standard_input_is_read_once(run, fake) -> None:
    for arguments in (["-", "-"], ["what?", "-", "-"]):
        result = run("ask", *arguments, stdin="x")
        assert (result.code, fake.loaded) == (2, [])
        assert result.err.startswith("ming: standard input can be read once only")


def test_web_addresses_are_explained(run, fake) -> None:
    for arguments in (["what?", "https://example.org/a.png"], ["https://example.org/a.wav"]):
        result = run("ask", *arguments)
        assert (result.code, fake.loaded) == (2, [])
        assert "is a web address, which is not fetched; download" in result.err


def test_media_by_uri_and_from_a_pipe(run, fake, tmp_path: Path) -> None:
    picture = tmp_path / "my picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(picture.read_bytes()))
    writer.start()
    assert run("ask", "what?", picture.as_uri(), str(pipe)).code == 0
    writer.join(20)
    by_uri, piped = fake.asked[0][1]
    assert by_uri.path == picture
    assert isinstance(piped, Image)
    assert piped.source.data == picture.read_bytes()


def test_notes_come_after_the_answer(run, fake, monkeypatch) -> None:
    ask = fake.ask

    def noted(*about, **options):
        note_to_user("it is cut off")
        return ask(*about, **options)

    monkeypatch.setattr(fake, "ask", noted)
    assert run("ask", "x").err == "ming: it is cut off\n"
    assert json.loads(run("ask", "x", "--json").out)["notes"] == ["it is cut off"]


def test_errors_of_the_system_are_one_sentence(run, fake) -> None:
    fake.error = OSError(28, "No space left on device", "somewhere")
    result = run("ask", "x")
    assert (result.code, result.out) == (2, "")
    assert result.err == "ming: cannot read or write 'somewhere': No space left on device\n"
