"""The benchmark `asr`: how well the recordings of a folder are transcribed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_audio.datasets import Utterance, read_folder
from ming_audio.judges import open_judge
from ming_audio.metrics import EntityCase, Errors, Recall, cer, entity_case, wer
from ming_audio.normalisers import Language
from ming_core.benchmarks import Track, untracked
from ming_core.errors import BadConfig, BadMedia, UnknownName

if TYPE_CHECKING:
    from ming_core.api import OmniModel

CONTEXTS = ("contextless", "coarse", "fine")
"""What ContextASR-Bench lets a model know: nothing, the topic, or topic and entities."""

COMPARED = ("contextless", "fine")

Heard = Mapping[Utterance, str]


def asr(
    model: OmniModel,
    data: str | Path,
    limit: int | None = None,
    track: Track = untracked,
    *,
    style: str | None = None,
    context: str | None = None,
    judge: str | None = None,
) -> dict[str, Any]:
    """Transcribe a folder of `ming_audio.datasets` and count the errors.

    limit: recordings of each language, spread over the folder. style: the layout, found unless
    given. context: for ContextASR-Bench one of `CONTEXTS`; None compares `COMPARED`. judge: name of
    a recogniser that hears the English recordings, too.

    Gives values for JSON. `scores` has a column for each context (`model` where there is none) and
    for the judge, and a row for each language and rate, as fractions: WER or CER, of
    ContextASR-Bench also NE-WER and NE-FNR. A rate over no words at all is left out. `counts` are
    what the rates are made of. `utterances` were scored; `dropped`, how many the benchmark leaves
    out, were not transcribed, nor those that are `unreadable`, with the reasons; `rows` have every
    text.

    Raises BadConfig for a folder of another layout or without recordings that count and can be
    read, UnknownName for a name, MissingPlugin for a judge that is not installed or a model that
    cannot hear.
    """
    style, utterances = read_folder(Path(data), style)
    columns = _columns(style, context)
    counting = [said for said in utterances if style != "contextasr" or _case(said, "")]
    if not counting:
        raise BadConfig(f"{data} has no recording that counts, of {len(utterances)} in all")
    scored = list(_sample(counting, limit))
    english = [said for said in scored if said.language == "English"]
    second = None if judge is None else open_judge(judge)
    if second is not None and not english:
        raise BadConfig(f"the judge {judge} knows only English, and {data} has none; leave it out")

    unreadable: dict[Utterance, str] = {}

    def hear(
        those: Sequence[Utterance], column: str, listen: Callable[[Utterance], str]
    ) -> dict[Utterance, str]:
        texts = {}
        for said in track(those, column):
            if said in unreadable:
                continue
            try:
                texts[said] = listen(said)
            except BadMedia as error:
                unreadable[said] = str(error)
                print(f"left out: {error}", file=sys.stderr)
        return texts

    everything = {
        column: hear(scored, column, partial(_transcript, model, told=told))
        for column, told in columns.items()
    }
    if judge is not None and second is not None:
        everything[judge] = hear(english, judge, lambda said: second(said.audio))
    scored = [said for said in scored if said not in unreadable]
    if not scored:
        raise BadConfig(f"no recording of {data} can be read: {next(iter(unreadable.values()))}")
    heard: dict[str, Heard] = {
        column: {said: text for said, text in texts.items() if said not in unreadable}
        for column, texts in everything.items()
    }

    count = _entity_counts if style == "contextasr" else _text_counts
    counts = {column: count(texts) for column, texts in heard.items()}
    return {
        "style": style,
        "utterances": len(scored),
        "dropped": len(utterances) - len(counting),
        "unreadable": list(unreadable.values()),
        "scores": {column: _rates(found) for column, found in counts.items()},
        "counts": {
            column: {row: asdict(number) for row, number in found.items()}
            for column, found in counts.items()
        },
        "rows": [
            {
                "audio": str(said.audio),
                "language": said.language,
                "text": said.text,
                "heard": {column: texts[said] for column, texts in heard.items() if said in texts},
            }
            for said in scored
        ],
    }


def _columns(style: str, context: str | None) -> dict[str, str]:
    """Columns of scores, and what the model may know in each."""
    if context is not None and context not in CONTEXTS:
        raise UnknownName("context", context, CONTEXTS)
    if style == "contextasr":
        return {name: name for name in (COMPARED if context is None else (context,))}
    if context is not None:
        raise BadConfig(f"a folder of {style} tells no context; leave out context={context}")
    return {"model": "contextless"}


def _sample(utterances: Iterable[Utterance], limit: int | None) -> Iterable[Utterance]:
    """So many of each language, evenly spread: neighbours are often of one speaker."""
    for own in _by_language(utterances).values():
        size = len(own) if limit is None else min(limit, len(own))
        yield from (own[i * len(own) // size] for i in range(size))


def _transcript(model: OmniModel, said: Utterance, told: str) -> str:
    domain = None if told == "contextless" else said.topic
    hotwords = said.entities if told == "fine" else ()
    return str(model.transcribe(said.audio, domain=domain, hotwords=hotwords))


def _text_counts(heard: Heard) -> dict[str, Errors | Recall]:
    found: dict[str, Errors | Recall] = {}
    for language, own in _by_language(heard).items():
        name, count = ("WER", wer) if language == "English" else ("CER", cer)
        found[f"{language} {name}"] = count(
            [said.text for said in own], [heard[said] for said in own]
        )
    return found


def _entity_counts(heard: Heard) -> dict[str, Errors | Recall]:
    found: dict[str, Errors | Recall] = {}
    for language, own in _by_language(heard).items():
        cases = [case for said in own if (case := _case(said, heard[said])) is not None]
        found[f"{language} WER"] = sum((case.wer for case in cases), Errors())
        found[f"{language} NE-WER"] = sum((case.ne_wer for case in cases), Errors())
        found[f"{language} NE-FNR"] = sum((case.ne_fnr for case in cases), Recall())
    return found


def _case(said: Utterance, heard: str) -> EntityCase | None:
    """None where the benchmark drops the recording, which does not depend on what was heard."""
    return entity_case(said.text, heard, said.entities, said.language)


def _rates(counts: Mapping[str, Errors | Recall]) -> dict[str, float]:
    rates = {
        row: found.rate if isinstance(found, Errors) else found.false_negative_rate
        for row, found in counts.items()
    }
    return {row: rate for row, rate in rates.items() if math.isfinite(rate)}


def _by_language(utterances: Iterable[Utterance]) -> dict[Language, list[Utterance]]:
    found: dict[Language, list[Utterance]] = {}
    for said in utterances:
        found.setdefault(said.language, []).append(said)
    return dict(sorted(found.items()))
