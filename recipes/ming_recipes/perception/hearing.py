"""How well a model hears: error rates of what it writes down of held-out speech.

Sentences are those of the split "test", in voices that training never heard: new variants of known
accents, a new accent, a new voice of flite, and Piper's, whose whole family is new. Every utterance
is heard twice, alone and with names to listen for (hotwords), the right spelling among them.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import numpy as np

from ming_audio import normalisers
from ming_audio.metrics import Errors, Recall, cer, entity_case, wer
from ming_audio.tasks import Transcribe
from ming_core.api import OmniModel
from ming_core.benchmarks import Track, untracked
from ming_core.engine.sampling import SamplingOptions
from ming_core.errors import MingError
from ming_core.media import Message
from ming_core.tasks import run_many
from ming_recipes.perception.config import NanoPerception
from ming_recipes.world.names import by_sound
from ming_recipes.world.scene import generator, seed_of
from ming_recipes.world.speech import TRAIN_VOICES, Utterance, Voice, context_of, utterance_of
from ming_recipes.world.vocabulary import Language
from ming_recipes.world.voices import JOE, MissingVoice, require, speak

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


def hearing_scores(
    model: OmniModel, count: int, track: Track = untracked
) -> dict[str, dict[str, float]]:
    """Error rates on `count` utterances of each language ("speech en", …), as fractions.

    `wer` or `cer` (zh) is that of all of them; beside it stand those of each program and of new
    accents, of the sentences that no training utterance had, and "by sound": spellings of a name
    that sound alike count as one, since without a list nobody can tell them. `ne_wer`, `ne_fnr` are
    those of the names in as many utterances about people. Columns with "names listed": the same
    with names to listen for. "new family en": Piper's voice, left out with a note on stderr where
    it is missing. Raises MissingVoice if another program is.
    """
    scores = {}
    for language in LANGUAGES:
        found = dict(islice(utterances(language), count))
        about_people = ((index, said) for index, said in utterances(language) if said.names)
        found |= islice(about_people, count)
        scores |= _columns(model, "speech", list(spoken(found.items())), count, track)
    try:
        require(JOE.program)
    except MissingVoice as error:
        print(f"a new family of voices is not scored: {error}", file=sys.stderr)
        return scores
    joe = list(spoken(islice(utterances("en"), count), JOE))
    return scores | _columns(model, "new family", joe, count, track)


def transcripts(
    model: OmniModel,
    sounds: Sequence[np.ndarray],
    listed: Sequence[Sequence[str]],
    title: str = "speech",
    track: Track = untracked,
) -> list[str]:
    """What is heard of many sounds, each as a whole, sure or not.

    sounds: [N] float32 at 16 kHz each, no longer than the model hears at once. listed: the hotwords
    of each, or ().
    """
    # Similar lengths together: they take about as many tokens.
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i]))
    found = run_many(model, (hearing(sounds[i], listed[i]) for i in order), BATCH)
    texts = [""] * len(sounds)
    for i in track(order, title):
        outcome = next(found)
        if outcome.error is not None:
            raise outcome.error
        texts[i] = outcome.result.text
    return texts


def hearing(sound: np.ndarray, listed: Sequence[str]) -> Transcribe:
    """The task of writing down a short sound as a whole, with names to listen for."""
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
    # Each name once, as often as it may be said.
    cases = [
        entity_case(said, text, dict.fromkeys(names), METRICS[language][2])
        for language, said, text, names in heard
    ]
    named = [case for case in cases if case is not None]
    if not named:
        return {}
    return {
        "ne_wer": sum((case.ne_wer for case in named), Errors()).rate,
        "ne_fnr": sum((case.ne_fnr for case in named), Recall()).false_negative_rate,
    }


def _columns(
    model: OmniModel, title: str, those: Sequence[Spoken], count: int, track: Track
) -> dict[str, dict[str, float]]:
    """The scores without and with names to listen for: the rates of names on all that name people,
    the others on the first `count`."""
    language = those[0].said.lang
    metric, _, _ = METRICS[language]
    kinds = {_kind(one.said.voice) for one in those[:count]}
    columns = {}
    for listing in (False, True):
        name = f"{title}{', names listed' if listing else ''} {language}"
        heard = list(_heard(model, those, listing, name, track))
        pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for one, text in heard[:count]:
            pair = one.said.text, text
            pairs[metric].append(pair)
            said, sounding = (by_sound(words, language) for words in pair)
            pairs[f"{metric} by sound"].append((said, sounding))
            if len(kinds) > 1:
                pairs[f"{metric} {_kind(one.said.voice)}"].append(pair)
            if one.said.text not in trained_sentences():
                pairs[f"{metric} new sentences"].append(pair)
        rates = {key: error_rate(language, pairs[key]) for key in sorted(pairs)}
        names: list[Named] = [
            (language, one.said.text, text, one.said.names) for one, text in heard if one.said.names
        ]
        columns[name] = {**rates, **name_rates(names)}
    return columns


def _heard(
    model: OmniModel, those: Sequence[Spoken], listing: bool, title: str, track: Track
) -> Iterable[tuple[Spoken, str]]:
    listed = [one.listed if listing else () for one in those]
    texts = transcripts(model, [one.sound for one in those], listed, title, track)
    return zip(those, texts, strict=True)


def _kind(voice: Voice) -> str:
    """How a voice is new: a program that training knows, or an accent of one that it does not."""
    return "new accent" if voice.family not in _FAMILIES and voice != JOE else voice.program


@cache
def trained_sentences() -> frozenset[str]:
    """All that is said in training. Sentences are short: many of the test come up there, too."""
    indices = range(NanoPerception().recordings)
    return frozenset(utterance_of("train", index).text for index in indices)
