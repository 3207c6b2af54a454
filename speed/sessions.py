"""Several conversations at once: time to the first token of a second turn, against starting anew.

    python speed/sessions.py [--seconds 30] [--sessions 8] [--json FILE]

Each session is a conversation about a picture of its own. All of them ask a first question, one
after another; then, in the same order, a second one. A session keeps what was computed of its first
turn, whatever the others do in between. It is compared with the same second turn in a new session
and with a picture that nobody has seen. Claim: a second turn takes at most LIMIT of that.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

import numpy as np

from _turns import Ratio, finish, middle, options, take_turns
from ming_core import Image, OmniModel, Session, assistant, load, user
from ming_core.media import Message
from ming_core.notes import collected_notes

LIMIT = 0.6
ASKED = "How many shapes are there?", "What colour is the largest one?"


def pictures(count: int) -> Iterator[list[np.ndarray]]:
    """Without end: pictures of random numbers, as many as there are sessions."""
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        yield [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(count)]


def first_token(session: Session, talk: list[Message]) -> float:
    """Seconds until the first token of the answer is there."""
    start = time.perf_counter()
    session.chat(talk, max_new_tokens=1)
    return time.perf_counter() - start


def second_turns(model: OmniModel, shown: list[np.ndarray]) -> float:
    """Mean seconds of the second turns of sessions whose first turns lie in between."""
    sessions = [model.session() for _ in shown]
    talks = [[user(Image(pixels), ASKED[0])] for pixels in shown]
    for session, talk in zip(sessions, talks, strict=True):
        talk += [assistant(session.chat(talk).text), user(ASKED[1])]
    return sum(map(first_token, sessions, talks)) / len(shown)


def anew(model: OmniModel, shown: list[np.ndarray], said: str) -> float:
    """Mean seconds of the same turns in new sessions. said: the answer to the first question."""
    talks = [[user(Image(p), ASKED[0]), assistant(said), user(ASKED[1])] for p in shown]
    return sum(first_token(model.session(), talk) for talk in talks) / len(shown)


def main() -> int:
    parser = options(__doc__, seconds=30)
    parser.add_argument("--sessions", type=int, default=8, help="conversations at once")
    args = parser.parse_args()
    model, shown = load("nano", device="cpu"), pictures(args.sessions)
    said = model.ask(ASKED[0], Image(next(shown)[0])).text
    times = take_turns(
        {
            "session": lambda: second_turns(model, next(shown)),
            "anew": lambda: anew(model, next(shown), said),
        },
        args.seconds,
    )
    ratio = Ratio.of(times["session"], times["anew"])
    row = {
        "model": "nano",
        "sessions": args.sessions,
        "second turn ms": middle(times["session"]),
        "anew ms": middle(times["anew"]),
        "second turn / anew": ratio,
    }
    claim = f"a second turn of {args.sessions} interleaved sessions takes at most {LIMIT} of anew"
    return finish([row], {claim: ratio.at_most(LIMIT)}, args.json)


if __name__ == "__main__":
    with collected_notes():  # that nano is not sure of noise
        code = main()
    sys.exit(code)
