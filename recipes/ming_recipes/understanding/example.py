"""Pictures of shapes and colours that nano has no words for: the example of docs/finetune.md.

    python -m ming_recipes.understanding.example my-data

writes my-data/rows.jsonl with 200 pictures, and my-data/held-out.jsonl with 100 others.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from ming_core.output import make_folder, write_file

SIZE, FINE = 64, 4

COLORS = {"brown": (120, 72, 32), "black": (20, 20, 20), "white": (245, 245, 245)}
COLORS["teal"] = (0, 128, 128)

SHAPES = {
    "bar": [(-1, -0.22), (1, -0.22), (1, 0.22), (-1, 0.22)],
    "bolt": [(0.2, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25)],
    "comb": [
        *[(-1, -0.9), (1, -0.9), (1, 0.9), (0.6, 0.9), (0.6, -0.3), (0.2, -0.3)],
        *[(0.2, 0.9), (-0.2, 0.9), (-0.2, -0.3), (-0.6, -0.3), (-0.6, 0.9), (-1, 0.9)],
    ],
    "hourglass": [(-0.8, -1), (0.8, -1), (-0.8, 1), (0.8, 1)],
}
"""Corners, in multiples of the radius."""


def picture(seed: int) -> tuple[Image.Image, str, str]:
    """A picture of one shape, its colour and its name."""
    random = Random(seed)
    color, shape = random.choice(list(COLORS)), random.choice(list(SHAPES))
    background = tuple(random.randint(140, 210) for _ in range(3))
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), background)
    radius, turn = random.uniform(18, 25), random.uniform(-0.25, 0.25)
    x, y = (SIZE / 2 + random.uniform(-5, 5) for _ in range(2))
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    corners = [
        ((x + across * cos - down * sin) * FINE, (y + across * sin + down * cos) * FINE)
        for across, down in SHAPES[shape]
    ]
    ImageDraw.Draw(image).polygon(corners, fill=COLORS[color])
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), color, shape


def write(folder: Path, name: str, seeds: range) -> None:
    """Pictures, and the file `name` with three questions about each. Raises CannotWrite."""
    make_folder(folder)
    lines = []
    for seed in seeds:
        image, color, shape = picture(seed)
        image.save(folder / f"{seed}.png")
        asked = {
            "what color is the shape?": color,
            "what shape is this?": shape,
            "what do you see?": f"a {color} {shape}",
        }
        for number, (question, answer) in enumerate(asked.items()):
            messages = [
                {"role": "user", "content": f"<image>{question}"},
                {"role": "assistant", "content": answer},
            ]
            row = {"id": f"{seed}.{number}", "messages": messages, "images": [f"{seed}.png"]}
            lines.append(json.dumps(row) + "\n")
    write_file(folder / name, "".join(lines))


if __name__ == "__main__":
    write(Path(sys.argv[1]), "rows.jsonl", range(200))
    write(Path(sys.argv[1]), "held-out.jsonl", range(10_000, 10_100))
