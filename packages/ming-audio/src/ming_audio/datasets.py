"""Folders of recordings with their texts, as they are published, unpacked and unchanged.

- `librispeech`: `**/<speaker>-<chapter>.trans.txt`, lines `ID TEXT`, beside `ID.flac` (or .wav);
- `aishell`: `transcript/*.txt` or `trans.txt`, lines `ID TEXT`, and `wav/**/ID.wav`; where `wav`
  is split, only `wav/test`;
- `contextasr`: `*.jsonl` of ContextASR-Bench, rows with `wav_path`, `text`, `language`,
  `domain_label` and `entity_list`;
- `audiofolder`: `metadata.jsonl`, rows with `file_name`, `text` and, if you like, `language`. If a
  row has no language, a text with Chinese characters is Mandarin and another one is English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ming_audio.normalisers import Language
from ming_core.errors import BadConfig, UnknownName

_LANGUAGES: Mapping[str, Language] = {
    "english": "English",
    "en": "English",
    "mandarin": "Mandarin",
    "chinese": "Mandarin",
    "zh": "Mandarin",
}

_CHAPTER = re.compile(r"(\d+)-\d+\.trans\.txt")
"""The file of a chapter: its speaker, then its own number."""

METADATA = "metadata.jsonl"
"""Only the layout `audiofolder` has a file of this name."""

_CHINESE = re.compile("[\u3400-\u9fff]")

_SPLITS = ("dev-clean", "dev-other", "test-clean", "test-other")


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    entities: names in the text. topic: what it is about. If the layout tells, speaker: who speaks;
    corpus: the published set that the recording is of.
    """

    audio: Path
    text: str
    language: Language
    entities: tuple[str, ...] = ()
    topic: str | None = None
    speaker: str | None = field(default=None, compare=False)
    corpus: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Style:
    """A published layout.

    patterns: globs of the files that hold the texts, by which the layout is known. example: a
    folder in it. read: the utterances of a folder with these files.
    """

    patterns: tuple[str, ...]
    example: str
    read: Callable[[Path, Sequence[Path]], Iterator[Utterance]]

    def files(self, folder: Path) -> list[Path]:
        found = sorted(file for pattern in self.patterns for file in folder.glob(pattern))
        return [file for file in found if file.name in self.patterns or file.name != METADATA]


def read_folder(folder: Path, style: str | None = None) -> tuple[str, list[Utterance]]:
    """The layout of a folder and all its utterances; the style is found unless it is given.

    Raises BadConfig for a folder of no or another layout or with a part missing, UnknownName for a
    style.
    """
    if style is None:
        found = [name for name, known in STYLES.items() if known.files(folder)]
        if len(found) != 1:
            layouts = "; ".join(f"{name}: {_layout(known)}" for name, known in STYLES.items())
            what = f"texts of {' and of '.join(found)}" if found else "no texts of a known style"
            do = "say which with style=" if found else f"expected {layouts}"
            raise BadConfig(f"{folder} has {what}; {do}")
        style = found[0]
    if style not in STYLES:
        raise UnknownName("style of data", style, STYLES)
    files = STYLES[style].files(folder)
    if not files:
        raise BadConfig(f"{folder} has no texts of {style}; expected {_layout(STYLES[style])}")
    return style, list(STYLES[style].read(folder, files))


def _layout(style: Style) -> str:
    return f"{' or '.join(style.patterns)}, as in {style.example}"


def _librispeech(folder: Path, files: Sequence[Path]) -> Iterator[Utterance]:
    """The utterances of all chapters, in order of their names."""
    for chapter in files:
        named = _CHAPTER.fullmatch(chapter.name)
        speaker = named and named[1]
        split = chapter.absolute().parents[2].name  # above the folders of speaker and chapter
        corpus = f"LibriSpeech {split}" if split in _SPLITS else None
        for name, text in _texts(chapter):
            paths = [chapter.with_name(name + suffix) for suffix in (".flac", ".wav")]
            audio = next((path for path in paths if path.exists()), None)
            if audio is None:
                raise BadConfig(f"{chapter} names {name}, but {paths[0]} does not exist")
            yield Utterance(audio, text, "English", speaker=speaker, corpus=corpus)


