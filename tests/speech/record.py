"""Make the recordings beside this file, which tests hear: `python tests/speech/record.py`.

64 held-out sentences in held-out voices, none of them said in training: see `GROUPS`. They come as
FLAC with utterances.jsonl in the layout of ContextASR-Bench, which `ming eval run asr` reads. Three
fields are ours: `voice`; `context`, names to listen for; and `index`, of the utterance in the split
"test", whose picture spoken questions are about. Needs espeak-ng, flite and ming-recipes[judges];
the same versions of them give the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ming_recipes.nano.scores.hearing import METRICS, Spoken, spoken, trained_sentences
from ming_recipes.nano.world.speech import TEST_VOICES, Utterance, Voice, utterance_of
from ming_recipes.nano.world.vocabulary import Language
from ming_recipes.nano.world.voices import JOE

FOLDER = Path(__file__).parent
RATE = 16_000

_ESPEAK, (_RMS,) = TEST_VOICES["en"]
_ACCENT = tuple(voice for voice in _ESPEAK if voice.family == "en-gb-scotland")
_VARIANTS = tuple(voice for voice in _ESPEAK if voice not in _ACCENT)
(_MANDARIN,) = TEST_VOICES["zh"]
GROUPS: tuple[tuple[Language, tuple[Voice, ...]], ...] = (
    ("en", _VARIANTS + _ACCENT[:8]),
    ("en", (_RMS,) * 16),
    ("en", (JOE,) * 12),
    ("zh", _MANDARIN * 8),
)
"""Language and the voice of each recording."""


def main() -> None:
    for old in FOLDER.glob("*.flac"):
        old.unlink()
    rows = []
    fresh = _fresh_utterances()
    for language, voices in GROUPS:
        for number, voice in enumerate(voices):
            named = number % 5 in (1, 3)  # 25 of the 64
            index, said = next(
                (index, said)
                for index, said in fresh
                if said.lang == language and bool(said.names) is named
            )
            (one,) = spoken([(index, said)], voice)
            rows.append(_write(one, f"{language}-{voice.program}-{number:02d}.flac"))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / "utterances.jsonl").write_text(text, encoding="utf-8")


def _fresh_utterances() -> Iterator[tuple[int, Utterance]]:
    """Held-out utterances whose sentences are new, each sentence once."""
    known = set(trained_sentences())
    for index in count():
        said = utterance_of("test", index)
        if said.text not in known:
            known.add(said.text)
            yield index, said


def _write(one: Spoken, name: str) -> dict[str, Any]:
    """A file and its row."""
    samples = np.round(one.sound.clip(-1, 1) * (2**15 - 1)).astype(np.int16)
    soundfile.write(FOLDER / name, samples, RATE, "PCM_16", compression_level=1.0)
    return {
        "wav_path": name,
        "text": one.said.text,
        "language": METRICS[one.said.lang][2],
        "domain_label": "",  # nano was never told a topic
        "entity_list": list(dict.fromkeys(one.said.names)),
        "context": list(one.listed),
        "voice": f"{one.said.voice.program} {one.said.voice.name}",
        "index": one.index,
    }


if __name__ == "__main__":
    main()
