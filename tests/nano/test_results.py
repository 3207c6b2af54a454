"""What tasks give is plain data: it can be copied, sent to another process and written as JSON."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pydoc
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch

from ming_core import Image, OmniModel, load, user
from ming_core.plugins import get_plugins
from ming_core.tasks.task import method_of


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


def _watched(nano: OmniModel, picture: Path) -> Any:
    session = nano.watch(frames=4)
    session.whenever("What shape is at the top left?", every=1.0)
    remarks = [said for second in range(4) for said in session.see(picture, seconds=second)]
    return remarks[0]


RESULTS: dict[str, Callable[[OmniModel, Path, Path], Any]] = {
    "ask": lambda nano, picture, _: nano.ask("What shape is at the top left?", Image(picture)),
    "chat": lambda nano, picture, _: nano.chat([user(Image(picture), "How many shapes?")]),
    "describe": lambda nano, picture, _: nano.describe(picture),
    "read": lambda nano, picture, _: nano.read(picture),
    "ground": lambda nano, picture, _: nano.ground(picture, "red star"),
    "click": lambda nano, picture, _: nano.click(picture, "red star"),
    "transcribe": lambda nano, _, sound: nano.transcribe(sound),
    "watch": lambda nano, picture, _: _watched(nano, picture),
}


def test_every_task_has_a_result_here() -> None:
    assert {entry.name for entry in get_plugins().tasks} == set(RESULTS)


@pytest.fixture(scope="module", params=RESULTS)
def result(request: pytest.FixtureRequest, nano: OmniModel, repository: Path) -> Any:
    docs = repository / "docs"
    return RESULTS[request.param](nano, docs / "images/scene.png", docs / "sounds/ring.flac")


def test_results_are_plain_data(result: Any) -> None:
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        assert other == result
        assert repr(other) == repr(result)
        assert str(other) == str(result)
        assert other.to_dict() == result.to_dict()
    values = asdict(result)
    assert set(values) == {field.name for field in fields(result)}
    plain = {name: value for name, value in values.items() if name != "image"}
    assert json.loads(json.dumps(plain))
    assert json.loads(json.dumps(result.to_dict())) is not None


def test_a_model_can_be_sent_to_another_process(nano: OmniModel, repository: Path) -> None:
    picture = Image(repository / "docs/images/scene.png")
    asked = [user(picture, "What shape is at the top left?")]
    answer = nano.chat(asked)
    for other in (pickle.loads(pickle.dumps(nano)), copy.deepcopy(nano)):
        assert other.chat(asked) == answer
        weights = zip(other.omni.parameters(), nano.omni.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize("task", RESULTS)
def test_help_shows_the_task_itself(task: str, nano: OmniModel) -> None:
    target = get_plugins().tasks[task].load()
    function = OmniModel.ask if task == "ask" else method_of(target)
    method = getattr(nano, task)
    first, *others = inspect.signature(function).parameters.values()
    assert first.name in ("model", "self")
    assert list(inspect.signature(method).parameters.values()) == others
    assert method.__doc__ == function.__doc__
    text = pydoc.plain(pydoc.render_doc(method))
    assert f"{task}({others[0].name}" in text
    assert (inspect.getdoc(function) or "?").splitlines()[0] in text
