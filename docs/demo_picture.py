"""Draw the picture of the README from a real run: `python docs/demo_picture.py`.

The scene is number 73 of the test split, which training never saw. Also writes the picture that
`ming demo` ships (`--scene` only does that).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import ming_core
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import scene_of

ROOT = Path(__file__).parent.parent
SCENE = 73
SCALE = 6
LINE = 46
INK, QUIET, PAPER = (25, 25, 30), (110, 110, 120), (255, 255, 255)


def main() -> None:
    preset = ROOT / "packages/ming-core/src/ming_core/presets/nano"
    scene = Image.fromarray(render(scene_of("test", SCENE)))
    images = ROOT / "docs/images"
    images.mkdir(exist_ok=True)
    scene.save(preset / "demo.png")
    scene.save(images / "scene.png")
    if "--scene" in sys.argv:
        return
    model = ming_core.load("nano")
    # Pillow's embedded font has no Chinese characters; those questions are in `ming demo` itself.
    questions = json.loads((preset / "demo.json").read_text("utf-8"))["questions"]
    rows = [(q, model.ask(q, ming_core.Image(scene)).text) for q in questions if q.isascii()]
    side = 64 * SCALE
    lines: list[tuple[int, int, str, tuple[int, int, int]]] = []
    y = 24
    for question, answer in rows:
        lines.append((side + 44, y, question, QUIET))
        for line in answer.replace("; ", ";\n").replace(". ", ".\n").splitlines():
            y += 22
            lines.append((side + 60, y, line, INK))
        y += LINE - 16
    page = Image.new("RGB", (side + 560, max(side + 40, y + 10)), PAPER)
    page.paste(scene.resize((side, side), Image.Resampling.NEAREST), (20, 20))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=17)
    for x, y, text, color in lines:
        draw.text((x, y), text, color, font)
    page.save(images / "demo.png")


if __name__ == "__main__":
    main()
