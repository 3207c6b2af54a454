"""How well a model hears: error rates of what it writes down of held-out speech.

Sentences are those of the split "test", in voices that training never heard: new variants of known
accents, a new accent, a new voice of flite, and Piper's, whose whole family is new. Every utterance
is heard twice, alone and with names to listen for (hotwords), the right spelling among them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ming_audio import normalisers
from ming_audio.evaluate import error_score
from ming_audio.metrics import EntityCase, Errors, Recall, cer, entity_case, wer
from ming_core.errors import MingError
from ming_core.evaluation import Row, Sample, Score
from ming_core.media import Message
from ming_core.notes import note_to_user
from ming_recipes.nano.config import NanoPerception
from ming_recipes.nano.world.names import by_sound
from ming_recipes.nano.world.scene import generator, seed_of
from ming_recipes.nano.world.speech import TRAIN_VOICES, Utterance, Voice, context_of, utterance_of
from ming_recipes.nano.world.vocabulary import Language
from ming_recipes.nano.world.voices import JOE, MissingVoice, require, speak

if TYPE_CHECKING:
    from ming_audio.tasks import Transcribe
    from ming_core.api import OmniModel
    from ming_core.engine.sampling import SamplingOptions

LANGUAGES: tuple[Language, ...] = ("en", "zh")
HEARING_STREAM = 8
BATCH = 32
LONGEST = 96  # tokens; the longest utterance has about 40

METRICS: Mapping[Language, tuple[str, Callable[..., Errors], normalisers.Language]] = {
    "en": ("wer", wer, "English"),
    "zh": ("cer", cer, "Mandarin"),
}
"""What is counted in a language: its name, how, and what the metrics call the language."""

_FAMILIES = {voice.family for pools in TRAIN_VOICES.values() for pool in pools for voice in pool}


@dataclass(frozen=True, eq=False)
class Spoken:
    """An utterance of the split "test". sound: [N] float32 at 16 kHz. listed: names to listen for,
    all that are spoken among them and none that sounds like one of those."""

    index: int
    said: Utterance
    sound: np.ndarray
    listed: tuple[str, ...]


def why_unheard(model: OmniModel) -> str | None:
    """The reason why hearing cannot be scored: no ears, or nobody to speak. None if it can."""
    try:
        model.sources.encoder_entry("audio")
        require("espeak-ng", "flite")
    except MingError as error:
        return str(error)
    return None


def utterances(language: Language) -> Iterator[tuple[int, Utterance]]:
    """The held-out utterances of a language with their indices, without an end."""
    for index in itertools.count():
        said = utterance_of("test", index)
        if said.lang == language:
            yield index, said


def spoken(found: Iterable[tuple[int, Utterance]], voice: Voice | None = None) -> Iterator[Spoken]:
    """Held-out utterances aloud, in a given voice or their own. Raises MissingVoice."""
    for index, said in found:
        said = said if voice is None else replace(said, voice=voice)
        listed = context_of(said.names, said.lang, hearing_draws(index))
        yield Spoken(index, said, speak(said), listed)


def hearing_draws(index: int) -> np.random.Generator:
    """What is drawn for an utterance when it is used as a test."""
    return generator(seed_of("test", index), HEARING_STREAM)


def speech_samples(count: int) -> Iterator[Sample]:
    """`count` utterances of each language to write down ("speech en", …), the shortest first.

    For the rates of names there are as many utterances about people beside them. Columns with
    "names listed": the same with names to listen for. "new family en": Piper's voice, left out with
    a note where it is missing. Raises MissingVoice if another program is.
    """
    for language in LANGUAGES:
        found = dict(islice(utterances(language), count))
        about_people = ((index, said) for index, said in utterances(language) if said.names)
        found |= islice(about_people, count)
        yield from _columns("speech", list(spoken(found.items())), count)
    try:
        require(JOE.program)
    except MissingVoice as error:
        note_to_user(f"a new family of voices is not scored: {error}")
        return
    yield from _columns("new family", list(spoken(islice(utterances("en"), count), JOE)), count)


def is_speech(column: str) -> bool:
    """Whether a column is one of speech to write down."""
    return column.startswith(("speech", "new family"))


def _columns(title: str, those: Sequence[Spoken], count: int) -> Iterator[Sample]:
    """The samples without and with names to listen for. Names are counted in all of them, and
    words in the first `count`."""
    counted = {one.index for one in those[:count]}
    # Similar lengths together: they take about as many tokens.
    those = sorted(those, key=lambda one: len(one.sound))
    for listing in (False, True):
        for one in those:
            facts = {
                "text": one.said.text,
                "names": list(one.said.names),
                "voice": _kind(one.said.voice),
                "counted": one.index in counted,
                "trained": one.said.text in trained_sentences(),
            }
            column = f"{title}{', names listed' if listing else ''} {one.said.lang}"
            yield Sample(str(one.index), facts, column, Heard(one, listing))


@dataclass(frozen=True)
class Heard:
    """An utterance to write down, with or without names to listen for."""

    spoken: Spoken
    listing: bool

    @property
    def task(self) -> Transcribe:
        return hearing(self.spoken.sound, self.spoken.listed if self.listing else ())


def hearing(sound: np.ndarray, listed: Sequence[str]) -> Transcribe:
    """The task of writing down a short sound as a whole, sure or not, with names to listen for.

    sound: [N] float32 at 16 kHz, no longer than the model hears at once.
    """
    from ming_audio.tasks import Transcribe  # scoring needs no model

    sampling: SamplingOptions = {"max_new_tokens": LONGEST}
    return Transcribe(sound, hotwords=listed, cut=False, unsure=True, sampling=sampling)


def request(model: OmniModel, sound: np.ndarray, listed: Sequence[str]) -> list[Message]:
    """What `transcribe` asks about a short sound, with names to listen for."""
    first, *_ = hearing(sound, listed).requests(model)
    return list(first.messages)


def error_rate(language: Language, pairs: Sequence[tuple[str, str]]) -> float:
    """WER (en) or CER (zh) of pairs of what was said and what was heard."""
    _, count, _ = METRICS[language]
    return count([said for said, _ in pairs], [heard for _, heard in pairs]).rate


Named = tuple[Language, str, str, Sequence[str]]
"""Language, what was said, what was heard of it, and the names in it."""


def name_rates(heard: Iterable[Named]) -> dict[str, float]:
    """NE-WER and NE-FNR of a corpus; {} if nobody is named."""
    named = _cases(heard)
    if not named:
        return {}
    return {
        "ne_wer": sum((case.ne_wer for case in named), Errors()).rate,
        "ne_fnr": sum((case.ne_fnr for case in named), Recall()).false_negative_rate,
    }


def _cases(heard: Iterable[Named]) -> list[EntityCase]:
    """Each name once, as often as it may be said."""
    cases = (
        entity_case(said, text, dict.fromkeys(names), METRICS[language][2])
        for language, said, text, names in heard
    )
    return [case for case in cases if case is not None]


def speech_scores(column: str, rows: Sequence[Row]) -> Iterator[Score]:
    """Error rates of a column, as fractions.

    `wer` or `cer` (zh) is that of all counted utterances; beside it stand those of each program and
    of new accents, of the sentences that no training utterance had, and "by sound": spellings of a
    name that sound alike count as one, since without a list nobody can tell them. `ne_wer` and
    `ne_fnr` are those of names.
    """
    language: Language = "en" if column.endswith(" en") else "zh"
    metric, count, _ = METRICS[language]
    counted = [row for row in rows if row.facts["counted"]]
    several = len({row.facts["voice"] for row in counted}) > 1
    found: dict[str, list[Errors]] = defaultdict(list)
    for row in counted:
        said, text = row.facts["text"], row.prediction or ""
        errors = count([said], [text])
        found[metric].append(errors)
        sounding = [[by_sound(words, language)] for words in (said, text)]
        found[f"{metric} by sound"].append(count(*sounding))
        if several:
            found[f"{metric} {row.facts['voice']}"].append(errors)
        if not row.facts["trained"]:
            found[f"{metric} new sentences"].append(errors)
    for name in sorted(found):
        yield error_score(name, column, found[name])
    named: list[Named] = [
        (language, row.facts["text"], row.prediction or "", row.facts["names"])
        for row in rows
        if row.facts["names"]
    ]
    cases = _cases(named)
    if cases:
        yield error_score("ne_wer", column, [case.ne_wer for case in cases])
        yield error_score("ne_fnr", column, [case.ne_fnr for case in cases])


def _kind(voice: Voice) -> str:
    """How a voice is new: a program that training knows, or an accent of one that it does not."""
    return "new accent" if voice.family not in _FAMILIES and voice != JOE else voice.program


@cache
def trained_sentences() -> frozenset[str]:
    """All that is said in training. Sentences are short: many of the test come up there, too."""
    indices = range(NanoPerception().recordings)
    return frozenset(utterance_of("train", index).text for index in indices)