def _aishell(folder: Path, files: Sequence[Path]) -> Iterator[Utterance]:
    """The recordings that have a text, in order of their paths.

    As published, some recordings have none, and texts are there for all splits.
    """
    texts = {name: text for file in files for name, text in _texts(file)}
    wav = folder / "wav"
    wav = wav / "test" if (wav / "test").is_dir() else wav
    recordings = [path for path in sorted(wav.rglob("*.wav")) if path.stem in texts]
    if not recordings:
        raise BadConfig(
            f"no wav file in {wav} has a text in {files[0]}; unpack the recordings there"
        )
    for audio in recordings:
        speaker = audio.parent.name if audio.parent != wav else None
        first = audio.stem.startswith("BAC009S") and wav.name == "test"
        corpus = "AISHELL-1" if first else None
        yield Utterance(audio, texts[audio.stem], "Mandarin", speaker=speaker, corpus=corpus)


def _contextasr(folder: Path, files: Sequence[Path]) -> Iterator[Utterance]:
    """The rows of all files; `wav_path` is relative to the folder."""
    for file in files:
        part = re.match("ContextASR-(Speech|Dialogue)", file.name)
        corpus = part and f"ContextASR-Bench {part[1]}"
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield replace(_row(line, folder, f"line {number} of {file}"), corpus=corpus)


def _audiofolder(folder: Path, files: Sequence[Path]) -> Iterator[Utterance]:
    """The rows of `metadata.jsonl`; `file_name` is relative to the folder."""
    for file in files:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                where = f"line {number} of {file}"
                row = _object(line, where, "file_name and text")
                text, name = (_text(row, key, where) for key in ("text", "file_name"))
                guess = "Mandarin" if _CHINESE.search(text) else "English"
                language = _language(row.get("language", guess), where)
                yield Utterance(_recording(folder, name, where), text, language)


STYLES: Mapping[str, Style] = {
    "librispeech": Style(("**/*.trans.txt",), "test-clean", _librispeech),
    "aishell": Style(("transcript/*.txt", "trans.txt"), "data_aishell", _aishell),
    "contextasr": Style(("*.jsonl",), "ContextASR-Bench", _contextasr),
    "audiofolder": Style((METADATA,), "my-recordings", _audiofolder),
}


def _row(line: str, folder: Path, where: str) -> Utterance:
    row = _object(line, where, "wav_path, text, language, entity_list")
    for key in ("wav_path", "text", "language"):
        _text(row, key, where)
    language = _language(row["language"], where)
    entities = row.get("entity_list") or []
    if not isinstance(entities, list) or not all(isinstance(name, str) for name in entities):
        raise BadConfig(f"entity_list in {where} is {entities!r}; it must be a list of texts")
    audio = _recording(folder, row["wav_path"], where)
    return Utterance(audio, row["text"], language, tuple(entities), row.get("domain_label") or None)


def _object(line: str, where: str, expected: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadConfig(f"{where} is no JSON ({error}); expected one object a line") from None
    if not isinstance(row, dict):
        raise BadConfig(f"{where} is no object; expected {expected}")
    return row


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadConfig(f"{key} in {where} is {value!r}; it must be a text")
    return value


def _language(value: Any, where: str) -> Language:
    language = _LANGUAGES.get(value.lower()) if isinstance(value, str) else None
    if language is None:
        raise BadConfig(f"language in {where} is {value!r}; it must be English or Mandarin")
    return language


def _recording(folder: Path, name: str, where: str) -> Path:
    audio = folder / name
    if not audio.exists():
        raise BadConfig(f"{where} names {audio}, which does not exist; unpack the recordings there")
    return audio


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
