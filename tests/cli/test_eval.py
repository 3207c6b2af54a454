"""`ming eval`: the table, what reaches a benchmark, and errors of use."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ming_core.benchmarks import Track, untracked
from ming_core.errors import MissingPlugin
from ming_core.plugins import get_plugins
from ming_core.plugins.registry import Registrar, Registry
from ming_recipes.perception import benchmark

SCORES = {"easy": {"counting": 1.0, "colour": 0.5}, "hard": {"counting": 0.125, "reading": 0.0}}


class Benchmarks:
    """Two benchmarks, and what they were called with: one with data and options, one without."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None

    def run(self, model, data, limit, track, *, level="low", style="plain") -> dict[str, Any]:
        self.calls.append((model, data, limit, level, style))
        if self.error:
            raise self.error
        return {"items": len(list(track(range(3), "looking"))), "scores": SCORES}

    def bare(self, model, data, limit, track) -> dict[str, Any]:
        self.calls.append((model, data, limit))
        return {"scores": SCORES}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Benchmarks:
    fakes, module = Benchmarks(), ModuleType("acme_bench")
    module.run, module.bare = fakes.run, fakes.bare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_bench", module)
    registry = Registry("benchmark")
    register = Registrar(registry, "acme", pytest.fail)
    register("shapes", "acme_bench:run", data="a folder of shapes", summary="shapes by kind")
    register("bare", "acme_bench:bare")
    monkeypatch.setattr(get_plugins(), "benchmarks", registry)
    return fakes


def test_a_table_of_percentages(run, fake, benchmarks: Benchmarks, tmp_path: Path) -> None:
    result = run("eval", "shapes", "--data", str(tmp_path))
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "%         easy   hard",
        "counting  100.0  12.5",
        "colour    50.0",
        "reading          0.0",
    ]


def test_json_holds_all_that_a_benchmark_tells(run, fake, benchmarks, tmp_path: Path) -> None:
    result = run("eval", "shapes", "--data", str(tmp_path), "-m", "tiny", "--json", tty=True)
    assert json.loads(result.out) == {
        "task": "eval",
        "benchmark": "shapes",
        "model": "tiny",
        "items": 3,
        "scores": SCORES,
    }


def test_what_reaches_a_benchmark(run, fake, benchmarks: Benchmarks, tmp_path: Path) -> None:
    command = ["eval", "shapes", "level=high", "style=a=b", "--data", str(tmp_path)]
    assert run(*command, "--limit", "7", "-m", "tiny", "--device", "cpu").code == 0
    assert run("eval", "bare").code == 0
    assert benchmarks.calls == [(fake, tmp_path, 7, "high", "a=b"), (fake, None, None)]
    assert fake.loaded == [("tiny", "cpu", "auto"), ("nano", "auto", "auto")]


def test_a_bar_for_who_watches(run, fake, benchmarks: Benchmarks, tmp_path: Path) -> None:
    watched = run("eval", "shapes", "--data", str(tmp_path), tty=True)
    assert "looking" in watched.err
    assert "scored in" in watched.err
    assert "looking" not in watched.out
    quiet = run("eval", "shapes", "--data", str(tmp_path), "-q", tty=True)
    assert quiet.err == ""
    assert quiet.out == watched.out


def test_without_a_name_the_benchmarks_are_listed(run, fake, benchmarks: Benchmarks) -> None:
    listed = [line.split(maxsplit=2) for line in run("eval").out.splitlines()]
    assert listed == [["bare", "acme"], ["shapes", "acme", "shapes by kind"]]
    found = json.loads(run("eval", "--json").out)["benchmarks"]
    assert found[1] == {"name": "shapes", "package": "acme", "summary": "shapes by kind"}
    assert fake.loaded == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shape"], "unknown benchmark 'shape'; did you mean 'shapes'?"),
        (
            ["asr"],  # which the installed package does not register here
            "the benchmark 'asr' needs a later version of ming-audio: the installed one, "
            f"{version('ming-audio')}, does not have it yet",
        ),
        (["shapes"], "the benchmark 'shapes' needs --data: a folder of shapes"),
        (["shapes", "--data", "nowhere"], "--data 'nowhere' does not exist; check the path"),
        (["bare", "--data", "."], "the benchmark 'bare' brings its own data; leave --data out"),
        (
            ["shapes", "--data", ".", "lvl=1"],
            "unknown option of shapes 'lvl'; did you mean 'level'?",
        ),
        (["bare", "level=1"], "unknown option of bare 'level'"),
        (["bare", "high"], "cannot read the option 'high'; write it as key=value"),
    ],
)
def test_errors_of_use(
    run, fake, benchmarks: Benchmarks, arguments: list[str], sentence: str
) -> None:
    """Told before a model is loaded."""
    result = run("eval", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"ming: {sentence}\n"
    assert fake.loaded == []


def test_an_error_of_a_benchmark(run, fake, benchmarks: Benchmarks, tmp_path: Path) -> None:
    benchmarks.error = MissingPlugin("this model has no ears")
    result = run("eval", "shapes", "--data", str(tmp_path))
    assert (result.code, result.out, result.err) == (2, "", "ming: this model has no ears\n")


def test_a_limit_is_at_least_one(run, fake, benchmarks: Benchmarks) -> None:
    result = run("eval", "bare", "--limit", "0")
    assert result.code == 2
    assert "--limit" in result.err


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    (tmp_path / "1-2.trans.txt").write_text("1-2-0 YES NO\n", "utf-8")
    (tmp_path / "1-2-0.wav").touch()
    return tmp_path


def test_asr(run, fake, speech: Path) -> None:
    fake.transcribe = lambda source, **told: "yes"
    result = run("eval", "asr", "--data", str(speech))
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == ["%            model", "English WER  50.0"]


def test_asr_of_an_empty_folder(run, fake, tmp_path: Path) -> None:
    result = run("eval", "asr", "--data", str(tmp_path))
    assert result.code == 2
    assert result.err.startswith(f"ming: {tmp_path} has no texts of a known style; expected")


def test_nano_perception(run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = []

    def evaluate(model: Any, count: int, track: Track) -> dict[str, dict[str, float]]:
        assert track is untracked  # nobody watches
        images.append(count)
        return SCORES

    monkeypatch.setattr("ming_core.cli.evaluate.load_model", lambda *about: None)
    monkeypatch.setattr(benchmark, "evaluate", evaluate)
    assert run("eval", "nano-perception", "--limit", "3").out.startswith("%         easy   hard\n")
    assert json.loads(run("eval", "nano-perception", "--json").out)["scores"] == SCORES
    assert images == [3, benchmark.IMAGES]
