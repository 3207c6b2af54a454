"""The benchmark `asr`: how well the recordings of a folder are transcribed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_audio.datasets import Utterance, read_folder
from ming_audio.judges import WHISPER, open_judge
from ming_audio.metrics import EntityCase, Errors, Recall, cer, entity_case, rate, wer
from ming_audio.normalisers import Language
from ming_core.errors import BadConfig, UnknownName
from ming_core.evaluation import Benchmark, Judge, Row, Sample, Score, Sums
from ming_core.notes import note_to_user

if TYPE_CHECKING:
    from ming_audio.tasks import Transcribe

CONTEXTS = ("contextless", "coarse", "fine")
"""What ContextASR-Bench lets a model know: nothing, the topic, or topic and entities."""

COMPARED = ("contextless", "fine")

Count = Errors | Recall


class Asr(Benchmark):
    """Transcribe a folder of `ming_audio.datasets` and count the errors.

    A column of scores is a context (`model` where there is none) or a judge, and a row is a
    language and a rate: WER or CER, of ContextASR-Bench also NE-WER and NE-FNR. A rate over no
    words at all is left out. A recording that cannot be read counts in no column.

    Args:
        style: The layout of the folder; it is found unless it is given.
        context: For ContextASR-Bench one of `CONTEXTS`; None compares `COMPARED`.
    """

    judges = (WHISPER,)

    def __init__(self, *, style: str | None = None, context: str | None = None) -> None:
        if context is not None and context not in CONTEXTS:
            raise UnknownName("context", context, CONTEXTS)
        self.style = style
        self.context = context

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        """limit: recordings of each language, spread over the folder.

        Raises BadConfig for a folder of another layout or without recordings that count.
        """
        assert data is not None  # the benchmark is registered as one with data
        style, utterances = read_folder(data, self.style)
        columns = self._columns(style)
        counting = [said for said in utterances if style != "contextasr" or _case(said, "")]
        if not counting:
            raise BadConfig(f"{data} has no recording that counts, of {len(utterances)} in all")
        dropped = len(utterances) - len(counting)
        if dropped:
            note_to_user(
                f"{dropped} of {len(utterances)} recordings are left out: their names are not in "
                "their text"
            )
        scored = list(_spread(counting, limit))
        for column in columns:
            texts: Counter[str] = Counter()
            for said in scored:
                inside = said.audio.is_relative_to(data)
                audio = (said.audio.relative_to(data) if inside else said.audio).as_posix()
                texts[audio] += 1  # one recording may have several texts
                name = audio if texts[audio] == 1 else f"{audio}#{texts[audio]}"
                yield Sample(name, {"audio": audio, **_facts(style, said)}, column, said)

    def _columns(self, style: str) -> Sequence[str]:
        if style == "contextasr":
            return COMPARED if self.context is None else (self.context,)
        if self.context is not None:
            raise BadConfig(
                f"a folder of {style} tells no context; leave out context={self.context}"
            )
        return ("model",)

    def task(self, sample: Sample) -> Transcribe:
        from ming_audio.tasks import Transcribe  # scoring needs no model

        said, told = sample.item, sample.column
        domain = said.topic if told in ("coarse", "fine") else None
        hotwords = said.entities if told == "fine" else ()
        return Transcribe(said.audio, domain=domain, hotwords=hotwords)

    def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
        """A recogniser that hears the English recordings, too."""
        if data is None or not data.is_dir():
            raise BadConfig(f"the judge {name} hears the recordings; say where with --data")
        if not any(row.facts["language"] == "English" for row in rows):
            raise BadConfig(f"the judge {name} knows only English, and {data} has none")
        hear, first = open_judge(name), rows[0].column

        def heard(row: Row) -> str | None:
            if row.column != first or row.facts["language"] != "English":
                return None
            return hear(data / row.facts["audio"])

        return heard

    def score(self, rows: Sequence[Row]) -> list[Score]:
        unreadable = {row.id for row in rows if row.error is not None}
        heard: dict[str, list[tuple[Row, str]]] = {}
        for row in rows:
            if row.id not in unreadable:
                heard.setdefault(row.column, []).append((row, row.prediction))
        for judge in dict.fromkeys(name for row in rows for name in row.verdicts):
            found = ((row, row.verdicts.get(judge)) for row in rows if row.id not in unreadable)
            heard[judge] = [(row, text) for row, text in found if text is not None]
        if not heard:
            why = next((row.error for row in rows if row.error is not None), "there is none")
            raise BadConfig(f"no recording can be read: {why}")
        return [score for column, pairs in heard.items() for score in _scores(column, pairs)]


def _facts(style: str, said: Utterance) -> dict[str, Any]:
    return {
        "text": said.text,
        "language": said.language,
        "speaker": said.speaker,
        "corpus": said.corpus,
        "entities": list(said.entities) if style == "contextasr" else None,
        "bytes": said.audio.stat().st_size,  # tells a recording from another
    }


def _spread(utterances: Iterable[Utterance], limit: int | None) -> Iterator[Utterance]:
    """So many of each language, evenly spread: neighbours are often of one speaker."""
    by_language: dict[Language, list[Utterance]] = {}
    for said in utterances:
        by_language.setdefault(said.language, []).append(said)
    for _, own in sorted(by_language.items()):
        size = len(own) if limit is None else min(limit, len(own))
        yield from (own[i * len(own) // size] for i in range(size))


def _scores(column: str, pairs: Sequence[tuple[Row, str]]) -> Iterator[Score]:
    for language in sorted({row.facts["language"] for row, _ in pairs}):
        own = [(row, text) for row, text in pairs if row.facts["language"] == language]
        counts: dict[str, list[Count]] = {}
        for row, text in own:
            for name, count in _counts(row.facts, text).items():
                counts.setdefault(name, []).append(count)
        speakers = [row.facts["speaker"] or row.id for row, _ in own]
        corpora = {row.facts["corpus"] for row, _ in own}
        for name, found in counts.items():
            score = error_score(f"{language} {name}", column, found, speakers)
            if math.isfinite(score.value):
                yield replace(score, published=_published(corpora, score))


def _published(corpora: Collection[str | None], score: Score) -> Mapping[str, float]:
    """What the makers of the releases published: with the names to listen for, where they have a
    list."""
    if len(corpora) != 1 or score.column not in ("model", "fine"):
        return {}
    (corpus,) = corpora
    return _figures().get(corpus, {}).get(score.name, {})


@cache
def _figures() -> Mapping[str | None, Mapping[str, Mapping[str, float]]]:
    """By corpus, rate and model."""
    return json.loads(files("ming_audio").joinpath("published.json").read_text("utf-8"))


def error_score(
    name: str, column: str, counts: Sequence[Count], speakers: Sequence[str] | None = None
) -> Score:
    """The rate of errors over utterances. speakers: who says each, if that is known."""
    total = sum(counts, type(counts[0])())
    return Score(
        name,
        rate(total),
        len(counts),
        better="lower",
        column=column,
        sums=Sums([count.missed for count in counts], groups=speakers),
        counts=asdict(total),
    )


def _counts(facts: Mapping[str, Any], heard: str) -> dict[str, Count]:
    """The errors in one recording, by the name of the rate."""
    said, language = facts["text"], facts["language"]
    if facts["entities"] is None:
        name, count = ("WER", wer) if language == "English" else ("CER", cer)
        return {name: count([said], [heard])}
    case = entity_case(said, heard, facts["entities"], language)
    assert case is not None  # what the benchmark drops is no sample
    return {"WER": case.wer, "NE-WER": case.ne_wer, "NE-FNR": case.ne_fnr}


def _case(said: Utterance, heard: str) -> EntityCase | None:
    """None where ContextASR-Bench drops the recording, whatever is heard."""
    return entity_case(said.text, heard, said.entities, said.language)
