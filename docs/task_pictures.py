"""Run the commands of the pages in docs/tasks: `python docs/task_pictures.py [PAGE...]`.

First makes what the commands look at (shapes.png, sign.png, clip.mp4, clip.png in docs/images;
scenes of the test split, which training never saw) and hear (docs/sounds, in a voice that training
never heard, if flite is installed). Then runs each `ming` command of each page in
order, which makes the other pictures, and writes what the commands print into the ```text block
that follows them. To be run again when the shipped weights change. Exits with 1 if a command does.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from ming_audio.lengths import RATE
from ming_core.cli import main as ming
from ming_recipes.nano.world.motion import Clip, clip_of
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import scene_of
from ming_recipes.nano.world.speech import Voice, utterance_of
from ming_recipes.nano.world.voices import PLAIN_RATE, MissingVoice, speak

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
SOUNDS = ROOT / "docs/sounds"
SAYINGS = {
    "talk": (
        "the purple ring belongs to Laura",
        "i can see forty two stars",
        "change the color of the large blue heart to yellow",
    ),
    "ring": ("the purple ring belongs to Laura",),
    "question": ("what color is the ring?",),
    "names": ("tell Jon to send the red cross to Julia",),
}
VOICE = Voice("flite", "rms")
PAUSE = 0.9  # seconds between sentences
SHAPES, SIGN = 9, 5
SCALE = 6
BLOCKS = re.compile(r"(```sh\n([^`]*)```\n\n```text\n).*?```", re.DOTALL)


def main(pages: Sequence[str]) -> None:
    os.chdir(ROOT)
    draw_sources()
    try:
        record_sources()
    except MissingVoice as error:
        print(f"the sounds stay as they are: {error}", file=sys.stderr)
    failed: list[str] = []
    for page in map(Path, pages) if pages else sorted(Path("docs/tasks").glob("*.md")):
        text = page.read_text("utf-8")
        shown = BLOCKS.sub(lambda block: f"{block[1]}{outputs(block[2], failed)}```", text)
        page.write_text(shown, "utf-8")
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


def draw_sources() -> None:
    """Pictures and a video of the shapes world, enlarged for people to see."""
    _enlarged(render(scene_of("test", SHAPES))).save(IMAGES / "shapes.png", optimize=True)
    _enlarged(render(scene_of("test", SIGN))).save(IMAGES / "sign.png", optimize=True)
    clips = (clip_of("test", index) for index in count())
    clip = next(clip for clip in clips if _suits(clip))
    frames = [_enlarged(frame) for frame in clip.pictures()]
    _save_video(frames, IMAGES / "clip.mp4")
    shown = [frame.resize((128, 128), Image.Resampling.NEAREST) for frame in frames]
    strip = Image.new("RGB", (136 * len(shown) - 8, 128), "white")
    for place, frame in enumerate(shown):
        strip.paste(frame, (136 * place, 0))
    strip.save(IMAGES / "clip.png", optimize=True)


def record_sources() -> None:
    """What is said in SAYINGS, a file each, 16 kHz. Raises MissingVoice."""
    some = replace(utterance_of("test", 0), voice=VOICE, rate=PLAIN_RATE)
    pause = np.zeros(round(PAUSE * RATE), np.float32)
    SOUNDS.mkdir(exist_ok=True)
    for name, sentences in SAYINGS.items():
        said = [speak(replace(some, spoken=sentence)) for sentence in sentences]
        joined = np.concatenate([part for sound in said for part in (pause, sound)][1:])
        soundfile.write(SOUNDS / f"{name}.flac", joined, RATE)


def outputs(commands: str, failed: list[str]) -> str:
    """What the `ming` commands among these lines of shell print; adds to `failed` those that do."""
    printed = ""
    for line in commands.splitlines():
        name, *arguments = shlex.split(line, comments=True) or [""]
        if name == "ming":
            shown = io.StringIO()
            try:
                with redirect_stdout(shown), redirect_stderr(shown):
                    ming(arguments)
            except SystemExit as end:
                if end.code:
                    failed.append(line)
            printed += shown.getvalue()
    return printed


def _suits(clip: Clip) -> bool:
    """Eight frames, three shapes, one of them moving."""
    moving = sum(motion is not None for motion in clip.motion)
    return clip.frames == 8 and len(clip.steps) == 3 and moving == 1


def _enlarged(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    size = picture.width * SCALE, picture.height * SCALE
    return picture.resize(size, Image.Resampling.NEAREST)


def _save_video(frames: Sequence[Image.Image], path: Path) -> None:
    """H.264 at two frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(2), options={"crf": "26"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
