"""What is said in shapes world, by whom, and how it becomes sound and recordings."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import pytest

from ming_recipes.nano import speech
from ming_recipes.nano.speech import Recordings
from ming_recipes.nano.world.hotwords import SIZE, other_words
from ming_recipes.nano.world.names import HOMOPHONES, NAMES, alike, by_sound, number_words
from ming_recipes.nano.world.scene import generator
from ming_recipes.nano.world.speech import (
    CONTEXT_SIZE,
    KIND_WEIGHTS,
    TEST_VOICES,
    TRAIN_VOICES,
    Utterance,
    Voice,
    context_of,
    heard_question,
    transcript,
    utterance_of,
)
from ming_recipes.nano.world.vocabulary import COLORS, HELD_OUT, SHAPES, Language
from ming_recipes.nano.world.voices import JOE, MissingVoice, require, speak
from ming_recipes.nano.world.wordless import WORDLESS, wordless
from ming_recipes.training.runs.stopping import answering_signals

LANGUAGES: tuple[Language, ...] = ("en", "zh")


@pytest.fixture(scope="module")
def trained() -> list[Utterance]:
    return [utterance_of("train", index) for index in range(600)]


@pytest.fixture(scope="module")
def tested() -> list[Utterance]:
    return [utterance_of("test", index) for index in range(300)]


def _names_unseen_pair(said: Utterance) -> bool:
    space = " " if said.lang == "en" else ""
    pairs = (COLORS[c][said.lang] + space + SHAPES[s][said.lang] for c, s in HELD_OUT)
    return any(pair in said.text for pair in pairs)


def test_an_utterance_depends_on_its_index_alone(trained: list[Utterance]) -> None:
    for index in (599, 3, 42):
        assert utterance_of("train", index) == trained[index]
    assert utterance_of("test", 3).text != trained[3].text
    assert len({said.text for said in trained}) > 300


def test_every_kind_of_sentence_is_said_in_both_languages(trained: list[Utterance]) -> None:
    met = {(said.kind, said.lang) for said in trained}
    assert met == set(product(KIND_WEIGHTS, LANGUAGES))
    named = sum(bool(said.names) for said in trained) / len(trained)
    assert named == pytest.approx(KIND_WEIGHTS["name"], abs=0.06)
    assert all((said.question is not None) == (said.kind == "question") for said in trained)


def test_no_voice_of_the_test_is_heard_in_training(
    trained: list[Utterance], tested: list[Utterance]
) -> None:
    for language in LANGUAGES:
        known = {voice for pool in TRAIN_VOICES[language] for voice in pool}
        new = {voice for pool in TEST_VOICES[language] for voice in pool}
        assert known.isdisjoint(new)
        assert {said.voice for said in trained if said.lang == language} <= known
        assert {said.voice for said in tested if said.lang == language} <= new
        assert JOE not in known | new
    # A voice of flite at another pitch is the same voice.
    throats = [
        {
            voice.name.partition("+")[0]
            for pool in pools["en"]
            for voice in pool
            if voice.family == "flite"
        }
        for pools in (TRAIN_VOICES, TEST_VOICES)
    ]
    assert throats == [{"slt", "awb", "kal16"}, {"rms"}]
    accents = {said.voice.family for said in tested if said.lang == "en"}
    assert {"flite", "en-gb-scotland", "en-us"} <= accents
    assert "en-gb-scotland" not in {said.voice.family for said in trained}


def test_pairs_that_were_never_seen_are_never_named_in_training(
    trained: list[Utterance],
) -> None:
    assert not any(map(_names_unseen_pair, trained))
    assert any(_names_unseen_pair(utterance_of("compositional", index)) for index in range(60))


@pytest.mark.parametrize("language", LANGUAGES)
def test_spellings_that_sound_alike_form_groups(language: Language) -> None:
    names = [name for group in HOMOPHONES[language] for name in group]
    assert len(names) == len(set(names))
    for group in HOMOPHONES[language]:
        assert len(group) > 1
        assert all(alike(name, language) == group for name in group)
    assert alike("Emma", "en") == ("Emma",)


def test_by_sound_spellings_are_one() -> None:
    heard = by_sound("tell Kris and Annemarie to see Anne and Shawn", "en")
    assert heard == "tell Chris and Annemarie to see Ann and Sean"
    assert by_sound("章玮有一个圆环", "zh") == "张伟有一个圆环"


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_to_listen_for_hold_no_other_spelling(language: Language) -> None:
    rng = generator(0, 0)
    orders = set()
    for name, friend in zip(NAMES[language], NAMES[language][::-1], strict=True):
        listed = context_of((name, friend), language, rng)
        low, high = CONTEXT_SIZE
        assert low <= len(listed) <= high
        assert {name, friend} <= set(listed)
        for spoken in (name, friend):
            wrong = set(alike(spoken, language)) - {name, friend}
            assert wrong.isdisjoint(listed)
        others = [other for other in listed if other not in (name, friend)]
        groups = {alike(other, language) for other in others}
        assert len(groups) == len(others)  # nor do two that are absent sound alike
        orders.add(listed.index(name))
    assert len(orders) >= 3  # the place does not tell


def test_transcripts_are_written_as_they_are_spoken(
    trained: list[Utterance], tested: list[Utterance]
) -> None:
    names = {name for language in LANGUAGES for name in NAMES[language]}
    for said in (*trained, *tested):
        assert said.text == transcript(said.spoken)
        if said.lang == "zh":
            assert re.fullmatch(r"[\u4e00-\u9fff]+", said.text)
            continue
        words = said.text.split(" ")
        assert all(re.fullmatch("[a-z]+", word) or word in names for word in words), said.text
        assert [word for word in words if word in names] == list(said.names)


def test_numbers_are_words() -> None:
    rng = generator(0, 0)
    english = {number_words(rng, "en") for _ in range(2000)}
    chinese = {number_words(rng, "zh") for _ in range(2000)}
    assert {"one", "nineteen", "twenty", "forty two", "ninety nine"} <= english
    assert len(english) == 99
    assert {"一", "九", "二十一", "九十九"} <= chinese


def test_questions_about_a_sound_have_one_answer(trained: list[Utterance]) -> None:
    asked = [(said, heard_question(said, generator(i, 0))) for i, said in enumerate(trained)]
    kinds = {question.kind for _, question in asked if question is not None}
    assert kinds == {"heard_color", "heard_shape", "heard_name"}
    for said, question in asked:
        if question is None:
            continue
        assert question.lang == said.lang
        assert said.text.count(question.answer) == 1
        assert question.answer.lower() not in question.question
        if question.kind == "heard_name":
            assert alike(question.answer, said.lang) == (question.answer,)


def test_missing_programs_are_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "piper", raising=False)
    for program, advice in (
        ("espeak-ng", "apt install espeak-ng"),
        ("flite", "apt install flite"),
        ("piper", r"pip install 'ming-recipes\[judges\]'"),
    ):
        said = replace(utterance_of("test", 0), voice=Voice(program, "any"))
        with pytest.raises(MissingVoice, match=rf"^{program} .* not installed: {advice}$"):
            speak(said)


@pytest.mark.parametrize(
    "voice",
    [
        Voice("espeak-ng", "en-us+m8"),
        Voice("espeak-ng", "en-gb-scotland+f1"),
        Voice("flite", "rms"),
        JOE,
    ],
    ids=lambda voice: voice.name,
)
def test_a_voice_says_the_same_each_time(voice: Voice) -> None:
    try:
        require(voice.program)
    except MissingVoice as error:
        pytest.skip(str(error))
    said = replace(utterance_of("test", 7), voice=voice, lang="en", spoken="paint the star green.")
    first, again = speak(said), speak(said)
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert 0.05 < np.abs(first).max() <= 1
    slow, fast = (len(speak(replace(said, rate=rate))) for rate in (140, 200))
    assert 0.7 * 16_000 < fast < slow < 4 * 16_000
    assert slow / fast == pytest.approx(200 / 140, rel=0.25)


def test_a_chinese_voice_reads_characters() -> None:
    try:
        require("espeak-ng")
    except MissingVoice as error:
        pytest.skip(str(error))
    short, long = (
        len(speak(replace(utterance_of("test", 8), voice=voice, spoken=text, rate=170)))
        for text in ("红色", "红色星星在左边")
        for voice in [TEST_VOICES["zh"][0][0]]
    )
    assert long > 2 * short  # read as Latin letters, both would last long


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_recordings_go_on_where_they_were_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "power cut"

    def sound(said: Utterance) -> np.ndarray:
        """As many samples as the text has letters, and its length as their level."""
        if broken.exists() and said == utterance_of("val", 4):
            raise RuntimeError("power cut")
        return np.full(len(said.text), len(said.text) / 100, np.float32)

    monkeypatch.setattr(speech, "SHARD", 3)
    monkeypatch.setattr(speech, "speak", sound)
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / ".val.npy.0a.part").touch()  # left by a process that was killed
    recordings = Recordings(tmp_path / "speech", "val", 5)
    broken.touch()
    with pytest.raises(RuntimeError, match="power cut"):
        recordings.prepare()
    (whole,) = (tmp_path / "speech").glob("*")  # the first three; of the others nothing
    made = whole.stat().st_mtime_ns
    broken.unlink()
    recordings.prepare()
    assert whole.stat().st_mtime_ns == made
    assert len(list((tmp_path / "speech").glob("*"))) == 2
    for index in range(5):
        said, samples = recordings[index]
        assert said == utterance_of("val", index)
        assert samples.dtype == np.int16
        assert len(samples) == len(said.text)
        assert samples[0] == round(len(said.text) / 100 * 32767)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_recordings_that_were_torn_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "speak", lambda said: np.full(100, 0.5, np.float32))
    recordings = Recordings(tmp_path, "val", 5)
    recordings.prepare()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for torn in (b"", whole[:50], whole[:-1], bytes(len(whole))):
        speech._load.cache_clear()
        path.write_bytes(torn)
        recordings.prepare()
        assert path.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_records_ends_with_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(speech, "speak", lambda said: time.sleep(60))
    monkeypatch.setattr(speech, "SHARD", 1)

    def record() -> None:
        with answering_signals():
            Recordings(tmp_path, "val", 5).prepare()

    first = multiprocessing.get_context("fork").Process(target=record)
    first.start()
    assert first.pid is not None
    family: list[psutil.Process] = []
    while not family:
        time.sleep(0.05)
        family = psutil.Process(first.pid).children(recursive=True)
    time.sleep(0.5)  # until they know what to do
    os.kill(first.pid, number)
    first.join(20)
    assert first.exitcode == (-9 if number == signal.SIGKILL else 143)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


@pytest.mark.parametrize("kind", WORDLESS)
def test_sounds_without_a_word(kind: str) -> None:
    lengths, levels = set(), []
    for seed in range(12):
        sound = wordless(kind, generator(seed, 0))
        np.testing.assert_array_equal(sound, wordless(kind, generator(seed, 0)))
        assert sound.dtype == np.float32
        assert 0.5 * 16_000 <= len(sound) <= 7 * 16_000
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() <= 1
        lengths.add(len(sound))
        levels.append(float(np.abs(sound).max()))
    assert len(lengths) > 10
    assert (max(levels) < 0.05) == (kind == "silence")


def test_tones_hum_and_noise_sound_as_they_are_called() -> None:
    def flatness(kind: str) -> float:
        """1 for white noise, 0 for a tone: mean over some sounds."""
        found = []
        for seed in range(8):
            power = np.abs(np.fft.rfft(wordless(kind, generator(seed, 0)))) ** 2 + 1e-12
            found.append(np.exp(np.log(power).mean()) / power.mean())
        return float(np.mean(found))

    assert flatness("noise") > 0.05
    assert max(flatness("hum"), flatness("music")) < 0.02
    assert flatness("tone") < 0.01


@pytest.mark.parametrize("language", LANGUAGES)
def test_lists_of_other_words(language: Language) -> None:
    rng = generator(0, 0)
    name, friend = NAMES[language][0], NAMES[language][-1]
    lists = [other_words((name, friend), language, rng) for _ in range(200)]
    low, high = SIZE
    assert {low, high} <= {len(words) for words in lists}
    assert all(low <= len(words) == len(set(words)) <= high for words in lists)
    wrong = {*alike(name, language), *alike(friend, language)} - {name, friend}
    assert all(wrong.isdisjoint(words) for words in lists)
    with_names = [words for words in lists if name in words]
    assert all(friend in words for words in with_names)
    assert len(with_names) == pytest.approx(100, abs=25)
    assert len({words.index(name) for words in with_names}) > 5  # the place does not tell
    assert len({word for words in lists for word in words}) > 200  # no few to learn by heart
    world = {words[language] for table in (COLORS, SHAPES) for words in table.values()}
    assert all(world.isdisjoint(words) for words in lists)
