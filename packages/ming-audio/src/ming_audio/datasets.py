"""Folders of recordings with their texts, and how well they are transcribed.

Layouts as they are published, unpacked and unchanged:

- `librispeech`: `**/<speaker>-<chapter>.trans.txt`, lines `ID TEXT`, beside `ID.flac` (or .wav);
- `aishell`: `transcript/*.txt` or `trans.txt`, lines `ID TEXT`, and `wav/**/ID.wav`; where `wav`
  is split, only `wav/test`;
- `contextasr`: `*.jsonl` of ContextASR-Bench, rows with `wav_path`, `text`, `language`,
  `domain_label` and `entity_list`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from ming_audio.metrics import Errors, Recall, cer, entity_case, wer
from ming_audio.normalisers import Language
from ming_core.errors import BadConfig, UnknownName

Context = Literal["contextless", "coarse", "fine"]
"""What ContextASR-Bench lets a model know: nothing, the topic, or topic and entities."""

_LANGUAGES: Mapping[str, Language] = {
    "english": "English",
    "en": "English",
    "mandarin": "Mandarin",
    "chinese": "Mandarin",
    "zh": "Mandarin",
}


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it. entities: names in the text. topic: what it is about."""

    audio: Path
    text: str
    language: Language
    entities: tuple[str, ...] = ()
    topic: str | None = None


class Transcribe(Protocol):
    """`model.transcribe`, or anything like it: str() of the result is the text."""

    def __call__(self, source: Path, /, *, domain: str | None, hotwords: Sequence[str]) -> Any: ...


def score_folder(
    transcribe: Transcribe, folder: str | Path, style: str, context: Context = "fine"
) -> dict[str, Any]:
    """Transcribe a folder in one of the published layouts, and count the errors.

    style: `librispeech`, `aishell` or `contextasr`. context: what of it the model may know, where
    the folder has any. Gives values for JSON: `scores` by language and metric, as fractions with
    their counts (word and character error rates as of `ming_audio.metrics`); `utterances` that were
    scored; `dropped`, how many the benchmark leaves out, which are not transcribed; and `rows` with
    every text. Raises BadConfig for a folder of another layout, UnknownName for a style or context,
    and what `transcribe` raises.
    """
    if style not in _READERS:
        raise UnknownName("style of data", style, _READERS)
    if context not in get_args(Context):
        raise UnknownName("context", context, get_args(Context))
    utterances = list(_READERS[style](Path(folder)))
    scored = [utterance for utterance in utterances if style != "contextasr" or _counts(utterance)]
    heard = [(utterance, _heard(transcribe, utterance, context)) for utterance in scored]
    languages: list[Language] = sorted({utterance.language for utterance in scored})
    count = _entity_scores if style == "contextasr" else _text_scores
    return {
        "style": style,
        "context": context if style == "contextasr" else "contextless",
        "utterances": len(scored),
        "dropped": len(utterances) - len(scored),
        "scores": {
            language: count(language, [pair for pair in heard if pair[0].language == language])
            for language in languages
        },
        "rows": [
            {"audio": str(utterance.audio), "text": utterance.text, "heard": text}
            for utterance, text in heard
        ],
    }


def read_librispeech(folder: Path) -> Iterator[Utterance]:
    """The utterances of all chapters below a folder, in order of their names."""
    chapters = sorted(folder.rglob("*.trans.txt"))
    if not chapters:
        raise BadConfig(
            f"{folder} has no *.trans.txt; expected a folder of LibriSpeech such as test-clean"
        )
    for chapter in chapters:
        for name, text in _texts(chapter):
            paths = [chapter.with_name(name + suffix) for suffix in (".flac", ".wav")]
            audio = next((path for path in paths if path.exists()), None)
            if audio is None:
                raise BadConfig(f"{chapter} names {name}, but {paths[0]} does not exist")
            yield Utterance(audio, text, "English")


