r"""Recordings of fifty names that nano never heard, to try the recipe with:

    python -m ming_recipes.asr.example names
    ming train asr 'data=[{path: names/train, share: 4}, {path: names/known, share: 1}]' \
        validation=names/held-out steps=400 out=runs/names

espeak-ng says them (`apt install espeak-ng`), in sentences that nano knows. The held-out recordings
are of the same names, in voices that neither nano nor the run has heard. `known` is what nano has
learnt before, so that the run does not forget it. The files are the same each time.
"""

from __future__ import annotations

import itertools
import json
import sys
import wave
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from ming_recipes.nano.world.scene import pick
from ming_recipes.nano.world.speech import (
    NAME_PHRASES,
    TEST_VOICES,
    TRAIN_VOICES,
    Utterance,
    Voice,
    utterance_of,
)
from ming_recipes.nano.world.vocabulary import COLORS, SHAPES
from ming_recipes.nano.world.voices import speak
from ming_recipes.nano.world.wording import article

_SPELLINGS = (
    "Tamsin Zerbina Otto Bianca Milo Priya Hugo Nadia Felix Rosalind Igor Wanda Diego Freya Boris "
    "Yolanda Quentin Ingrid Malik Petra Vincent Jasmine Leon Carmen Edgar Thelma Oscar Fiona Ravi "
    "Greta Bruno Astrid Kenji Paloma Dexter Monica Tobias Ursula Gideon Valerie Hector Sabrina "
    "Wilbur Amara Ivan Dolores Nestor Cecily Rupert Imogen"
)
NEW_NAMES = tuple(_SPELLINGS.split())

THINGS = tuple(
    f"{color['en']} {shape['en']}" for color in COLORS.values() for shape in SHAPES.values()
)


def new_names(voices: Sequence[Voice], each: int, seed: int) -> Iterator[Utterance]:
    """`each` sentences about every new name, a third of them about a second one, too."""
    rng = np.random.default_rng(seed)
    alone, together = NAME_PHRASES["en"]
    for name, _ in product(NEW_NAMES, range(each)):
        friend = pick(rng, [other for other in NEW_NAMES if other != name])
        names = (name, friend) if rng.random() < 1 / 3 else (name,)
        thing = pick(rng, THINGS)
        text = pick(rng, together if len(names) > 1 else alone).format(
            name=thing, a_name=f"{article(thing)} {thing}", person=name, friend=friend
        )
        rate, pitch = int(rng.integers(140, 201)), int(rng.integers(30, 71))
        yield Utterance("name", "en", text, text, pick(rng, voices), rate, pitch, names)


def known(count: int) -> Iterator[Utterance]:
    """What nano has learnt already, so that it is not forgotten."""
    found = (utterance_of("train", index) for index in itertools.count())
    own = (said for said in found if said.voice.program == "espeak-ng")
    return itertools.islice(own, count)


def listed(number: int, names: Sequence[str]) -> list[str]:
    """For every third recording of new names a list of ten words to listen for, else none."""
    if number % 3 or not set(names) & set(NEW_NAMES):
        return []
    rng = np.random.default_rng(number)
    others = [name for name in NEW_NAMES if name not in names]
    found = [*names, *(others[i] for i in rng.permutation(len(others))[:9])]
    return [found[i] for i in rng.permutation(len(found))]


def write(folder: Path, sentences: Iterable[Utterance]) -> None:
    """The recordings as WAV files and `rows.jsonl`."""
    folder.mkdir(parents=True)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as rows:
        for number, said in enumerate(sentences):
            file = f"{number:03}.wav"
            with wave.open(str(folder / file), "wb") as sound:
                sound.setparams((1, 2, 16_000, 0, "NONE", ""))
                sound.writeframes((speak(said) * 32_767).round().astype("<i2").tobytes())
            row = {
                "audio": file,
                "text": said.text,
                "language": said.lang,
                "hotwords": listed(number, said.names),
                # For `ming eval run asr`, which reads the rows of ContextASR-Bench:
                "wav_path": file,
                "entity_list": said.names,
            }
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")


def main(folder: str) -> None:
    write(Path(folder, "train"), new_names(TRAIN_VOICES["en"][0], 12, seed=0))
    write(Path(folder, "known"), known(400))
    write(Path(folder, "held-out"), new_names(TEST_VOICES["en"][0], 2, seed=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
