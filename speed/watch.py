"""A session that watches a stream: what a question costs, and what it saves to encode once.

    python speed/watch.py [--frames 1000] [--depth 4] [--json FILE]

`watch` keeps the embeddings of a bounded number of frames. First table: time to the first token of
a question, and bytes kept, after 100 frames and after `--frames` of them, with the newest 32 in
mind (so every question reads a window that is new). Second table: a stream of 64 frames, 32 in mind
evenly spaced, with a question every 4 frames, against the obvious alternative, which asks about a
video of the same frames each time, and so encodes and reads all of them anew. Both give the same
answers. Models as in follow_up.py: nano as it is, and its backbone behind a random tower of the
geometry of Lite 1.5 (`--depth` of its 32 blocks). Claims: a question after many frames takes at
most LIMIT times one after 100, the bytes stay the same, and encoding once is at least GAIN times
faster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import torch

from _turns import LEAST, Ratio, Row, Verdict, finish, middle, options, table, take_turns, timed
from follow_up import released_tower
from ming_core import OmniModel, Video, load
from ming_core.media import Frames
from ming_core.notes import collected_notes
from ming_vision.watch import watch

LIMIT = 1.25
GAIN = {"nano": 1.5, "Lite 1.5 tower": 3.0}
SIDES = {"nano": 64, "Lite 1.5 tower": 112}
KEPT = 32
SECONDS = 3.0
QUESTION = "which way does the red star move?"


def small_frames(model: OmniModel, side: int) -> None:
    """Let all frames have `side` x `side` pixels, whatever the release makes of them."""
    encoder: Any = model.encoder("image")
    limits = {"min_pixels": side**2, "max_pixels": side**2, "bounded": True}
    video = replace(encoder.processor.video, **limits)
    encoder.processor = replace(encoder.processor, video=video)


def pictures(side: int, count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def bounded(model: OmniModel, frames: int) -> tuple[list[Row], Ratio]:
    """After 100 frames and after `frames`, in turns, with two new frames before each question."""
    shown = pictures(SIDES["nano"], 100)
    sessions = {total: watch(model, frames=KEPT, keep="recent") for total in (100, frames)}
    for total, session in sessions.items():
        for count in range(total):
            session.see(shown[count % 100])
    news = {total: cycle(shown) for total in sessions}

    def first_token(total: int) -> float:
        session = sessions[total]
        session.see(next(news[total]))
        session.see(next(news[total]))
        session.turns.clear()
        return timed(lambda: session.ask(QUESTION, max_new_tokens=1))

    calls = {str(total): partial(first_token, total) for total in sessions}
    times = take_turns(calls, SECONDS)
    rows: list[Row] = [
        {
            "frames": total,
            "ms to first token": middle(times[str(total)]),
            "kB": session.nbytes / 1e3,
        }
        for total, session in sessions.items()
    ]
    return rows, Ratio.of(times[str(frames)], times["100"])


def stream(model: OmniModel, shown: Sequence[np.ndarray]) -> tuple[float, float]:
    """Seconds of a stream in which every 4 frames are followed by a question: once, and anew."""
    session = watch(model, frames=KEPT)
    once = anew = 0.0
    for start in range(0, len(shown), 4):
        begin = time.perf_counter()
        for picture in shown[start : start + 4]:
            session.see(picture)
        session.turns.clear()
        answer = session.ask(QUESTION, max_new_tokens=1)
        once += time.perf_counter() - begin
        numbers = [2 * patch + i for patch in session.past.numbers for i in range(2)]  # type: ignore[union-attr]
        video = Video(Frames([shown[n] for n in numbers], [n / 2 for n in numbers]))
        begin = time.perf_counter()
        again = model.ask(QUESTION, video, max_new_tokens=1)
        anew += time.perf_counter() - begin
        if again.text != answer.text:
            raise SystemExit(f"{again.text!r} about a video, {answer.text!r} in a session")
    return once, anew


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, default=1000, help="length of the long stream")
    parser.add_argument("--depth", type=int, default=4, help="blocks of the released tower")
    args = parser.parse_args()
    torch.manual_seed(0)
    models = {"nano": load("nano", device="cpu"), "Lite 1.5 tower": released_tower(args.depth)}
    for name, model in models.items():
        small_frames(model, SIDES[name])
    questions, growth = bounded(models["nano"], args.frames)
    print(table(questions), end="\n\n")
    few, many = questions
    print(f"after {args.frames} frames / after 100: {growth}", end="\n\n")
    claims: dict[str, Verdict | bool] = {
        f"after {args.frames} frames at most {LIMIT} x the time": growth.at_most(LIMIT),
        f"after {args.frames} frames the same bytes": many["kB"] == few["kB"],
    }
    rows = []
    for name, model in models.items():
        shown = pictures(SIDES[name], 64)
        stream(model, shown[:8])
        once, anew = zip(*(stream(model, shown) for _ in range(LEAST)), strict=True)
        gain = Ratio.of(anew, once)
        rows.append(
            {"model": name, "once s": median(once), "anew s": median(anew), "anew / once": gain}
        )
        words = f"{name}: encoding once at least {GAIN[name]} x faster"
        claims[words] = gain.at_least(GAIN[name])
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    with collected_notes():  # that nano is not sure of noise
        code = main()
    sys.exit(code)
