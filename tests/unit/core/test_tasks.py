"""Tasks: one alone, many at once, what a model can do, and how the methods look."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from ming_core import Image, OmniModel, load, user
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request, sampling_of
from ming_core.errors import (
    BadConfig,
    BadMedia,
    MingError,
    MissingPlugin,
    NotFinite,
    UnknownName,
)
from ming_core.notes import collected_notes, note_to_user
from ming_core.tasks import NoTarget, Task, checked, method_of, run, run_many
from ming_core.testing import ScriptedEngine


@dataclass(frozen=True, eq=False)
class Say(Task):
    """Say words.

    Args:
        words: One request for each.
        loud: In capitals.
    """

    words: str
    _: KW_ONLY
    loud: bool = False

    pieces: ClassVar[bool] = True

    def requests(self, model: OmniModel) -> Iterator[Request]:
        for word in self.words.split():
            if word == "broken":
                raise BadMedia("this word is broken")
            note_to_user(f"asked for {word}")
            yield Request([user(word)], sampling=sampling_of(False, self.sampling))

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> str:
        said = " ".join(str(checked(model, answer)) for answer in answers)
        return said.upper() if self.loud else said


class Model:
    """Answers with the word itself; `fails` is refused, and `odd` has no finite values."""

    name = short_name = "scripted"
    knowledge = None
    config = SimpleNamespace(max_position_embeddings=64)

    def __init__(self) -> None:
        self.engine = ScriptedEngine(self.reply)
        self.asked: list[Request] = []

    def reply(self, request: Request) -> Answer:
        self.asked.append(request)
        word = request.messages[0].text
        if word == "fails":
            raise BadConfig("the prompt is too long")
        return Answer(word, 1, True, error="no finite numbers" if word == "odd" else None)


@pytest.fixture
def model() -> Any:
    return Model()


def test_one_task(model: Any) -> None:
    say = method_of(Say)
    with collected_notes() as notes:
        assert say(model, "a b", loud=True, max_new_tokens=5) == "A B"
    assert notes == ["asked for a", "asked for b"]
    assert model.asked[0].sampling.max_new_tokens == 5
    told: list[Any] = []
    assert run(model, Say("a b c"), batch=2, progress=lambda *at: told.append(at)) == "a b c"
    assert told == [(1, None), (2, None), (3, None)]
    assert model.engine.together[2:] == [2, 2, 1]
    assert run(model, Say("")) == ""


@pytest.mark.parametrize(
    ("words", "error"), [("a broken", BadMedia), ("a fails b", BadConfig), ("odd", NotFinite)]
)
def test_an_error_is_raised(model: Any, words: str, error: type[MingError]) -> None:
    with pytest.raises(error):
        run(model, Say(words))
    assert model.engine.step  # it goes on
    assert run(model, Say("a")) == "a"


def test_many_keep_their_order_and_their_errors(model: Any) -> None:
    items = ["a b", "broken", "c", "d fails e", "odd", ""]
    outcomes = list(run_many(model, map(Say, items), batch=3))
    assert [outcome.result for outcome in outcomes] == ["a b", None, "c", None, None, ""]
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        BadMedia,
        type(None),
        BadConfig,
        NotFinite,
        type(None),
    ]
    assert outcomes[0].notes == ("asked for a", "asked for b")
    assert outcomes[2].task is not None
    assert max(model.engine.together) == 3


def test_tasks_are_taken_as_they_are_needed(model: Any) -> None:
    taken: list[int] = []

    def endless() -> Iterator[Task]:
        while True:
            taken.append(len(taken))
            yield Say("a")

    outcomes = run_many(model, endless(), batch=2)
    assert [next(outcomes).result for _ in range(5)] == ["a"] * 5
    assert len(taken) <= 5 + 2
    assert model.engine._waiting
    outcomes.close()  # type: ignore[attr-defined]
    assert not model.engine._waiting


def test_what_is_wrong_for_all_ends_all(model: Any) -> None:
    def unknown() -> Task:
        return Say.of("a", lod=True)

    outcomes = run_many(model, [Say("a"), unknown, Say("b")])
    assert next(outcomes).result == "a"
    with pytest.raises(UnknownName, match=r"unknown option of say 'lod'; did you mean 'loud'\?"):
        next(outcomes)
    with pytest.raises(BadConfig, match="batch is 0; it must be at least 1"):
        run_many(model, [], batch=0)
    wrong: Any = 1.5
    with pytest.raises(BadConfig, match=r"batch is 1\.5; it must be a whole number"):
        run_many(model, [], batch=wrong)


def test_options_are_checked_at_once() -> None:
    with pytest.raises(BadConfig, match="temperature is -1"):
        Say.of("a", temperature=-1)
    for option in ({"seed": 1}, {"top_p": 0.5}, {"top_k": 3}):
        with pytest.raises(BadConfig, match=r"has no effect at temperature 0, which always takes"):
            Say.of("a", **option)
        assert Say.of("a", temperature=0.5, **option).sampling == {"temperature": 0.5, **option}
    with pytest.raises(NotImplementedError):
        Task().requests(Model())  # type: ignore[arg-type]
    with pytest.raises(NoTarget, match="the task 'say' has no target to train on"):
        Say("a").target(Model(), "a")  # type: ignore[arg-type]


# With nano


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


@pytest.fixture(scope="module")
def scene(repository: Any) -> str:
    return str(repository / "docs/images/scene.png")


def test_many_items_of_several_forms(nano: OmniModel, scene: str) -> None:
    alone = [nano.ground(scene, name) for name in ("star", "ring")]
    told: list[Any] = []
    items = [(scene, "star"), {"image": Image(scene), "expression": "ring"}, (scene, " ")]
    outcomes = nano.many("ground", items, batch=2, progress=lambda *at: told.append(at))
    first, second, wrong = outcomes
    assert [first.result.boxes, second.result.boxes] == [found.boxes for found in alone]
    assert str(wrong.error).startswith("ground needs words that say what to look for")
    assert told == [(1, 3), (2, 3), (3, 3)]
    (same,) = nano.many("ground", [scene], expression="star", max_new_tokens=20)
    assert same.result.boxes == alone[0].boxes
    (asked,) = nano.many("ask", [("how many shapes are there?", scene)])
    assert asked.result == nano.ask("how many shapes are there?", scene)
    described = nano.many("describe", iter([scene, "no.png"]))
    assert [outcome.error is None for outcome in described] == [True, False]


def test_a_pair_is_one_sound(nano: OmniModel) -> None:
    (heard,) = nano.many("transcribe", [(np.zeros(8000, np.float32), 8000)])
    assert heard.result.seconds == 1
    assert heard.result.notes == ("no speech was heard",)


def test_what_many_cannot_do(nano: OmniModel, scene: str) -> None:
    with pytest.raises(BadConfig, match="'watch' cannot be done for many items at once; call mo"):
        nano.many("watch", [scene])
    with pytest.raises(UnknownName, match=r"unknown task 'grond'; did you mean 'ground'\?"):
        nano.many("grond", [scene])
    with pytest.raises(MissingPlugin, match="task 'draw' needs "):
        nano.many("draw", ["a cat"])
    with pytest.raises(UnknownName, match=r"unknown option of ground 'sed'; did you mean 'seed'"):
        nano.many("ground", [scene], sed=3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ((), "missing a required argument: 'screenshot'"),
        ("scene.png", "missing a required argument: 'instruction'"),
        (("scene.png", "star", (), "more"), "too many positional arguments"),
        ({"instruction": "star"}, "missing a required argument: 'screenshot'"),
        ({"screenshot": "scene.png", "instruktion": "star"}, "did you mean 'instruction'"),
        (("scene.png", 5), "click needs words that say what to look for"),
    ],
)
def test_wrong_arguments_of_an_item_are_its_own_error(
    nano: OmniModel, scene: str, wrong: Any, reason: str
) -> None:
    bad, good = nano.many("click", [wrong, (scene, "star")], max_new_tokens=20)
    assert reason in str(bad.error)
    assert good.result == nano.click(scene, "star", max_new_tokens=20)


def test_media_of_a_question_have_a_name(nano: OmniModel, scene: str) -> None:
    question = "how many shapes are there?"
    (named,) = nano.many("ask", [{"question": question, "media": [scene]}])
    assert named.result == nano.ask(question, scene)


def test_a_seed_changes_what_is_drawn_and_repeats_it(nano: OmniModel, scene: str) -> None:
    def described(seed: int, batch: int = 8) -> list[str]:
        options = {"temperature": 3.0, "seed": seed, "max_new_tokens": 12}
        return [
            str(o.result) for o in nano.many("describe", [scene, scene], batch=batch, **options)
        ]

    first, again = described(1)
    assert first == again  # the same picture, the same seed
    assert described(1, batch=1) == [first, again]
    assert len({first, *described(2), *described(3)}) > 1


def test_the_tasks_of_a_model_are_those_it_can_do(nano: OmniModel) -> None:
    tasks = nano.tasks
    assert set(tasks) == {
        *("ask", "chat", "describe", "read", "ground", "click", "watch", "transcribe")
    }
    assert tasks["read"] == "read text, markdown or tables from a picture"
    assert set(tasks.missing) == {"draw", "edit", "segment", "say"}
    assert tasks.missing["draw"].startswith("task 'draw' needs ")
    assert "ground      find what words name" in str(tasks)
    assert "missing: task 'draw' needs" in str(tasks)
    deaf = load("nano", parts=["text", "image"])
    assert "transcribe" not in deaf.tasks
    assert "this model was loaded with parts=" in deaf.tasks.missing["transcribe"]
    assert not hasattr(deaf, "transcribe")
    assert "transcribe" not in dir(deaf)
    assert "ground" in dir(deaf)
    with pytest.raises(MissingPlugin, match="loaded with parts="):
        deaf.transcribe("a.wav")


def test_listing_tasks_reads_no_weights() -> None:
    model = load("nano")
    assert "ground" in model.tasks
    assert hasattr(model, "transcribe")
    assert model.loaded == {}


def test_what_a_model_cannot_do_is_no_attribute(nano: OmniModel) -> None:
    assert not hasattr(nano, "draw")
    assert not hasattr(nano, "nothing_at_all")
    assert getattr(nano, "draw", None) is None
    with pytest.raises(AttributeError, match="task 'draw' needs "):
        _ = nano.draw
    with pytest.raises(MissingPlugin, match="task 'draw' needs "):
        nano.draw("a cat")
    assert copy.copy(nano).name == "nano"


def test_methods_show_their_signature_and_text(nano: OmniModel) -> None:
    ground = inspect.signature(nano.ground)
    assert str(ground) == (
        "(image: 'Any', expression: 'str | None' = None, *, think: 'bool' = False, "
        "**sampling: 'Unpack[SamplingOptions]') -> 'Grounding'"
    )
    assert str(inspect.getdoc(nano.ground)).startswith(
        "Find things in a picture. The boxes are in "
    )
    assert nano.ground.__name__ == "ground"
    heard = inspect.signature(nano.transcribe).parameters
    assert list(heard)[:4] == ["source", "language", "context", "hotwords"]
    assert heard["batch"].default == 8
    assert heard["progress"].default is None
    for name in ("describe", "read", "click"):
        parameters = inspect.signature(getattr(nano, name)).parameters.values()
        assert [p.name for p in parameters if p.kind is p.VAR_KEYWORD] == ["sampling"]
    with pytest.raises(TypeError, match=r"ground: missing a required argument: 'image'; it takes"):
        nano.ground()
