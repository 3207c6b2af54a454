"""Rows of nano's own world, so that nano keeps what it knows while it learns something new."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from ming_core.output import new_folder, write_file
from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.training.data import DataSet

FIRST = 5_000_000
"""Pictures of the training split that no training of nano has used."""

ROWS = "rows.jsonl"

ASKED = Mix(questions=6, text=0.4, dialogue=0.2, video=0.0)


def rehearsal(folder: Path, pictures: int, share: float) -> DataSet:
    """A data set about so many pictures, which is made in `folder` unless it is there.

    share: as in `DataSet`. Raises CannotWrite.
    """
    if not folder.exists():
        with new_folder(folder) as made:
            _write(made, pictures)
    return DataSet(str(folder / ROWS), name="nano's world", share=share)


def _write(folder: Path, pictures: int) -> None:
    lines = []
    for index in range(pictures):
        example = training_example(FIRST + index, ASKED)
        name = f"{index:05d}.png"
        Image.fromarray(example.pictures[0]).save(folder / name)
        for number, dialogue in enumerate(example.dialogues):
            turns: list[dict[str, str]] = []
            for question in dialogue:
                turns += [
                    {"role": "user", "content": question.question},
                    {"role": "assistant", "content": question.answer},
                ]
            turns[0]["content"] = f"<image>{turns[0]['content']}"
            row = {"id": f"{index}.{number}", "messages": turns, "images": [name]}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_file(folder / ROWS, "".join(lines))
