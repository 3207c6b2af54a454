"""transcribe: what it says to a model, the pieces it gives it, what it makes of the answers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ming_audio import tasks
from ming_audio.config import AudioConfig
from ming_audio.encoder import AudioEncoder
from ming_audio.hotwords import with_listed
from ming_audio.processing import AudioProcessor
from ming_audio.prompts import AudioPrompts, parse, prompts_of, question, tag_of
from ming_audio.tasks import Transcribe
from ming_core import Audio, Video, load, user
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request
from ming_core.errors import BadConfig, BadMedia, MingError, MissingPlugin, UnknownName
from ming_core.media import Text
from ming_core.plugins import get_plugins
from ming_core.release import Release
from ming_core.releases.flash import FLASH as FLASH_RELEASE
from ming_core.releases.lite import LITE_1_0, LITE_1_5
from ming_core.tasks import NoTarget, method_of
from ming_core.testing import ScriptedEngine

RATE = 16_000
transcribe = method_of(Transcribe)
SENTENCE = "Please recognize the language of this speech and transcribe it. Format: oral."
WHISPER = {"n_mels": 80, "n_ctx": 15_000, "n_state": 24, "n_head": 4, "n_layer": 1}


def hearing(n_ctx: int = 15_000, hidden: int = 192) -> dict[str, Any]:
    """The parts of a config.json that describe a small encoder of the usual kind."""
    whisper = WHISPER | {"n_ctx": n_ctx}
    audio = {"whisper_encoder_config": whisper, "ds_kernel_size": 3, "ds_stride": 2}
    return {"llm_config": {"hidden_size": hidden}, "mlp_depth": 2, "audio_config": audio}


class Letters:
    """A tokenizer with a token for each character and each special token."""

    def id(self, token: str) -> int:
        return 0

    def encode(self, text: str) -> list[int]:
        return [1] * len(text)


@dataclass
class Scripted:
    """A model that answers `texts` in turn and remembers what it was asked."""

    texts: Sequence[str] = ()
    release: Release = FLASH_RELEASE
    section: Any = None
    n_ctx: int = 15_000
    window: int = 4096
    keeps: bool = True  # the sounds
    name: str = "scripted"
    tokenizer: Letters = field(default_factory=Letters)
    asked: list[tuple[str, Audio]] = field(default_factory=list)
    request: Any = None  # the last one
    knowledge: None = None

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(lambda request: self.reply(request))

    @property
    def options(self) -> tuple[str, int, int]:
        """How the last answer began, its budget and its rule against repetition."""
        rules = self.request.sampling
        return self.request.begin, rules.max_new_tokens, rules.no_repeat_ngram

    @property
    def format(self) -> Any:
        return self.release.chat(SimpleNamespace(use_interleaved_frame_timestamp=True))  # type: ignore[arg-type]

    def wording(self, section: str) -> Any:
        assert section == "audio_tasks"
        return self.release.wording.get(section, {}), self.section or {}

    @property
    def config(self) -> Any:
        return SimpleNamespace(max_position_embeddings=self.window)

    def encoder(self, modality: str) -> Any:
        assert modality == "audio"
        config = AudioConfig.from_dict(hearing(self.n_ctx))
        return SimpleNamespace(processor=AudioProcessor(config))

    def reply(self, request: Request) -> Answer:
        self.request = request
        (message,) = request.messages
        text, sound = message.parts
        assert isinstance(sound, Audio)
        assert sound.purpose == "transcribe"
        assert isinstance(text, Text)
        self.asked.append((text.text, sound if self.keeps else Audio(None)))
        said = self.texts[len(self.asked) - 1]
        return Answer(said.removesuffix("…"), 3, not said.endswith("…"))


def run(model: Scripted, source: Any, *arguments: Any, **options: Any) -> Any:
    return transcribe(model, source, *arguments, **options)


def speech(*parts: tuple[float, float]) -> np.ndarray:
    """Noise of (seconds, amplitude) each, in four syllables a second: steady noise is no speech."""
    random = np.random.default_rng(0)
    loud = np.concatenate([np.full(round(s * RATE), a) for s, a in parts])
    loud *= 0.05 + np.abs(np.cos(4 * np.pi * np.arange(len(loud)) / RATE))
    return (random.normal(0, 1, len(loud)) * loud).astype(np.float32)


SHORT = speech((0.5, 0), (2, 0.1), (1, 0), (1, 0.1), (0.5, 0))


# Prompts


FLASH = AudioPrompts()
LITE = prompts_of([LITE_1_0.wording["audio_tasks"]])


def test_the_published_sentences() -> None:
    assert question(FLASH) == SENTENCE
    assert question(FLASH, punctuated=True).endswith("transcribe it. Format: oral, punctuated.")
    words = ["Gansu Province", "Uyghur", "Xinjiang", "clay sealing method", "Umsh stew"]
    assert question(FLASH, domain="Culinary Traditions", hotwords=words) == (
        f"{SENTENCE}This is an audio about Culinary Traditions.This audio may contains the "
        "following words or phrases:Gansu Province,Uyghur,Xinjiang,clay sealing method,Umsh stew."
    )
    assert question(LITE) == SENTENCE
    assert prompts_of([LITE_1_5.wording["audio_tasks"]]) == LITE
    assert prompts_of([FLASH_RELEASE.wording.get("audio_tasks", {})]) == FLASH


def test_context_stands_before_the_hotwords() -> None:
    assert question(FLASH, context="we left {hotwords}.", hotwords=["曹雷"]) == (
        f"{SENTENCE} we left {{hotwords}}. "
        "This audio may contains the following words or phrases:曹雷."
    )
    assert question(FLASH, context="we left.") == f"{SENTENCE} we left."


def test_a_dialect_is_a_tag_of_flash_and_a_sentence_of_lite() -> None:
    assert tag_of(FLASH, "zh", "上海") == "上海"
    assert question(FLASH, dialect="上海") == SENTENCE
    assert tag_of(LITE, "zh", "上海") == "Chinese"
    assert question(LITE, dialect="上海") == f"{SENTENCE}This is an audio in the dialect 上海."


def test_hints_without_effect() -> None:
    with pytest.raises(BadConfig, match="language has no effect beside a dialect, which this mod"):
        run(Scripted(), SHORT, "zh", dialect="上海")
    with pytest.raises(BadConfig, match="punctuated has no effect: this model has one way"):
        run(Scripted(section={"transcribe": "write."}), SHORT, punctuated=True)


def test_languages_go_by_code_or_name() -> None:
    assert [tag_of(FLASH, name, None) for name in ("zh", "EN", "chinese", None)] == [
        "Chinese",
        "English",
        "Chinese",
        None,
    ]
    with pytest.raises(UnknownName, match="unknown language 'zg'; known: ar, de, en"):
        tag_of(FLASH, "zg", None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Chinese\t也正是", ("Chinese", "也正是")),
        ("上海\t侬好\t啊", ("上海", "侬好\t啊")),
        ("no tag here", (None, "no tag here")),
        ("\tno tag here", (None, "no tag here")),
        ("English", ("English", "")),  # the tab at the end of an answer is stripped
        ("", (None, "")),
    ],
)
def test_the_tag_of_an_answer(answer: str, expected: Any) -> None:
    assert parse(FLASH, answer) == expected


def test_a_checkpoint_has_its_own_sentences() -> None:
    section = {
        "transcribe": "write it down.",
        "hotwords": " words: {hotwords}.",
        "hotword_separator": ", ",
        "languages": {"en": "en", "zh": "zh"},
        "no_repeat_ngram": 4,
    }
    prompts = prompts_of([section])
    assert question(prompts, punctuated=True, hotwords=["a", "b"]) == (
        "write it down. words: a, b."
    )
    assert prompts.domain == FLASH.domain
    model = Scripted(["zh\t你好"], section=section)
    heard = run(model, SHORT)
    assert (heard.text, heard.language) == ("你好", "zh")
    assert model.options == ("", 512, 4)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ([], r"audio_tasks must be an object of sentences, not \[\]"),
        ({"transcibe": "x"}, r"unknown key of audio_tasks 'transcibe'; did you mean 'transcribe'"),
        ({"transcribe": 3}, r"audio_tasks.transcribe is 3; it must be a sentence"),
        ({"pause": True}, r"audio_tasks.pause is True; it must be seconds from 0 to 5"),
        ({"hotwords": "words:"}, r"audio_tasks.hotwords is .*; it must have \{hotwords\} in it"),
        ({"dialect": "x"}, r"it must have \{dialect\} in it"),
        ({"languages": {"en": 3}}, r"audio_tasks.languages is .*; it must be an object of tags"),
        ({"languages": {}}, r"it must be an object of tags by code"),
        ({"no_repeat_ngram": -1}, r"no_repeat_ngram is -1; it must be a whole number from 0 on"),
    ],
    ids=str,
)
def test_a_section_that_cannot_be_used(section: Any, sentence: str) -> None:
    with pytest.raises(MingError, match=sentence) as caught:
        prompts_of(FLASH_RELEASE.worded("audio_tasks", {"audio_tasks": section}))
    assert isinstance(caught.value, BadConfig | UnknownName)


# Pieces and answers


def test_a_short_sound_is_heard_as_a_whole() -> None:
    """As the releases do, whose sentences are not torn at pauses; times are those of speech."""
    model = Scripted(["English\thello there"])
    heard = run(model, SHORT)
    assert (heard.text, heard.language, heard.seconds, heard.notes) == ("hello there", "en", 5, ())
    ((asked, sound),) = model.asked
    assert asked == SENTENCE
    assert np.array_equal(sound.source, SHORT)
    (segment,) = heard.segments
    assert (segment.start, segment.end) == pytest.approx((0.3, 4.7), abs=0.05)


def test_it_is_cut_for_subtitles() -> None:
    model = Scripted(["English\thello", "English\tthere"])
    heard = run(model, SHORT, cut=True)
    assert heard.text == "hello there"
    assert [s.text for s in heard.segments] == ["hello", "there"]
    times = [time for s in heard.segments for time in (s.start, s.end)]
    assert times == pytest.approx([0.3, 2.7, 3.3, 4.7], abs=0.05)


def test_a_model_of_single_sentences_hears_them_one_by_one() -> None:
    model = Scripted(["English\thello", "English\tthere"], section={"pause": 0.3})
    assert run(model, SHORT).text == "hello there"
    assert [len(sound.source) < len(SHORT) for _, sound in model.asked] == [True, True]
    for cut in (False, True):  # one sentence is heard as it stands
        model = Scripted(["English\thello"], section={"pause": 1.5}, n_ctx=800)
        assert run(model, SHORT, cut=cut).text == "hello"
        assert np.array_equal(model.asked[0][1].source, SHORT)


def test_a_list_of_words_changes_only_what_it_names() -> None:
    words = ["Jon", "clay vessels", "曹雷"]
    for plain, listed, wanted in (
        ("tell John two stars", "tell Jon to hearts", "tell Jon two stars"),
        ("i see clay weasels now", "we see clay vessels there", "i see clay vessels now"),
        ("我是曹蕾啊", "你是曹雷呀", "我是曹雷啊"),
        ("two stars", "two hearts", "two stars"),
        ("English\tthe end", "English\tJon the end", "English\tJon the end"),
    ):
        assert with_listed(plain, listed, words) == wanted
    model = Scripted(["English\ttell Jon to hearts", "English\ttell John two stars"])
    model.section = {"compare_hotwords": True}
    assert run(model, SHORT, hotwords=words).text == "tell Jon two stars"
    assert [words[0] in asked for asked, _ in model.asked] == [True, False]


def test_what_a_model_does_not_know_is_left_out_with_a_note() -> None:
    model = Scripted(["English\tnonsense", "English\there"])
    reply = model.reply

    def unsure(request: Request) -> Answer:
        answer = reply(request)
        return replace(answer, sure="here" in answer.text)

    model.reply = unsure  # type: ignore[method-assign]
    heard = run(model, SHORT, cut=True)
    assert (heard.text, len(heard.segments)) == ("here", 1)
    assert heard.notes == ("what sounds at 0.3-2.7 s is no speech that the model knows",)
    model.asked.clear()
    silent = run(model, SHORT)
    assert (silent.text, silent.segments) == ("", ())
    assert silent.notes[0] == "no speech was heard"


def test_long_speech_is_cut_joined_and_reported() -> None:
    """Words that two pieces heard are written once, and times do not overlap."""
    model = Scripted(["English\tone two thr", "English\ttwo three four…", "Chinese\t好"])
    reported: list[tuple[float, float | None]] = []
    sound = speech((45, 0.1), (6, 0), (4, 0.1))
    heard = run(model, sound, batch=2, progress=lambda *at: reported.append(at))
    assert heard.text == "one two three four好"
    assert [s.text for s in heard.segments] == ["one two", "three four", "好"]
    assert [s.language for s in heard.segments] == ["en", "en", "zh"]
    assert heard.language == "en"
    first, second, third = heard.segments
    assert first.end == pytest.approx(second.start)
    assert (third.start, third.end) == pytest.approx((50.8, 55), abs=0.1)
    assert model.engine.together == [2, 2, 1]
    assert reported == [(first.end, 55), (second.end, 55), (55, 55)]
    assert heard.notes == (
        "the text of 1 of 3 pieces was cut off; allow more than max_new_tokens 512",
    )
    assert all(len(sound.source) <= 30 * RATE for _, sound in model.asked)


def test_pieces_are_no_longer_than_the_model_can_hear() -> None:
    model = Scripted(["English\ta"] * 20, n_ctx=400)  # 8 s
    run(model, speech((40, 0.1)))
    assert max(len(sound.source) for _, sound in model.asked) <= 8 * RATE


def test_silence_is_an_empty_transcript_with_a_note() -> None:
    for seconds in (2, 70):
        model = Scripted()
        heard = run(model, np.zeros(seconds * RATE, np.float32))
        assert (heard.text, heard.language, heard.segments) == ("", None, ())
        assert heard.notes == ("no speech was heard",)
        assert heard.seconds == seconds
        assert model.asked == []


def test_a_hint_begins_the_answer() -> None:
    model = Scripted(["你好"])
    heard = run(model, SHORT, "zh")
    assert (heard.text, heard.language) == ("你好", "zh")
    assert model.options[0] == "Chinese\t"
    model = Scripted(["Chinese"])  # a word, since the tag was given
    assert run(model, SHORT, language="en").text == "Chinese"
    model = Scripted(["侬好"])
    assert run(model, SHORT, dialect="上海").language == "上海"
    assert model.options[0] == "上海\t"


def test_context_and_hotwords_reach_the_model() -> None:
    model = Scripted(["English\tx"], release=LITE_1_5)
    words = ["Umsh  stew", "", "Ming", "Ming "]
    run(model, SHORT, context=" we\nleft. ", hotwords=words, domain="food", max_new_tokens=9)
    assert model.asked[0][0] == (
        f"{SENTENCE}This is an audio about food. we left. "
        "This audio may contains the following words or phrases:Umsh stew,Ming."
    )
    assert model.options == ("", 9, 10)


@pytest.mark.parametrize("wrap", [lambda x: x, str, Audio, Video, Path.read_bytes])
def test_sources(wrap: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SHORT, RATE)
    model = Scripted(["English\thello"])
    assert run(model, wrap(path)).text == "hello"
    assert len(model.asked[0][1].source) == len(SHORT)


def test_what_has_no_room_is_refused_with_what_has() -> None:
    words = [f"word{i}" for i in range(10_000)]
    model = Scripted(["English\tx"])
    with pytest.raises(BadConfig) as caught:
        run(model, SHORT, hotwords=words)
    fits = int(str(caught.value).partition("the first ")[2].split()[0])
    assert "the context of scripted has room for 2,834; the first" in str(caught.value)
    assert f"{fits} of the 10000 hotwords fit, so give fewer" in str(caught.value)
    assert run(model, SHORT, hotwords=words[:fits]).text == "x"
    with pytest.raises(BadConfig, match="of the"):
        run(model, SHORT, hotwords=words[: fits + 1])
    with pytest.raises(BadConfig, match=r"the question has 5,.* tokens, .*; shorten the context"):
        run(model, SHORT, context="x" * 5000)


def test_bad_arguments() -> None:
    wrong: Any = ["Ming"]
    with pytest.raises(BadConfig, match=r"context of transcribe is \['Ming'\]; it must be a text"):
        run(Scripted(), SHORT, context=wrong)
    with pytest.raises(BadConfig, match=r"hotwords must be a list of words, .*, not 'Ming,Ling'"):
        run(Scripted(), SHORT, hotwords="Ming,Ling")
    with pytest.raises(BadConfig, match="batch is 0; it must be at least 1"):
        run(Scripted(), SHORT, batch=0)
    with pytest.raises(BadMedia, match=r"there is no sound file 'none\.wav'"):
        run(Scripted(), "none.wav")


def test_memory_does_not_grow_with_the_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine minutes take no more than three do."""
    block = speech(*[(5, 0.1), (1, 0)] * 5)

    def peak(minutes: int) -> int:
        def blocks(_: Any, **__: Any) -> Iterator[np.ndarray]:
            return (block.copy() for _ in range(2 * minutes))

        monkeypatch.setattr(tasks, "stream_audio", blocks)
        model = Scripted(["English\tx"] * 10 * minutes, keeps=False)
        tracemalloc.start()
        heard = run(model, "long.wav", batch=4)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert heard.seconds == 60 * minutes
        return used

    assert peak(9) <= 1.1 * peak(3)


