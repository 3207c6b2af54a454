"""`ming transcribe`: output, files, folders that are resumed, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from ming_audio.config import AudioConfig
from ming_audio.processing import AudioProcessor
from ming_core.chat import FLASH
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request
from ming_core.plugins import get_plugins

RATE = 16_000
AUDIO = {
    "whisper_encoder_config": {
        "n_mels": 80,
        "n_ctx": 15_000,
        "n_state": 24,
        "n_head": 4,
        "n_layer": 1,
    },
    "ds_kernel_size": 3,
    "ds_stride": 2,
}
CONFIG = {"llm_config": {"hidden_size": 8}, "mlp_depth": 2, "audio_config": AUDIO}

MakeSound = Callable[..., str]


@pytest.fixture
def model(fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake model with ears, that says the number of each piece it hears."""
    processor = AudioProcessor(AudioConfig.from_dict(CONFIG))
    fake.name, fake.format = "fake", FLASH
    fake.wording = lambda section: ()
    fake.config = SimpleNamespace(max_position_embeddings=4096)
    fake.tokenizer = SimpleNamespace(id=lambda token: 0, encode=lambda text: [1] * len(text))
    fake.encoder = lambda modality: SimpleNamespace(processor=processor)
    fake.questions, fake.options, fake.interrupt_at = [], ("", {}), -1

    def reply(request: Request) -> Answer:
        fake.options = (request.begin, fake.chosen(request))
        if len(fake.questions) == fake.interrupt_at:
            raise KeyboardInterrupt
        fake.questions.append(request.messages[0].text)
        tag = "" if request.begin else "English\t"
        return Answer(f"{tag}piece {len(fake.questions)}", 3, fake.stopped)

    fake.reply = reply
    return fake


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSound:
    """Makes sounds of two seconds, two words with a pause, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, level: float = 0.1) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        loud = np.repeat([level, 0, level], [RATE // 2, RATE, RATE // 2])
        soundfile.write(name, np.random.default_rng(0).normal(0, 1, 2 * RATE) * loud, RATE)
        return name

    return make


def texts(folder: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_one_file_prints_the_text_only(run, model, sound) -> None:
    result = run("transcribe", sound("a.wav"), "--max-new-tokens", "9")
    assert (result.code, result.out, result.err) == (0, "piece 1\n", "")
    assert model.options == ("", {"max_new_tokens": 9})


def test_hints_reach_the_model(run, model, sound) -> None:
    Path("names.txt").write_text("\ufeffMing\n\n Umsh stew \n", "utf-8")
    hints = ["--language", "zh", "--context", "we left.", "--hotwords", "names.txt"]
    assert run("transcribe", sound("a.wav"), *hints, "--domain", "food").code == 0
    assert model.options[0] == "Chinese\t"
    assert model.questions[-1].endswith(
        "Format: oral.This is an audio about food. we left. "
        "This audio may contains the following words or phrases:Ming,Umsh stew."
    )
    assert run("transcribe", "a.wav", "--dialect", "上海", "--punctuated").code == 0
    assert model.options[0] == "上海\t"
    assert model.questions[-1].endswith("Format: oral, punctuated.")


def test_lists_of_hotwords_of_other_editors(run, model, sound) -> None:
    sound("a.wav")
    for data in ("Zoë\r\nMing\r\n".encode("utf-16"), "\ufeffZoë\x1b[31m\nMing\x1a".encode()):
        Path("names.txt").write_bytes(data)
        assert run("transcribe", "a.wav", "--hotwords", "names.txt").code == 0
        assert "Zoë" in model.questions[-1]
        assert model.questions[-1].isprintable()
    for data, reason in (
        ("Zoë".encode("latin-1"), "it is not UTF-8"),
        (b"a\0b", "it is no text"),
        (bytes(5 << 20), "it has more than 4 MB"),
    ):
        Path("names.txt").write_bytes(data)
        result = run("transcribe", "a.wav", "--hotwords", "names.txt")
        assert result.code == 2
        assert f"cannot read the hotwords in 'names.txt': {reason}; give a text" in result.err
    result = run("transcribe", "a.wav", "--hotwords", "/dev/zero")
    assert "'/dev/zero': it has more than 4 MB" in result.err


def test_hotwords_come_from_a_pipe_or_a_uri(run, model, sound) -> None:
    sound("a.wav")
    Path("names.txt").write_text("Zoë", "utf-8")
    uri = Path("names.txt").resolve().as_uri()
    for source, stdin in (("-", "Zoë\n"), (uri, "")):
        assert run("transcribe", "a.wav", "--hotwords", source, stdin=stdin).code == 0
        assert "Zoë" in model.questions.pop()
    result = run("transcribe", "-", "--hotwords", "-", stdin="Zoë")
    assert "standard input can be read once only" in result.err


def test_each_channel_tells_who_speaks(run, model, sound) -> None:
    tone = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write("call.wav", np.stack([np.r_[tone, 0 * tone], np.r_[0 * tone, tone]], 1), RATE)
    assert run("transcribe", "call.wav", "--channel", "each").out == "[0] piece 1\n[1] piece 2\n"
    result = run("transcribe", "call.wav", "--channel", "each", "--json")
    (found,) = json.loads(result.out)["results"]
    assert [segment["channel"] for segment in found["segments"]] == [0, 1]
    out = run("transcribe", "call.wav", "--channel", "each", "-f", "srt").out
    assert [line for line in out.splitlines() if "piece" in line] == ["[0] piece 5", "[1] piece 6"]
    assert run("transcribe", "call.wav", "--channel", "1").out == "piece 7\n"
    assert run("transcribe", "call.wav").out == "piece 8\n"
    for wrong, sentence in (
        ("2", "call.wav has the channels 0 to 1, so there is no channel 2"),
        ("left", "--channel is 'left'; it must be mix or a number, from 0 for the first"),
        ("-1", "--channel is '-1'"),
    ):
        result = run("transcribe", "call.wav", "--channel", wrong)
        assert result.code == 2
        assert sentence in result.err


def test_a_recording_that_breaks_off_is_told(run, model, sound) -> None:
    data = Path(sound("a.wav")).read_bytes()
    Path("b.wav").write_bytes(data[: len(data) * 9 // 20])
    result = run("transcribe", "b.wav", "--json")
    (found,) = json.loads(result.out)["results"]
    sentence = "b.wav breaks off at 0.9 s; what it holds was used"
    assert found["notes"] == [sentence]
    assert found["seconds"] == pytest.approx(0.9, abs=0.01)
    assert sentence in result.err


def test_the_suffix_tells_the_format(run, model, sound) -> None:
    """Subtitles are cut at pauses."""
    path = sound("a.wav")
    assert run("transcribe", path, "-o", "a.srt").out == ""
    assert Path("a.srt").read_text("utf-8") == (
        "1\n00:00:00,000 --> 00:00:00,700\npiece 1\n\n2\n00:00:01,300 --> 00:00:02,000\npiece 2\n"
    )
    assert run("transcribe", path, "--format", "vtt").out.startswith("WEBVTT\n\n00:00:00.000 -->")
    assert json.loads(run("transcribe", path, "-f", "json").out)["language"] == "en"
    # a file that was named is written again
    assert run("transcribe", path, "-o", "a.srt").code == 0
    assert "piece 6" in Path("a.srt").read_text("utf-8")


def test_json(run, model, sound) -> None:
    result = run("transcribe", sound("a.wav"), "--json")
    assert json.loads(result.out) == {
        "task": "transcribe",
        "model": "nano",
        "results": [
            {
                "file": "a.wav",
                "text": "piece 1",
                "language": "en",
                "segments": [
                    {
                        "start": 0.0,
                        "end": 2.0,
                        "text": "piece 1",
                        "language": "en",
                        "confidence": 1.0,
                    }
                ],
                "seconds": 2.0,
                "notes": [],
            }
        ],
    }


def test_several_files_have_headings(run, model, sound) -> None:
    result = run("transcribe", sound("a.wav"), sound("b.flac"), "a.wav")
    assert result.out == "==> a.wav <==\npiece 1\n\n==> b.flac <==\npiece 2\n\n"


def test_a_folder_keeps_its_shape(run, model, sound) -> None:
    for name in ("in/b.wav", "in/sub/a.wav", "in/a.wav", "in/a.flac", "in/.hidden.wav"):
        sound(name)
    Path("in/notes.txt").write_text("no sound", "utf-8")
    assert run("transcribe", "in", "-o", "out").code == 0
    assert texts("out") == {
        "a.flac.txt": "piece 1\n",
        "a.wav.txt": "piece 2\n",
        "b.txt": "piece 3\n",
        "sub/a.txt": "piece 4\n",
    }
    assert model.loaded == [("nano", "auto", "auto")]


def test_an_interrupted_folder_is_resumed(run, model, sound) -> None:
    for name in "abcd":
        sound(f"in/{name}.wav")
    model.interrupt_at = 2
    assert run("transcribe", "in", "-o", "out").code == 130
    assert texts("out") == {"a.txt": "piece 1\n", "b.txt": "piece 2\n"}
    model.interrupt_at = -1
    result = run("transcribe", "in", "-o", "out", "--json")
    assert [r.get("skipped", False) for r in json.loads(result.out)["results"]] == [
        True,
        True,
        False,
        False,
    ]
    assert texts("out") == {f"{name}.txt": f"piece {i}\n" for i, name in enumerate("abcd", 1)}
    loads = len(model.loaded)
    assert run("transcribe", "in", "-o", "out").code == 0
    assert len(model.loaded) == loads  # nothing to do, nothing loaded
    assert run("transcribe", "in", "-o", "out", "--again").code == 0
    assert texts("out")["a.txt"] == "piece 5\n"


def test_a_bad_file_does_not_stop_the_others(run, model, sound) -> None:
    sound("in/a.wav")
    Path("in/b.wav").write_bytes(b"no sound at all")
    sound("in/c.wav")
    result = run("transcribe", "in", "-o", "out")
    assert result.code == 2
    assert "ming: in/b.wav is no sound in a known format" in result.err
    assert result.err.endswith("ming: 1 of 3 files could not be read\n")
    assert list(texts("out")) == ["a.txt", "c.txt"]
    alone = run("transcribe", "in/b.wav")
    assert (alone.code, alone.err.count("\n")) == (2, 1)


def test_silence_and_torn_texts_are_told(run, model, sound) -> None:
    result = run("transcribe", sound("a.wav", 0.0), "-q")
    assert (result.code, result.out) == (0, "\n")
    assert result.err == "ming: a.wav: no speech was heard\n"
    model.stopped = False
    result = run("transcribe", sound("a.wav"))
    assert result.err == (
        "ming: a.wav: the text of 1 of 1 pieces was cut off; allow more than max_new_tokens 512\n"
    )


def test_progress_is_for_terminals(run, model, sound) -> None:
    result = run("transcribe", sound("a.wav"), tty=True)
    assert "0.0 of 0.0 min\r\x1b[K" in result.err
    assert "2.0 s of sound in" in result.err
    assert run("transcribe", "a.wav", "-q", tty=True).err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.wav"], "there is no sound file 'none.wav'; check the path"),
        (["empty"], "the folder 'empty' has no sound or video; check the path"),
        (["a.wav", "--hotwords", "none.txt"], "cannot read the hotwords in 'none.txt': No such"),
        (["a.wav", "--hotwords", "a.wav"], "cannot read the hotwords in 'a.wav': it is not UTF-8"),
        (["a.wav", "-o", "no/a.txt"], "cannot write 'no/a.txt': there is no folder 'no'"),
        (["a.wav", "b.wav", "-o", "x.txt"], "'x.txt' is one file, and there may be several texts"),
        (["a.wav", "sub/a.wav", "-o", "empty"], "would have one name, 'empty/a.wav.txt'; give the"),
    ],
    ids=str,
)
def test_errors_of_use(run, model, sound, arguments: list[str], sentence: str) -> None:
    """Told before a model is loaded."""
    for name in ("a.wav", "b.wav", "sub/a.wav"):
        sound(name)
    Path("empty").mkdir()
    result = run("transcribe", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert model.loaded == []


def test_errors_of_the_task(run, model, sound) -> None:
    sound("a.wav")
    Path("names.txt").write_text("\n".join(f"word{i}" for i in range(10_000)), "utf-8")
    result = run("transcribe", "a.wav", "--hotwords", "names.txt")
    assert result.code == 2
    assert "of the 10000 hotwords fit, so give fewer" in result.err
    assert "unknown language 'zz'" in run("transcribe", "a.wav", "-l", "zz").err


def test_without_ming_audio_the_hint_names_it(
    run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("MING_DISABLE_PLUGINS", "ming-audio")
    get_plugins.cache_clear()
    request.addfinalizer(get_plugins.cache_clear)
    result = run("transcribe", "a.wav")
    assert result.code == 2
    assert result.err.startswith("ming: the command 'transcribe' needs ming-audio")
