"""Scored runs: files of predictions that go on, what is refused, and scores with intervals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ming_core.errors import BadConfig, BadMedia, CannotWrite, MingError, MissingPlugin
from ming_core.evaluation import (
    Benchmark,
    Judge,
    Predictions,
    Row,
    RunSettings,
    Sample,
    Score,
    Sums,
    interval,
    interval_of_difference,
    judge_rows,
    predict,
    read_predictions,
    running,
    score_rows,
)
from ming_core.notes import collected_notes

SETTINGS = RunSettings("sums", {}, None, "tiny", "abc", "float32", None, "0")


class Adding(Benchmark):
    """Sums to be calculated, in two columns; `talk` has a second question."""

    judges = ("strict",)

    def __init__(self, count: int = 10) -> None:
        self.count = count
        self.judged: list[str] = []

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        for column in ("plain", "talk"):
            for i in range(limit or self.count):
                yield Sample(f"{i}+1", {"answer": str(i + 1)}, column, i)

    def task(self, sample: Sample) -> Any:
        if sample.item == 7:
            raise BadMedia("7 is smudged")
        return f"{sample.item}+1"

    def next_task(self, sample: Sample, results: Sequence[Any]) -> Any:
        return f"{results[0]}?" if sample.column == "talk" and len(results) == 1 else None

    def batch(self, column: str) -> int:
        return 4

    def score(self, rows: Sequence[Row]) -> list[Score]:
        right = [(row.prediction == row.facts["answer"], 1) for row in rows]
        return [Score("right", sum(r for r, _ in right) / len(rows), len(rows))]

    def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
        def strict(row: Row) -> str:
            self.judged.append(row.id)
            if row.id == "2+1":
                raise MingError("no opinion on 2+1")
            return f"{name} says {row.prediction}"

        return strict


class Calculator:
    """A model that adds; `stops` after so many batches. `batches` has what it was asked."""

    def __init__(self, stops: int | None = None) -> None:
        self.stops = stops
        self.batches: list[list[str]] = []
        self.answer: Callable[[str], Any] = lambda task: task if "?" in task else str(eval(task))

    def run_many(self, model: Any, tasks: Sequence[str], batch: int) -> Iterator[Any]:
        assert batch == len(tasks) > 0
        if self.stops is not None and len(self.batches) >= self.stops:
            raise KeyboardInterrupt
        self.batches.append(list(tasks))
        for task in tasks:
            try:
                yield SimpleNamespace(result=self.answer(task), error=None)
            except MingError as error:
                yield SimpleNamespace(result=None, error=error)


@pytest.fixture
def calculator(monkeypatch: pytest.MonkeyPatch) -> Calculator:
    model = Calculator()
    monkeypatch.setattr(running, "run_many", model.run_many)
    return model


def run(file: Path, settings: RunSettings = SETTINGS, **options: Any) -> list[Row]:
    benchmark = options.pop("benchmark", Adding())
    return predict(SimpleNamespace(), benchmark, settings, file, **options)  # type: ignore[arg-type]


def test_a_run_asks_each_column_batch_by_batch_and_turn_by_turn(
    calculator: Calculator, tmp_path: Path
) -> None:
    with collected_notes() as notes:
        rows = run(tmp_path / "run.jsonl")
    assert calculator.batches == [
        ["0+1", "1+1", "2+1", "3+1"],
        ["4+1", "5+1", "6+1"],  # 7 cannot be read
        ["8+1", "9+1"],
        ["0+1", "1+1", "2+1", "3+1"],
        ["1?", "2?", "3?", "4?"],
        ["4+1", "5+1", "6+1"],
        ["5?", "6?", "7?"],
        ["8+1", "9+1"],
        ["9?", "10?"],
    ]
    assert rows[3] == Row("3+1", {"answer": "4"}, "plain", "4")
    assert rows[7] == Row("7+1", {"answer": "8"}, "plain", error="7 is smudged")
    assert rows[13] == Row("3+1", {"answer": "4"}, "talk", "4?")
    assert notes == ["left out: 7 is smudged"]
    stored = read_predictions(tmp_path / "run.jsonl")
    assert (stored.settings, list(stored.rows), stored.complete) == (SETTINGS, rows, True)


@pytest.mark.parametrize("stops", range(1, 9))
def test_a_stopped_run_goes_on_and_ends_with_the_same_file(
    calculator: Calculator, tmp_path: Path, stops: int
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    run(whole)
    calculator.batches, calculator.stops = [], stops
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    assert not read_predictions(broken).complete
    asked = calculator.batches
    calculator.batches, calculator.stops = [], None
    run(broken)
    assert broken.read_bytes() == whole.read_bytes()
    # Nothing is asked twice but the first turns of a batch that was in its second.
    turns = int(stops in (4, 6, 8))
    assert len(asked) + len(calculator.batches) == 9 + turns


def test_a_run_that_was_killed_within_a_line_goes_on(
    calculator: Calculator, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    run(whole)
    content = whole.read_bytes()
    for size in range(0, len(content), 37):
        broken.write_bytes(content[:size])
        cut = size and not content[:size].endswith(b"\n")
        with collected_notes() as notes:
            run(broken)
        assert broken.read_bytes() == content
        said = f"a line of {broken} broke off, so what it said is left out or done again"
        assert (said in notes) == bool(cut and b"\n" in content[:size])


def test_a_batch_that_was_stopped_in_the_middle_is_answered_as_a_whole(
    calculator: Calculator, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    run(file)
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]))  # two of the four samples of a batch
    calculator.batches = []
    run(file)
    assert calculator.batches[0] == ["0+1", "1+1", "2+1", "3+1"]
    assert file.read_bytes() == content


def test_a_line_that_is_broken_before_others_is_done_again_in_its_place(
    calculator: Calculator, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    run(file)
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    lines[2] = lines[2][:20] + b"\n"
    file.write_bytes(b"".join(lines))
    assert not read_predictions(file).complete
    run(file)
    assert file.read_bytes() == content


def test_what_is_there_is_not_asked_again(calculator: Calculator, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "run.jsonl"
    first = run(file)
    calculator.batches = []
    with collected_notes() as notes:
        assert run(file) == first
    assert calculator.batches == []
    assert notes == [f"all 20 predictions are in {file} already; --again makes new ones"]
    assert run(file, again=True) == first
    assert len(calculator.batches) == 9


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"benchmark": "products"}, "with the benchmark sums, not with the benchmark products"),
        ({"model": "huge", "mark": "def"}, "with the model tiny, not with huge"),
        ({"mark": "def"}, "with other weights or another config.json of tiny"),
        ({"dtype": "bfloat16"}, "with dtype float32, not with dtype bfloat16"),
        ({"options": {"base": "2", "a": "b"}}, "with no options, not with a=b base=2"),
        ({"limit": 3}, "with no limit, not with limit 3"),
    ],
)
def test_a_file_of_another_run_is_refused(
    calculator: Calculator, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    file = tmp_path / "run.jsonl"
    run(file)
    before = file.read_bytes()
    with pytest.raises(BadConfig) as error:
        run(file, replace(SETTINGS, **change))
    assert str(error.value) == (
        f"{file} was made {sentence}; choose another file with --out, or replace it with --again"
    )
    assert file.read_bytes() == before
    run(file, replace(SETTINGS, **change), again=True)


def test_places_and_versions_may_differ(calculator: Calculator, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    run(file)
    run(file, replace(SETTINGS, model="copy", data="/elsewhere", version="9"))


def test_other_data_are_refused(calculator: Calculator, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    run(file)

    class Changed(Adding):
        def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
            for sample in super().samples(data, limit):
                yield replace(sample, facts={"answer": sample.facts["answer"] + "0"})

    with pytest.raises(BadConfig, match=r"made with other data: '0\+1' of 'plain' is another sam"):
        run(file, benchmark=Changed())
    with pytest.raises(BadConfig, match=r"made with other data: '5\+1' of 'plain' is no sample"):
        run(file, benchmark=Adding(5))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"milk\neggs\n", "is no file of predictions; give a file that `ming eval` wrote"),
        (b"{}", "is no file of predictions"),
        (b'{"a": 1}\n', "is no file of predictions"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no file of predictions"),
        (b'{"predictions": 9}\n', "was written by another version of ming-core; update"),
        (b'{"predictions": 1, "benchmark": "sums"}\n', "first line of .* was changed"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(
    calculator: Calculator, tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    with pytest.raises(BadConfig, match=sentence):
        read_predictions(file)
    with pytest.raises(BadConfig, match=sentence):
        run(file)
    assert file.read_bytes() == content


def test_a_line_of_another_shape_is_told_with_its_number(
    calculator: Calculator, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    run(file)
    for line in (b'{"id": 3}', b'{"id": "a", "column": "b", "facts": {}}', b'{"error": []}'):
        lines = file.read_bytes().splitlines()
        lines[4] = line
        file.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(BadConfig, match=r"line 5 of .* is \{.*; expected id, column, facts"):
            read_predictions(file)


def test_places_that_take_no_file(calculator: Calculator, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="is no file"):
        run(tmp_path)
    (tmp_path / "note").write_text("")
    with pytest.raises((BadConfig, CannotWrite)):
        run(tmp_path / "note" / "run.jsonl")
    with pytest.raises(BadConfig, match="No such file"):
        read_predictions(tmp_path / "none.jsonl")


def test_one_run_at_a_time_has_a_file(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    file = tmp_path / "run.jsonl"
    with (
        Predictions.open(file, SETTINGS),
        pytest.raises(BadConfig, match=r"another run writes .* now"),
        Predictions.open(file, SETTINGS),
    ):
        pass
    with Predictions.open(file, SETTINGS):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of this kind")
def test_a_full_disk_keeps_what_is_done(calculator: Calculator, tmp_path: Path) -> None:
    import resource
    import signal

    whole, file = tmp_path / "whole.jsonl", tmp_path / "run.jsonl"
    run(whole)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with pytest.raises(CannotWrite, match=r"what is done is kept, and the same command goes"):
            run(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == whole.read_bytes()[:600]
    run(file)
    assert file.read_bytes() == whole.read_bytes()


def test_what_is_wrong_with_the_model_ends_the_run(calculator: Calculator, tmp_path: Path) -> None:
    def missing(task: str) -> Any:
        raise MissingPlugin("nobody calculates")

    calculator.answer = missing
    with pytest.raises(MissingPlugin):
        run(tmp_path / "run.jsonl")


def test_two_samples_of_one_name_are_an_error(calculator: Calculator, tmp_path: Path) -> None:
    class Twice(Adding):
        def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
            yield from [Sample("0+1", item=0)] * 2

    with pytest.raises(BadConfig, match=r"two samples of 'model' are called '0\+1'"):
        run(tmp_path / "run.jsonl", benchmark=Twice())


def test_scores_need_a_prediction() -> None:
    with pytest.raises(BadConfig, match="there are no predictions yet"):
        score_rows(Adding(), [])
    with pytest.raises(BadConfig, match="no sample has a prediction: smudged"):
        score_rows(Adding(), [Row("1", {}, "plain", error="smudged")])


@pytest.mark.parametrize("facts", [{}, {"answer": []}])
def test_facts_of_another_kind_are_one_sentence(facts: dict[str, Any], tmp_path: Path) -> None:
    class Strict(Adding):
        def score(self, rows: Sequence[Row]) -> list[Score]:
            return [Score(row.facts["answer"].strip(), 1.0, 1) for row in rows]

        def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
            return lambda row: row.facts["answer"].strip()

    rows = [Row("1", facts, "plain", "1")]
    sentence = r"cannot read its predictions \((Key|Attribute)Error: .*\): they were changed, or"
    with pytest.raises(BadConfig, match=sentence):
        score_rows(Strict(), rows)
    with pytest.raises(BadConfig, match=sentence):
        judge_rows(Strict(), "strict", rows, tmp_path / "run.jsonl")


def test_a_judge_is_asked_once_about_each_prediction(
    calculator: Calculator, tmp_path: Path
) -> None:
    file, kept = tmp_path / "run.jsonl", tmp_path / "run.strict.jsonl"
    rows = run(file, replace(SETTINGS, limit=3))
    benchmark = Adding()
    with collected_notes() as notes:
        judged = judge_rows(benchmark, "strict", rows, file)
    assert judged[0].verdicts == {"strict": "strict says 1"}
    assert notes == ["not judged: no opinion on 2+1"]
    assert judged[2] == rows[2]
    assert len(benchmark.judged) == 6
    content = kept.read_bytes()
    kept.write_bytes(content[:-5])  # killed within a line
    benchmark.judged.clear()
    assert judge_rows(benchmark, "strict", rows, file) == judged
    assert benchmark.judged == ["2+1", "1+1", "2+1"]  # those without a verdict
    # A prediction that changed is judged again.
    changed = [replace(rows[0], prediction="9"), *rows[1:]]
    benchmark.judged.clear()
    assert judge_rows(benchmark, "strict", changed, file)[0].verdicts == {"strict": "strict says 9"}
    assert benchmark.judged[0] == "0+1"
    json.loads(kept.read_text().splitlines()[0])


def test_a_model_is_told_by_its_weights_and_its_config(tmp_path: Path) -> None:
    def mark(folder: str, value: float, width: int = 3) -> str:
        place = tmp_path / folder / "talker"
        place.mkdir(parents=True, exist_ok=True)
        write_safetensors(place / "model.safetensors", value)
        checkpoint = SimpleNamespace(folder=tmp_path / folder)
        sources = SimpleNamespace(
            config={"width": width}, preprocessor={}, checkpoints=[checkpoint]
        )
        return running.model_mark(SimpleNamespace(sources=sources))  # type: ignore[arg-type]

    assert mark("a", 1.0) == mark("moved", 1.0)
    assert len({mark("a", 1.0), mark("a", 2.0), mark("a", 1.0, width=4)}) == 3


def write_safetensors(path: Path, value: float) -> None:
    """Two tensors, of which the larger one has the value in its middle."""
    small, large = np.zeros(4, np.float32), np.zeros(100_000, np.float32)
    large[50_000] = value
    header = json.dumps(
        {
            "large": {"dtype": "F32", "shape": [100_000], "data_offsets": [0, large.nbytes]},
            "small": {
                "dtype": "F32",
                "shape": [4],
                "data_offsets": [large.nbytes, large.nbytes + 16],
            },
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + large.tobytes() + small.tobytes())


def test_results_that_are_files_lie_beside_the_predictions_where_a_judge_finds_them(
    calculator: Calculator, tmp_path: Path
) -> None:
    class Painted(Adding):
        def prediction(self, sample: Sample, results: Sequence[Any], folder: Path) -> str:
            folder.mkdir(exist_ok=True)
            name = f"{sample.column}-{sample.item}.txt"
            (folder / name).write_text(results[-1])
            return name

        def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
            return lambda row: (folder / row.prediction).read_text()

    file = tmp_path / "run.jsonl"
    rows = run(file, replace(SETTINGS, limit=2), benchmark=Painted())
    assert rows[1].prediction == "plain-1.txt"
    assert (tmp_path / "run.files" / "plain-1.txt").read_text() == "2"
    judged = judge_rows(Painted(), "strict", rows, file)
    assert judged[1].verdicts == {"strict": "2"}


def test_an_interval_is_the_same_in_every_run_and_holds_the_score() -> None:
    hits = np.random.default_rng(1).random(400) < 0.7
    numbers = [(int(hit), 1) for hit in hits]
    found = interval(Sums(numbers))
    assert found is not None
    assert found == interval(Sums(numbers))
    low, high = found
    share = hits.mean()
    expected = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert low < share < high
    assert (high - low) / 2 == pytest.approx(expected, rel=0.15)


def test_groups_are_drawn_together() -> None:
    """Ten speakers who are always or never understood are ten cases, not a thousand."""
    numbers = [(speaker % 2, 1) for speaker in range(10) for _ in range(100)]
    groups = [f"s{speaker}" for speaker in range(10) for _ in range(100)]
    alone, together = interval(Sums(numbers)), interval(Sums(numbers, groups=groups))
    assert alone is not None
    assert together is not None
    assert together[1] - together[0] > 5 * (alone[1] - alone[0])


def test_any_function_of_sums_has_an_interval() -> None:
    """A harmonic mean of two shares, of which each sample has a part in one."""
    numbers = [(1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1), (0, 0, 0, 1)] * 50

    def harmonic(sums: np.ndarray) -> np.ndarray:
        a, b = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
        return 2 * a * b / (a + b)

    found = interval(Sums(numbers, harmonic))
    assert found is not None
    assert found[0] < 0.5 < found[1]


def test_where_there_is_no_interval() -> None:
    assert interval(Sums([])) is None
    assert interval(Sums([(1, 1)])) is None
    assert interval(Sums([(1, 1), (0, 1)], groups=["a", "a"])) is None
    assert interval(Sums([(0, 0), (0, 0)])) is None  # a rate over no words
    assert interval(Sums([(1, 0), (1, 2)])) == (0.5, 1.0)  # draws over no words are left out


def test_the_interval_of_a_difference_is_that_of_pairs() -> None:
    """Two models of which one is right where the other is, and in some cases besides."""
    random = np.random.default_rng(2)
    first = random.random(400) < 0.6
    second = first | (random.random(400) < 0.05)
    before, after = ([(int(hit), 1) for hit in hits] for hits in (first, second))
    found = interval_of_difference(Sums(before), Sums(after))
    alone = interval(Sums(before))
    assert found is not None
    assert alone is not None
    assert 0 < found[0] < second.mean() - first.mean() < found[1]
    assert found[1] - found[0] < 0.5 * (alone[1] - alone[0])
    assert interval_of_difference(Sums(before), Sums(before)) == (0, 0)
    assert interval_of_difference(Sums([(1, 1)]), Sums([(0, 1)])) is None
    with pytest.raises(ValueError, match="scores of"):
        interval_of_difference(Sums(before), Sums(after[1:]))


def test_a_score_has_the_interval_of_its_sums_and_does_not_write_them() -> None:
    sums = Sums([(1, 1), (0, 1), (1, 1)])
    score = Score("right", 2 / 3, 3, sums=sums)
    assert score.interval == interval(sums)
    assert json.dumps(score.to_dict()).count("sums") == 0
