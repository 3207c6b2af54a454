"""The benchmark `nano-perception` without a model: its samples, its turns, and its scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ming_core.evaluation import Row, Sample, score_rows
from ming_core.evaluation.benchmark import Score
from ming_core.text import json_text
from ming_recipes.nano.scores.benchmark import NanoPerception
from ming_recipes.nano.scores.evaluate import SLICES, Turn

SEEING = NanoPerception(sounds={}, speech=False)


def samples(limit: int) -> list[Sample]:
    return list(SEEING.samples(None, limit))


def scores(answer: Callable[[Sample], str | None], limit: int = 3) -> dict[tuple[str, str], Score]:
    rows = [Row(s.id, s.facts, s.column, answer(s)) for s in samples(limit)]
    return {(score.column, score.name): score for score in score_rows(SEEING, rows)}


def test_samples_are_the_same_whatever_the_limit() -> None:
    few, more = ({(s.column, s.id): s.facts for s in samples(limit)} for limit in (1, 2))
    assert len(few) == len(samples(1))
    assert few.items() <= more.items()
    assert {column for column, _ in few} == {f"{name} {lang}" for name in SLICES for lang in LANGS}
    facts = dict(samples(1)[0].facts)
    assert json.loads(json_text(facts)) == facts


LANGS = ("en", "zh")


def test_right_and_wrong_answers() -> None:
    right = scores(lambda sample: sample.facts["answer"])
    assert {score.value for score in right.values()} == {1.0}
    assert all(score.interval in ((1.0, 1.0), None) for score in right.values())
    wrong = scores(lambda sample: None)
    assert {score.value for score in wrong.values()} == {0.0}
    assert wrong.keys() == right.keys()
    assert all(score.n == score.counts["questions"] > 0 for score in right.values())


def test_the_mean_of_the_kinds_of_question() -> None:
    found = scores(lambda s: s.facts["answer"] if s.facts["kind"] == "color" else "?")
    kinds = [
        score.value
        for (column, name), score in found.items()
        if column == "test en" and name not in ("vqa", "caption")
    ]
    mean = found["test en", "vqa"]
    assert mean.value == pytest.approx(sum(kinds) / len(kinds))
    assert mean.value == pytest.approx(1 / len(kinds))
    assert found["test en", "caption"].value == 0
    assert [name for column, name in found if column == "test en"][:2] == ["vqa", "caption"]


def test_a_conversation_goes_on_from_the_answers_of_the_model() -> None:
    sample = next(s for s in samples(1) if s.column == "conversation en")
    first, task = sample.item.questions[0], SEEING.task(sample)
    answers: list[Any] = []
    asked = []
    while task is not None:
        assert isinstance(task, Turn)
        asked.append([message.text for message in task.messages])
        answers.append(SimpleNamespace(answer=f"answer {len(answers)}"))
        task = SEEING.next_task(sample, answers)
    assert len(asked) == 3
    assert asked[0] == [first.question]
    assert asked[2][1::2] == ["answer 0", "answer 1"]
    assert asked[2][-1] == sample.facts["question"]
