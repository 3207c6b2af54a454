"""Requests that arrive at different times: all at once through the engine, or one after another.

    python speed/engine.py [--seconds 30] [--gap 0.005] [--device cpu] [--json FILE]

16 requests about pictures, sounds, videos and text arrive, one every `--gap` seconds. Through the
engine, a request joins those that are being decoded; one after another, it waits for those before
it. Answers have 2 to 25 tokens; four are reasoned. Claims: the engine answers at least LEAST times
as many requests per second, and every answer is the same, token by token.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as pil

from _turns import Ratio, finish, in_turns, middle, options
from ming_core import Audio, Frames, Image, OmniModel, Request, Video, load, user
from ming_core.engine.engine import Ticket
from ming_core.presets import preset_folders

LEAST = 2.5


def requests() -> list[Request]:
    """16 requests; their media are new objects, so that nothing is known of them."""
    scene = Path(preset_folders("nano")["backbone"]) / "demo.png"
    pixels = np.asarray(pil.open(scene).convert("RGB"))

    def moving(count: int) -> Video:
        frames = [np.roll(pixels, 2 * number, axis=1) for number in range(count)]
        return Video(Frames(frames, [number / 2 for number in range(count)]))

    def some(number: int) -> list[Request]:
        tone = np.sin(np.arange(8_000 * (number + 1)) * 0.1).astype(np.float32)
        asked = [
            (Image(scene), "describe the picture."),
            (Image(scene), "how many circles are there?"),
            (moving(4 + 4 * number), "describe the video."),
            (Image(scene), "describe the picture."),
            (Audio(tone),),
            ("what can you see? " * (number + 1),),
            (Image(scene), "描述这张图片。"),
            (Image(scene), "how many shapes are there?"),
        ]
        return [Request([user(*parts)], think=place in (1, 7)) for place, parts in enumerate(asked)]

    return [*some(0), *some(1)]


def one_by_one(model: OmniModel, gap: float) -> list[Ticket]:
    """Each request once it has arrived and the one before it has its answer."""
    start, tickets = time.perf_counter(), []
    for number, request in enumerate(requests()):
        time.sleep(max(0.0, start + number * gap - time.perf_counter()))
        tickets.append(model.engine.submit(request))
        model.engine.wait(tickets[-1])
    return tickets


def together(model: OmniModel, gap: float) -> list[Ticket]:
    """Each request as soon as it has arrived."""
    start, tickets, left = time.perf_counter(), list[Ticket](), requests()
    while left or not all(ticket.done for ticket in tickets):
        while left and time.perf_counter() >= start + len(tickets) * gap:
            tickets.append(model.engine.submit(left.pop(0)))
        if all(ticket.done for ticket in tickets):
            time.sleep(max(0.0, start + len(tickets) * gap - time.perf_counter()))
        else:
            model.engine.step()
    return tickets


def main() -> int:
    parser = options(__doc__, seconds=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gap", type=float, default=0.005, help="seconds between two requests")
    args = parser.parse_args()
    model = load("nano", device=args.device, dtype="float32")
    ways: dict[str, Callable[[OmniModel, float], list[Ticket]]] = {
        "one by one": one_by_one,
        "engine": together,
    }
    tokens = {name: [t.row.tokens for t in way(model, args.gap)] for name, way in ways.items()}
    times = in_turns(
        {name: lambda way=way: way(model, args.gap) for name, way in ways.items()}, args.seconds
    )
    ratio = Ratio.of(times["one by one"], times["engine"])
    sizes = [len(row) for row in tokens["engine"]]
    row = {
        "model": "nano",
        "requests": len(sizes),
        "tokens": f"{min(sizes)} to {max(sizes)}",
        "one by one ms": middle(times["one by one"]),
        "engine ms": middle(times["engine"]),
        "engine, requests/s": ratio,
    }
    claims = {
        f"the engine answers at least {LEAST} times as many requests/s": ratio.at_least(LEAST),
        "every answer is the same, token by token": tokens["one by one"] == tokens["engine"],
    }
    return finish([row], claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
