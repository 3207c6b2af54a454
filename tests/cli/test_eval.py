"""`ming eval`: the table, files of predictions, what reaches a benchmark, and errors of use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from ming_core.errors import BadMedia, MissingPlugin
from ming_core.evaluation import Benchmark, Judge, Row, Sample, Score, running
from ming_core.plugins import get_plugins
from ming_core.plugins.kinds import BenchmarkEntry
from ming_core.plugins.registry import Registrar, Registry


class Shapes(Benchmark):
    """Counting and colours, easy and hard; the answer to a question is the question."""

    judges = ("strict",)
    calls: list[tuple[Any, ...]]

    def __init__(self, *, level: str = "low", style: str = "plain") -> None:
        self.level, self.style = level, style

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        self.calls.append((data, limit, self.level, self.style))
        for column, kinds in (("easy", ("counting", "colour")), ("hard", ("counting", "reading"))):
            for kind in kinds:
                for i in range(limit or 4):
                    yield Sample(f"{kind} {i}", {"kind": kind, "right": i % 2 == 0}, column, i)

    def task(self, sample: Sample) -> str:
        return sample.id

    def score(self, rows: Sequence[Row]) -> list[Score]:
        found = []
        for column, kind in dict.fromkeys((row.column, row.facts["kind"]) for row in rows):
            own = [row for row in rows if (row.column, row.facts["kind"]) == (column, kind)]
            right = [row.facts["right"] for row in own if row.error is None]
            sure = (0.25, 0.75) if kind == "colour" else None
            share = sum(right) / len(own)
            published = {"Giant": 0.9} if column == "hard" else {}
            found.append(
                Score(kind, share, len(own), column=column, interval=sure, published=published)
            )
        return found

    def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
        self.calls.append(("judged", data))
        return lambda row: f"fine: {row.prediction}"


class Bare(Benchmark):
    """One number that is no share."""

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        yield Sample("a")

    def task(self, sample: Sample) -> str:
        return sample.id

    def score(self, rows: Sequence[Row]) -> list[Score]:
        return [Score("distance", 4.8512, len(rows), unit="", better="lower")]


class Fakes:
    """What benchmarks were called with, and what the model does."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.asked: list[str] = []
        self.stops: int | None = None
        self.errors: dict[str, Exception] = {}

    def run_many(self, model: Any, tasks: Sequence[str], batch: int) -> Iterator[Any]:
        for task in tasks:
            if len(self.asked) == self.stops:
                raise KeyboardInterrupt
            self.asked.append(task)
            error = self.errors.get(task)
            yield SimpleNamespace(result=None if error else task, error=error)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: Any) -> Fakes:
    """Two benchmarks, one with data and options, one without; and a folder to work in."""
    fakes, module = Fakes(), ModuleType("acme_bench")
    module.Shapes, module.Bare, module.number = Shapes, Bare, 3  # type: ignore[attr-defined]
    monkeypatch.setattr(Shapes, "calls", fakes.calls, raising=False)
    monkeypatch.setitem(sys.modules, "acme_bench", module)
    registry = Registry(BenchmarkEntry)
    register = Registrar(registry, "acme", pytest.fail)
    register("shapes", "acme_bench:Shapes", data="a folder of shapes", summary="shapes by kind")
    register("bare", "acme_bench:Bare")
    monkeypatch.setattr(get_plugins(), "benchmarks", registry)
    monkeypatch.setattr(running, "run_many", fakes.run_many)
    fake.short_name = "tiny"
    fake.sources = SimpleNamespace(config={}, preprocessor={}, checkpoints=[], dtype=torch.float32)
    fake.omni = torch.nn.Linear(1, 1)
    monkeypatch.chdir(tmp_path)
    return fakes


SHAPES = ("eval", "run", "shapes", "--data", ".")


def test_a_table_of_percentages_with_intervals(run, benchmarks: Fakes) -> None:
    result = run(*SHAPES)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "%         easy        hard  Giant (published)",
        "counting  50.0        50.0  90.0",
        "colour    50.0 ±25.0",
        "reading               50.0  90.0",
    ]


def test_numbers_that_are_no_shares(run, benchmarks: Fakes) -> None:
    assert run("eval", "run", "bare").out.splitlines() == [
        "          model",
        "distance  4.85",
    ]


def test_json_holds_all_that_is_known(run, benchmarks: Fakes, tmp_path: Path) -> None:
    benchmarks.errors = {"colour 1": BadMedia("colour 1 is smudged")}
    result = run(*SHAPES, "-m", "tiny", "--out", "run.jsonl", "--json", tty=True)
    found = json.loads(result.out)
    scores = found.pop("scores")
    assert found == {
        "task": "eval",
        "benchmark": "shapes",
        "model": "tiny",
        "predictions": "run.jsonl",
        "samples": 16,
        "errors": [{"column": "easy", "id": "colour 1", "error": "colour 1 is smudged"}],
        "notes": ["left out: colour 1 is smudged"],
    }
    assert scores[1] == {
        "name": "colour",
        "value": 0.5,
        "n": 4,
        "unit": "share",
        "better": "higher",
        "column": "easy",
        "interval": [0.25, 0.75],
        "published": {},
        "counts": {},
    }
    assert result.err.count("left out: colour 1 is smudged") == 1