# Targets


def test_the_target_has_the_tag_of_the_language() -> None:
    model: Any = Scripted(["English\thello"])
    assert Transcribe(SHORT).target(model, "hello", "en") == ["English\thello"]
    assert Transcribe(SHORT, "zh").target(model, "你好") == ["你好"]  # the question names it
    with pytest.raises(NoTarget, match="the model writes the language before the text; say which"):
        Transcribe(SHORT).target(model, "hello")
    with pytest.raises(UnknownName, match="unknown language 'zg'"):
        Transcribe(SHORT).target(model, "hello", "zg")
    task = Transcribe(SHORT, cut=True)
    assert len(list(task.requests(model))) == 2
    heard = run(Scripted(["English\thello", "English\tthere"]), SHORT, cut=True)
    assert task.target(model, heard) == ["English\thello", "English\tthere"]
    with pytest.raises(NoTarget, match="the sound has 2 pieces, and 1 texts are wanted"):
        task.target(model, "hello", "en")
    twice: Any = Scripted(section={"compare_hotwords": True})
    listed = Transcribe(SHORT, "en", hotwords=["Jon"])
    assert len(list(listed.requests(twice))) == 2
    assert listed.target(twice, "tell Jon") == ["tell Jon", "tell Jon"]


def test_what_the_model_is_not_sure_of_may_be_kept() -> None:
    model = Scripted(["English\tnonsense"] * 2)
    reply = model.reply
    model.reply = lambda request: replace(reply(request), sure=False)  # type: ignore[method-assign]
    assert run(model, SHORT).text == ""
    assert run(model, SHORT, unsure=True).text == "nonsense"


