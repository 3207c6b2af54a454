"""Pictures of shapes and colours that nano has no words for: the example of docs/finetune.md.

    python -m ming_recipes.understanding.example my-data held-out

writes rows about 200 pictures into the folder my-data, and about 100 others into held-out.
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


def write(folder: Path, seeds: range) -> None:
    """Pictures, and `rows.jsonl` with three questions about each. Raises CannotWrite."""
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
    write_file(folder / "rows.jsonl", "".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give two folders: one for 200 pictures to train on, one for 100 to test with")
    write(Path(sys.argv[1]), range(200))
    write(Path(sys.argv[2]), range(10_000, 10_100))
