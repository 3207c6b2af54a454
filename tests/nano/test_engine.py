"""Requests of all modalities that nano answers at once, token by token as each by itself."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ming_core import Audio, Image, OmniModel, Video, assistant, load, system, user
from ming_core.engine.engine import Ticket
from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling
from ming_core.plugins import get_plugins
from ming_core.plugins.hooks import hookimpl


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


def test_a_plugin_may_ask_when_a_part_arrives_while_others_are_answered() -> None:
    """The encoder arrives in one thread; the other computes, and needs the language model."""
    nano, answers = load("nano", device="cpu"), list[str]()
    started, asked = threading.Event(), threading.Event()

    class Plugin:
        @hookimpl
        def ming_component_loaded(self, model: OmniModel, name: str) -> None:
            if name == "image":
                started.set()
                asked.wait(1)  # until the other thread has begun, if it can
                answers.append(model.ask("what color is the circle?").text)

    def other() -> None:
        started.wait(20)
        ticket = nano.engine.submit(Request((user("what color is the star?"),)))
        with nano.engine.lock:
            asked.set()
            nano.engine.wait(ticket)

    plugin = Plugin()
    get_plugins().add(plugin, "asking", "asking")
    try:
        threads = [
            threading.Thread(target=call, daemon=True)
            for call in (lambda: nano.encoder("image"), other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    finally:
        get_plugins.cache_clear()
    assert len(answers) == 1
