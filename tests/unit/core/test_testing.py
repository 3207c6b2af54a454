"""The golden-case helpers and the parity runner, on a made-up component."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ming_core.testing import (
    Check,
    GoldenCase,
    Recorded,
    Unsupported,
    golden_cases,
    run_case,
)

ADAPTER = """
from ._twice import twice
from ming_core.testing import Check, Unsupported

def run(case):
    if case.name == "declined":
        raise Unsupported("comes later")
    yield Check("y", twice(case.inputs["x"]), case.outputs["y"])
"""


def write_case(root: Path, name: str, y: list[float]) -> GoldenCase:
    folder = root / "doubling" / name
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"tolerance": {"atol": 1e-3, "rtol": 0}}))
    save_file({"in.x": torch.arange(3.0), "out.y": torch.tensor(y)}, folder / "io.safetensors")
    return GoldenCase(folder)


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "doubling.py").write_text(ADAPTER)
    (folder / "_twice.py").write_text("def twice(x):\n    return 2 * x\n")
    return folder


def test_a_case_passes_through_its_adapter(tmp_path: Path, adapters: Path) -> None:
    case = write_case(tmp_path / "golden", "good", [0.0, 2.0005, 4.0])
    (outcome,) = run_case(case, adapters)
    assert outcome.passed
    assert outcome.error == pytest.approx(5e-4, rel=1e-3)
    assert [found.name for found in golden_cases(tmp_path / "golden")] == ["good"]
    assert case.config == {}
    assert case.weights == {}


def test_a_key_that_no_adapter_reads_fails_the_case(tmp_path: Path, adapters: Path) -> None:
    case = write_case(tmp_path / "golden", "more", [0.0, 2.0, 4.0])
    config = {"rate": 3, "inner": {"used": 1, "unused": 2}, "rows": [{"a": 1}, {"a": 1, "b": 2}]}
    (case.folder / "config.json").write_text(json.dumps(config))
    (adapters / "doubling.py").write_text(
        ADAPTER + "    sum(row['a'] for row in case.config['rows']); case.config['inner']['used']\n"
    )
    *outcomes, last = run_case(case, adapters)
    assert all(outcome.passed for outcome in outcomes)
    assert (last.name, last.passed) == ("every key is read", False)
    assert [part.partition(" is")[0] for part in last.where.split("; ")[::2]] == [
        "config.rate",
        "config.inner.unused",
        "config.rows.*.b",
    ]

    (adapters / "keys.toml").write_text(
        "[all]\nunused = ['config.rows.*']\n[doubling]\nunused = ['config.inner.*']\n"
        "[doubling.fixed]\n'config.rate' = 2\n"
    )
    *_, last = run_case(GoldenCase(case.folder), adapters)
    assert last.where == "config.rate is 3; built in is 2"
    (case.folder / "config.json").write_text(json.dumps(config | {"rate": 2}))
    assert all(outcome.passed for outcome in run_case(GoldenCase(case.folder), adapters))


def test_what_counts_as_reading() -> None:
    def unread(use: Callable[[Recorded], object]) -> list[str]:
        mapping = Recorded({"a": 1, "b": {"c": 2}, "d": []})
        use(mapping)
        return [name for name, _ in mapping.leaves(read=False)]

    assert unread(lambda m: ("a" in m, list(m), len(m))) == ["a", "b.c", "d"]
    assert unread(lambda m: (m["a"], m.get("d"))) == ["b.c"]
    assert unread(lambda m: m["b"]["c"]) == ["a", "d"]
    for copy in (dict, lambda m: {**m}, lambda m: m | {"e": 1}, lambda m: list(m.items())):
        assert unread(copy) == ["b.c"]
    assert unread(lambda m: m == {"a": 1, "b": {"c": 2}, "d": []}) == []


def test_a_difference_is_located(tmp_path: Path, adapters: Path) -> None:
    case = write_case(tmp_path / "golden", "bad", [0.0, 2.5, 4.0])
    (outcome,) = run_case(case, adapters)
    assert not outcome.passed
    assert outcome.where == "at [1]: got 2, expected 2.5"


def test_declined_and_unknown_components_are_unsupported(tmp_path: Path, adapters: Path) -> None:
    declined = write_case(tmp_path / "golden", "declined", [0.0])
    with pytest.raises(Unsupported, match="comes later"):
        run_case(declined, adapters)
    (adapters / "doubling.py").rename(adapters / "other.py")
    with pytest.raises(Unsupported, match="no adapter for doubling"):
        run_case(declined, tmp_path)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("actual", "expected", "passed"),
    [
        (torch.tensor([1.0, -INF]), torch.tensor([1.0, -INF]), True),
        (torch.tensor([NAN]), torch.tensor([NAN]), True),
        (torch.tensor([NAN]), torch.tensor([1.0]), False),
        (torch.tensor([1.0]), torch.tensor([INF]), False),
        (torch.ones(2, 1), torch.ones(2), False),
        (torch.tensor([1.5]), torch.tensor([1]), False),
        (torch.tensor([2]), torch.tensor([3]), False),
        (torch.tensor([True]), torch.tensor([True]), True),
        (torch.zeros(0), torch.zeros(0), True),
        ("text", "text", True),
        ("text", torch.ones(1), False),
        ([1, 2], [1, 3], False),
    ],
)
def test_check(actual: Tensor | str | list, expected: Tensor | str | list, passed: bool) -> None:
    check = Check("y", actual, expected)
    assert check.passed(atol=0.6, rtol=0.6) == passed
    if passed:
        assert check.error() == 0
    else:
        assert check.error() > 0
        assert check.where()


def test_the_runner_reports_every_case_and_its_exit_code(repository: Path, tmp_path: Path) -> None:
    golden = repository / "tests/golden"
    runner = [sys.executable, repository / "tests/parity/run.py", "--component", "losses"]

    def parity(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*runner, *arguments], capture_output=True, text=True, check=False)

    good = parity("--golden", golden)
    assert good.returncode == 0, good.stderr
    assert "losses/packing: pass" in good.stdout
    assert good.stdout.splitlines()[-1] == "2 cases: 2 pass, 0 FAIL, 0 unsupported"

    broken = tmp_path / "losses/packing"
    broken.mkdir(parents=True)
    for file in (golden / "losses/packing").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    io = GoldenCase(broken)._io
    io["out.loss_token_mean"] += 1
    save_file(io, broken / "io.safetensors")
    bad = parity("--golden", tmp_path, "--json")
    assert bad.returncode == 1
    report = json.loads(bad.stdout)
    assert report["summary"] == {"pass": 0, "FAIL": 1, "unsupported": 0}
    assert report["cases"][0]["reason"] == "first diverging output: loss_token_mean"

    assert parity("--golden", tmp_path, "--case", "none").returncode == 2