def test_what_reaches_a_benchmark(run, fake, benchmarks: Fakes, tmp_path: Path) -> None:
    command = ["eval", "run", "shapes", "level=high", "style=a=b", "--data", str(tmp_path)]
    assert run(*command, "--limit", "7", "-m", "tiny", "--device", "cpu").code == 0
    assert run("eval", "run", "bare").code == 0
    assert benchmarks.calls == [(tmp_path, 7, "high", "a=b")]
    assert fake.loaded == [("tiny", "cpu", "auto"), ("nano", "auto", "auto")]


def test_the_file_is_named_after_the_run(run, benchmarks: Fakes, tmp_path: Path) -> None:
    place = tmp_path.name
    for arguments, name in (
        (SHAPES, f"eval/shapes-nano-{place}.jsonl"),
        (
            (*SHAPES, "style=a/b", "--limit", "3", "-m", "some/tiny"),
            f"eval/shapes-tiny-{place}-style=a_b-limit=3.jsonl",
        ),
        ((*SHAPES, "--out", "mine.txt"), "mine.txt"),
        ((*SHAPES, "--out", "eval"), f"eval/shapes-nano-{place}.jsonl"),
    ):
        result = run(*arguments, tty=True)
        assert f"wrote {name} in " in result.err
        assert (tmp_path / name).is_file()


def test_an_interrupted_run_goes_on(run, benchmarks: Fakes, tmp_path: Path) -> None:
    benchmarks.stops = 10
    stopped = run(*SHAPES, "--out", "run.jsonl")
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err == (
        "ming: the predictions so far are in run.jsonl; the same command goes on\n"
    )
    scored = run("eval", "score", "run.jsonl")
    assert "easy" in scored.out
    assert "hard" not in scored.out
    assert scored.err == (
        "ming: the run of run.jsonl has not ended; its 8 predictions are scored\n"
    )
    benchmarks.stops = None
    whole = run(*SHAPES, "--out", "run.jsonl")
    assert benchmarks.asked[10:] == [f"{k} {i}" for k in ("counting", "reading") for i in range(4)]
    assert run(*SHAPES, "--out", "other.jsonl").out == whole.out
    files = (tmp_path / "run.jsonl").read_bytes(), (tmp_path / "other.jsonl").read_bytes()
    assert files[0] == files[1]


def test_predictions_are_scored_without_a_model(run, fake, benchmarks: Fakes) -> None:
    first = run(*SHAPES, "level=high", "--out", "run.jsonl")
    fake.loaded.clear()
    assert run("eval", "score", "run.jsonl").out == first.out
    found = json.loads(run("eval", "score", "run.jsonl", "--json").out)
    assert (found["benchmark"], found["model"], found["samples"]) == ("shapes", "tiny", 16)
    assert fake.loaded == []


def test_the_same_command_does_not_ask_again(run, benchmarks: Fakes) -> None:
    first = run(*SHAPES, "--out", "run.jsonl")
    count = len(benchmarks.asked)
    second = run(*SHAPES, "--out", "run.jsonl")
    assert second.out == first.out
    assert second.err == (
        "ming: all 16 predictions are in run.jsonl already; --again makes new ones\n"
    )
    assert len(benchmarks.asked) == count
    assert run(*SHAPES, "--out", "run.jsonl", "--again").out == first.out
    assert len(benchmarks.asked) == 2 * count


