"""What `transcribe` says to a model, and how its answers begin: data of a release.

Published sentences (README files, demos and the report of Flash): `transcribe`, `punctuated`,
`domain`, `hotwords` ("may contains" as they have it), the language tag before a transcript, and the
tags Chinese and 上海. The report of Lite 1.5 says that domain and dialect were named in its
instructions, not in which words: there the domain is worded as for Flash, and `dialect` after it.
A checkpoint that was trained on other sentences says so in an optional section `audio_tasks` of its
config.json (docs/tasks/transcribe.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from ming_core.errors import BadConfig, UnknownName
from ming_core.fields import shown

TAG_END = "\t"
"""What every release writes between the language of a transcript and its text."""

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "Arabic",
        "de": "German",
        "en": "English",
        "es": "Spanish",
        "fr": "French",
        "id": "Indonesian",
        "it": "Italian",
        "ja": "Japanese",
        "ko": "Korean",
        "pt": "Portuguese",
        "ru": "Russian",
        "th": "Thai",
        "vi": "Vietnamese",
        "yue": "Cantonese",
        "zh": "Chinese",
    }
)
"""Tags by ISO 639 code. English and Chinese are published, the others are named alike."""


@dataclass(frozen=True)
class AudioPrompts:
    """Sentences in English, whatever the language of the speech, and tags.

    domain, dialect, context, hotwords: follow the first sentence, with their place filled in. An
    empty `dialect` means that the tag of the answer names it. languages: tag by code.
    no_repeat_ngram: as the release is run, see `Sampling`. pause: a model that was taught single
    sentences says so by the seconds of silence at which every sound is cut; 0 for one that hears a
    short sound as a whole. compare_hotwords: listen with and without the list, and take from it
    only the words that it names.
    """

    transcribe: str = (
        "Please recognize the language of this speech and transcribe it. Format: oral."
    )
    punctuated: str = (
        "Please recognize the language of this speech and transcribe it. Format: oral, punctuated."
    )
    domain: str = "This is an audio about {domain}."
    dialect: str = ""
    context: str = " {context} "
    hotwords: str = "This audio may contains the following words or phrases:{hotwords}."
    hotword_separator: str = ","
    languages: Mapping[str, str] = field(default_factory=lambda: LANGUAGES)
    no_repeat_ngram: int = 0
    pause: float = 0.0
    compare_hotwords: bool = False


_PLACES = ("domain", "dialect", "context", "hotwords")


def prompts_of(wording: Iterable[Mapping[str, Any]]) -> AudioPrompts:
    """The sentences for a model from `model.wording("audio_tasks")`.

    Raises BadConfig or UnknownName for a section `audio_tasks` that cannot be used.
    """
    prompts = AudioPrompts()
    known = [field.name for field in fields(AudioPrompts)]
    for section in wording:
        for key, value in section.items():
            if key not in known:
                raise UnknownName("key of audio_tasks", key, known)
            _check(key, value)
        own = dict(section)
        if "transcribe" in own:  # it was taught this sentence, and no special form of it
            own.setdefault("punctuated", own["transcribe"])
        prompts = replace(prompts, **own)
    return prompts


def question(
    prompts: AudioPrompts,
    *,
    punctuated: bool = False,
    domain: str | None = None,
    dialect: str | None = None,
    context: str | None = None,
    hotwords: Sequence[str] = (),
) -> str:
    """What is asked before the sound. None and () are left out."""
    filled = {
        "domain": domain,
        "dialect": dialect if prompts.dialect else None,
        "context": context,
        "hotwords": prompts.hotword_separator.join(hotwords) or None,
    }
    asked = prompts.punctuated if punctuated else prompts.transcribe
    for key, text in filled.items():
        if text is not None:
            asked += getattr(prompts, key).replace(f"{{{key}}}", text, 1)
    return asked.strip()


def tag_of(prompts: AudioPrompts, language: str | None, dialect: str | None) -> str | None:
    """The tag that a hint asks the answer to begin with; None to let the model find out.

    language: a code or a tag itself, in any case. A dialect that the question does not name is a
    tag as it stands. Raises UnknownName.
    """
    if dialect is not None and not prompts.dialect:
        return dialect
    if language is None:
        return None
    for code, tag in prompts.languages.items():
        if language.casefold() in (code.casefold(), tag.casefold()):
            return tag
    raise UnknownName("language", language, prompts.languages)


def language_of(prompts: AudioPrompts, tag: str) -> str:
    """The code of a tag, or the tag itself where it has none, as dialects."""
    return next((code for code, known in prompts.languages.items() if known == tag), tag)


def parse(prompts: AudioPrompts, answer: str) -> tuple[str | None, str]:
    """Tag and text of an answer; without a tag all of it is text. A tag alone is silence."""
    tag, end, text = answer.partition(TAG_END)
    if end and tag.strip():
        return tag.strip(), text.strip()
    if answer.strip() in prompts.languages.values():
        return answer.strip(), ""
    return None, answer.strip()


def tagged(tag: str, text: str) -> str:
    """What a model writes that finds out the language: its tag, then the text."""
    return f"{tag}{TAG_END}{text}"


def _check(key: str, value: Any) -> None:
    if key == "no_repeat_ngram":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadConfig(
                f"audio_tasks.no_repeat_ngram is {shown(value)}; it must be a whole number from 0 "
                "on"
            )
    elif key == "compare_hotwords":
        if not isinstance(value, bool):
            raise BadConfig(
                f"audio_tasks.compare_hotwords is {shown(value)}; it must be true or false"
            )
    elif key == "pause":
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 5:
            raise BadConfig(f"audio_tasks.pause is {shown(value)}; it must be seconds from 0 to 5")
    elif key == "languages":
        texts = [*value, *value.values()] if isinstance(value, Mapping) else []
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise BadConfig(
                f"audio_tasks.languages is {shown(value)}; it must be an object of tags by code, "
                "as en and English"
            )
    elif not isinstance(value, str):
        raise BadConfig(f"audio_tasks.{key} is {shown(value)}; it must be a sentence")
    elif key in _PLACES and f"{{{key}}}" not in value and (value or key != "dialect"):
        raise BadConfig(f"audio_tasks.{key} is {shown(value)}; it must have {{{key}}} in it")
