"""Requests of all modalities that nano answers at once, token by token as each by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ming_core import Audio, Image, OmniModel, Video, assistant, load, system, user
from ming_core.engine.engine import Ticket
from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano", device="cpu")


@pytest.fixture(scope="module")
def requests(repository: Path) -> list[Request]:
    scene, docs = Image(repository / "docs/images/scene.png"), repository / "docs"
    talks = [
        [user(scene, "describe the picture.")],
        [user(Audio(docs / "sounds/question.flac"))],
        [user(Video(docs / "images/clip.mp4"), "how many shapes are moving?")],
        [user("what color is the circle?")],
        [user(scene, Audio(docs / "sounds/question.flac"))],
        [user(Video(docs / "images/clip.mp4"), "describe the video.")],
        [system("be brief"), user(scene, "how many shapes?"), assistant("5"), user("and circles?")],
        [user(Image(docs / "images/scene.png"), "what is at the top left?")],
    ]
    thoughtful = Request(talks[0][:1], think=True, sampling=Sampling(max_new_tokens=60))
    drawn = Request(talks[7], sampling=Sampling(temperature=1.0, seed=4))
    return [*map(Request, talks), thoughtful, drawn]


@pytest.mark.parametrize("gap", [0, 2, 5])
def test_a_mixed_batch_that_is_joined_late_equals_single_runs(
    nano: OmniModel, requests: list[Request], gap: int
) -> None:
    expected, tickets = [], list[Ticket]()
    for request in requests:
        ticket = nano.engine.submit(request)
        nano.engine.wait(ticket)
        expected.append(ticket.row.tokens)
    for request in requests:
        tickets.append(nano.engine.submit(request))
        for _ in range(gap):
            nano.engine.step()
    for ticket in tickets:
        nano.engine.wait(ticket)
    assert [ticket.row.tokens for ticket in tickets] == expected
    assert len(set(map(tuple, expected))) > 6