def read_aishell(folder: Path) -> Iterator[Utterance]:
    """The recordings that have a text, in order of their paths.

    As published, some recordings have none, and texts are there for all splits.
    """
    files = sorted([*folder.glob("transcript/*.txt"), *folder.glob("trans.txt")])
    if not files:
        raise BadConfig(
            f"{folder} has neither transcript/*.txt nor trans.txt; expected a folder of AISHELL "
            "such as data_aishell"
        )
    texts = {name: text for file in files for name, text in _texts(file)}
    wav = folder / "wav"
    wav = wav / "test" if (wav / "test").is_dir() else wav
    recordings = [path for path in sorted(wav.rglob("*.wav")) if path.stem in texts]
    if not recordings:
        raise BadConfig(
            f"no wav file in {wav} has a text in {files[0]}; unpack the recordings there"
        )
    for audio in recordings:
        yield Utterance(audio, texts[audio.stem], "Mandarin")


def read_contextasr(folder: Path) -> Iterator[Utterance]:
    """The rows of all .jsonl files of a folder; `wav_path` is relative to the folder."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise BadConfig(f"{folder} has no *.jsonl; expected a folder of ContextASR-Bench")
    for file in files:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield _row(line, folder, f"line {number} of {file}")


_READERS: Mapping[str, Callable[[Path], Iterator[Utterance]]] = {
    "librispeech": read_librispeech,
    "aishell": read_aishell,
    "contextasr": read_contextasr,
}


def _heard(transcribe: Transcribe, utterance: Utterance, context: Context) -> str:
    domain = None if context == "contextless" else utterance.topic
    hotwords = utterance.entities if context == "fine" else ()
    return str(transcribe(utterance.audio, domain=domain, hotwords=hotwords))


def _counts(utterance: Utterance) -> bool:
    """Whether the benchmark scores it, which does not depend on what was heard."""
    return entity_case(utterance.text, "", utterance.entities, utterance.language) is not None


def _text_scores(language: Language, heard: Sequence[tuple[Utterance, str]]) -> dict[str, Any]:
    name, rate = ("WER", wer) if language == "English" else ("CER", cer)
    errors = rate([utterance.text for utterance, _ in heard], [text for _, text in heard])
    return {name: {"rate": errors.rate, **asdict(errors)}}


def _entity_scores(language: Language, heard: Sequence[tuple[Utterance, str]]) -> dict[str, Any]:
    cases = [entity_case(said.text, text, said.entities, language) for said, text in heard]
    scored = [case for case in cases if case is not None]
    words = sum((case.wer for case in scored), Errors())
    names = sum((case.ne_wer for case in scored), Errors())
    found = sum((case.ne_fnr for case in scored), Recall())
    return {
        "WER": {"rate": words.rate, **asdict(words)},
        "NE-WER": {"rate": names.rate, **asdict(names)},
        "NE-FNR": {"rate": found.false_negative_rate, **asdict(found)},
    }


def _row(line: str, folder: Path, where: str) -> Utterance:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadConfig(f"{where} is no JSON ({error}); expected one object a line") from None
    if not isinstance(row, dict):
        raise BadConfig(f"{where} is no object; expected wav_path, text, language, entity_list")
    for key in ("wav_path", "text", "language"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise BadConfig(f"{key} in {where} is {row.get(key)!r}; it must be a text")
    language = _LANGUAGES.get(row["language"].lower())
    if language is None:
        raise BadConfig(
            f"language in {where} is {row['language']!r}; it must be English or Mandarin"
        )
    entities = row.get("entity_list") or []
    if not isinstance(entities, list) or not all(isinstance(name, str) for name in entities):
        raise BadConfig(f"entity_list in {where} is {entities!r}; it must be a list of texts")
    audio = folder / row["wav_path"]
    if not audio.exists():
        raise BadConfig(f"{where} names {audio}, which does not exist; unpack the recordings there")
    return Utterance(audio, row["text"], language, tuple(entities), row.get("domain_label") or None)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(ID, text) of each line."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, *text = line.split(maxsplit=1)
        if not text:
            raise BadConfig(f"line {number} of {path} has no text; expected `ID TEXT`")
        yield name, text[0].strip()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").split("\n")  # other separators are text
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is no UTF-8 text; convert it") from None