def test_a_short_sound_is_heard_as_a_whole_if_asked_for() -> None:
    model = Scripted(["English\thello there"], section={"pause": 0.3})
    assert run(model, SHORT, cut=False).text == "hello there"
    assert np.array_equal(model.asked[0][1].source, SHORT)


# A whole model, with random ears


@pytest.fixture(scope="module")
def model() -> Any:
    """nano with small random ears in place of its own; it writes on until its budget ends."""
    loaded = load("nano")
    loaded.format = replace(loaded.format, stop="<audioPatch>")
    torch.manual_seed(0)
    config = hearing(1500, loaded.config.hidden_size)
    loaded.omni.encoders["audio"] = AudioEncoder.from_config(config, {}).eval()
    loaded.knowledge = None  # it is about nano's own ears
    return loaded


def test_a_whole_model_transcribes(model: Any) -> None:
    sound = speech(*[(1, 0.1), (1, 0)] * 4)
    together = model.transcribe(sound, "zh", cut=True, max_new_tokens=6)
    alone = model.transcribe(sound, "zh", cut=True, max_new_tokens=6, batch=1)
    assert together == alone
    assert len(together.segments) == 4
    assert together.seconds == 8
    assert together.text
    assert together.notes[0].startswith("the text of 4 of 4 pieces was cut off")


def test_the_beginning_is_not_repeated_but_read(model: Any) -> None:
    talk = [user(SENTENCE, Audio(SHORT, "transcribe"))]
    (free,) = model.answer_batch([talk], max_new_tokens=8)
    (begun,) = model.answer_batch([talk], begin="this is a red", max_new_tokens=8)
    assert (free.tokens, begun.tokens) == (8, 8)
    assert begun.text != free.text
    assert not begun.text.startswith("this is a red")


def test_a_model_without_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = replace(load("nano").sources, config={})
    deaf = Scripted()
    monkeypatch.setattr(deaf, "encoder", sources.load)
    with pytest.raises(MissingPlugin, match=r"this model has no part for audio: its config\.json"):
        transcribe(deaf, SHORT)


def test_it_is_registered() -> None:
    entry = get_plugins().tasks["transcribe"]
    assert entry.load() is Transcribe
    assert (entry.takes, entry.gives) == (("audio",), "text")