def test_a_judge(run, benchmarks: Fakes, tmp_path: Path) -> None:
    assert run(*SHAPES, "--out", "run.jsonl", "--judge", "strict").code == 0
    lines = (tmp_path / "run.strict.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {"verdicts": 1, "judge": "strict"}
    assert json.loads(lines[1])["verdict"] == "fine: counting 0"
    assert run("eval", "score", "run.jsonl", "--judge", "strict", "--data", "/moved").code == 0
    judged = [call for call in benchmarks.calls if call[0] == "judged"]
    assert judged == [("judged", Path(".")), ("judged", Path("/moved"))]


def test_a_bar_for_who_watches(run, benchmarks: Fakes) -> None:
    watched = run(*SHAPES, tty=True)
    assert "easy" in watched.err
    assert "wrote eval/" in watched.err
    quiet = run(*SHAPES, "-q", "--again", tty=True)
    assert quiet.err == ""
    assert quiet.out == watched.out


def test_the_list_of_benchmarks(run, fake, benchmarks: Fakes) -> None:
    listed = [line.split(maxsplit=2) for line in run("eval", "list").out.splitlines()]
    assert listed == [["bare", "acme"], ["shapes", "acme", "shapes by kind"]]
    found = json.loads(run("eval", "list", "--json").out)["benchmarks"]
    assert found[1] == {"name": "shapes", "package": "acme", "summary": "shapes by kind"}
    assert fake.loaded == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "shape"], "unknown benchmark 'shape'; did you mean 'shapes'?"),
        (
            ["run", "asr"],  # which the installed package does not register here
            "the benchmark 'asr' needs a later version of ming-audio: the installed one, "
            f"{version('ming-audio')}, does not have it yet",
        ),
        (["run", "shapes"], "the benchmark 'shapes' needs --data: a folder of shapes"),
        (["run", "shapes", "--data", "nowhere"], "--data 'nowhere' does not exist; check the path"),
        (
            ["run", "bare", "--data", "."],
            "the benchmark 'bare' brings its own data; leave --data out",
        ),
        (
            ["run", "shapes", "--data", ".", "lvl=1"],
            "unknown option of shapes 'lvl'; did you mean 'level'?",
        ),
        (["run", "bare", "level=1"], "unknown option of bare 'level'"),
        (["run", "bare", "high"], "cannot read the option 'high'; write it as key=value"),
        (
            ["run", "bare", "--judge", "strict"],
            "the benchmark 'bare' has no judges; leave --judge out",
        ),
        (
            ["run", "shapes", "--data", ".", "--judge", "strikt"],
            "unknown judge of shapes 'strikt'; did you mean 'strict'?",
        ),
        (
            ["run", "bare", "--out", "notes.txt"],
            "notes.txt is no file of predictions; give a file that `ming eval` wrote",
        ),
        (
            ["score", "notes.txt"],
            "notes.txt is no file of predictions; give a file that `ming eval` wrote",
        ),
        (
            ["score", "none.jsonl"],
            "cannot read none.jsonl: No such file or directory; check the path",
        ),
        (["shapes"], "write `ming eval run shapes` to score a model on shapes"),
        (["rum"], "unknown command of ming eval 'rum'; did you mean 'run'?"),
    ],
)
def test_errors_of_use(
    run, fake, benchmarks: Fakes, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    """Told before a model is loaded."""
    (tmp_path / "notes.txt").write_text("milk\n")
    result = run("eval", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"ming: {sentence}\n"
    assert fake.loaded == []
    assert (tmp_path / "notes.txt").read_text() == "milk\n"


def test_another_run_is_refused(run, benchmarks: Fakes) -> None:
    assert run(*SHAPES, "--out", "run.jsonl").code == 0
    result = run(*SHAPES, "--limit", "2", "--out", "run.jsonl")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "ming: run.jsonl was made with no limit, not with limit 2; choose another file with --out, "
        "or replace it with --again\n"
    )


class Half(Benchmark):
    """It has no scores."""

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        yield Sample("a")

    def task(self, sample: Sample) -> str:
        return sample.id


class Needy(Bare):
    def __init__(self, *, level: str) -> None:
        self.level = level


def nothing() -> None:
    """A function that makes no benchmark."""


def repr_of(target: Any) -> str:
    return getattr(target, "__name__", str(target))


@pytest.mark.parametrize("target", [Fakes, Half, Needy, 3, nothing], ids=repr_of)
def test_what_is_registered_must_be_a_benchmark(run, fake, benchmarks: Fakes, target: Any) -> None:
    register = Registrar(get_plugins().benchmarks, "acme", pytest.fail)
    register("odd", "acme_bench:odd")
    sys.modules["acme_bench"].odd = target  # type: ignore[attr-defined]
    result = run("eval", "run", "odd")
    assert (result.code, fake.loaded) == (2, [])
    assert result.err == (
        "ming: the benchmark 'odd' of acme is broken: 'acme_bench:odd' must make a "
        "ming_core.evaluation.Benchmark with all of its methods, and every option must have a "
        "default; update acme\n"
    )


def test_an_error_of_the_model(run, benchmarks: Fakes) -> None:
    benchmarks.errors = {"counting 1": MissingPlugin("this model has no ears")}
    result = run(*SHAPES)
    assert (result.code, result.out, result.err) == (2, "", "ming: this model has no ears\n")


def test_a_limit_is_at_least_one(run, benchmarks: Fakes) -> None:
    result = run("eval", "run", "bare", "--limit", "0")
    assert result.code == 2
    assert "--limit" in result.err


def test_asr_of_an_empty_folder(run, fake, benchmarks, monkeypatch, tmp_path: Path) -> None:
    register = Registrar(get_plugins().benchmarks, "ming-audio", pytest.fail)
    register("asr", "ming_audio.evaluate:Asr", data="a folder")
    result = run("eval", "run", "asr", "--data", str(tmp_path))
    assert result.code == 2
    assert result.err.startswith(f"ming: {tmp_path} has no texts of a known style; expected")


def test_nano_perception_needs_neither_data_nor_options() -> None:
    from ming_core.evaluation.registered import open_benchmark
    from ming_recipes.nano.scores.benchmark import NanoPerception

    entry = get_plugins().benchmarks["nano-perception"]
    assert isinstance(open_benchmark(entry, {}), NanoPerception)
