"""A training by two processes: it is one training, and it ends as one."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from ming_core.cli.terminal import standard_streams
from ming_core.errors import MingError
from ming_recipes.training.runs import processes
from ming_recipes.training.runs.fit import LAST, best_state
from ming_recipes.training.runs.logs import read_rows
from ming_recipes.training.runs.states import read_state
from ming_recipes.training.runs.stopping import Stop

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's

FORK = multiprocessing.get_context("fork")  # starts at once, with everything imported
CRASH = 9  # exit code of a process that shows a traceback


@pytest.fixture(scope="module")
def toy() -> Any:
    """The module `toy_run`."""
    spec = importlib.util.spec_from_file_location("toy_run", Path(__file__).with_name("toy_run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["toy_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Forked:
    """A process that can be looked at as one of `subprocess` can."""

    def __init__(self, target: Callable[[], None]) -> None:
        self.process = FORK.Process(target=target)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


@pytest.fixture
def trained(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Any], Any]]:
    """Starts a training of two processes as a group of its own; returns the first one.

    What it prints is in `said`. The pids of both are in `pids`.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    groups = []

    def start(config: Any) -> Any:
        def program() -> None:
            with standard_streams():
                try:
                    toy.train(config, "toy")
                except MingError as error:
                    print(f"ming: {error}", file=sys.stderr)
                    sys.exit(2)
                except Exception:
                    sys.exit(CRASH)

        def first() -> None:
            os.setpgid(0, 0)
            said = os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.stderr = os.fdopen(2, "w")
            (tmp_path / "pids").write_text(f"{os.getpid()} ")
            processes.start = begin  # type: ignore[assignment]
            program()

        def begin(rank: int) -> Any:
            def other() -> None:
                os.environ |= {"LOCAL_RANK": str(rank), processes.PARENT: str(os.getppid())}
                rank_zero_only.rank = rank
                logging.getLogger("ming").handlers.clear()  # those of the first one
                with (tmp_path / "pids").open("a") as file:
                    file.write(f"{os.getpid()} ")
                program()

            return Forked(other)

        process = FORK.Process(target=first)
        process.start()
        groups.append(process.pid)
        return process

    yield start
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
        pytest.fail("a process was left")


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def wait_until(holds: Callable[[], bool], process: Any) -> None:
    for _ in range(6000):
        if holds():
            return
        assert process.is_alive()
        time.sleep(0.01)
    pytest.fail("it does not happen")


def steps(folder: Path) -> list[int]:
    return [row["step"] for row in read_rows(folder / "run/metrics.jsonl") if "loss" in row]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_are_one_with_twice_the_batches(
    toy: Any, tmp_path: Path, trained: Callable[[Any], Any]
) -> None:
    """Also what they draw: the module has dropout."""
    two = toy.Toy(out=str(tmp_path / "run"), processes=2)
    process = trained(two)
    process.join(60)
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    one = toy.Toy(out=str(tmp_path / "one"), accumulate=2)
    toy.train(one, "toy")
    assert_close(read_state(tmp_path / "run" / LAST)["state_dict"], tmp_path / "one")
    best = best_state(tmp_path / "run")
    other = best_state(tmp_path / "one")
    assert best is not None
    assert other is not None
    for name, value in best.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-5)
    both = zip(read_rows(tmp_path / "run/metrics.jsonl"), read_rows(tmp_path / "one/metrics.jsonl"))
    for mine, others in both:
        for row in (mine, others):
            row.pop("seconds", None)
            row.pop("tokens_per_second", None)
        assert mine == pytest.approx(others, rel=1e-5)
    assert list(read_rows(tmp_path / "run/samples.jsonl"))
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines[0].startswith("ming: states of this run take up to ")
    assert all(line.startswith("step ") for line in lines[1:])  # nothing of libraries


def assert_close(weights: dict[str, torch.Tensor], folder: Path) -> None:
    for name, value in read_state(folder / LAST)["state_dict"].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whom", ["the group", "the first", "the second"])
def test_a_signal_ends_both(
    toy: Any, tmp_path: Path, trained: Callable[[Any], Any], number: int, whom: str
) -> None:
    config = toy.Toy(out=str(tmp_path / "run"), processes=2, pause=0.05)
    config.run.steps, config.run.save_every = 10_000, 7
    process = trained(config)
    wait_until(lambda: len(steps(tmp_path)) >= 3, process)
    if whom == "the group":
        os.killpg(process.pid, number)
    else:
        os.kill(pids(tmp_path)[whom == "the second"], number)
    begun = time.monotonic()
    process.join(30)
    assert time.monotonic() - begun < 8
    assert process.exitcode == 128 + number
    assert read_state(tmp_path / "run" / LAST)["global_step"] == steps(tmp_path)[-1]
    sentence = f"ming: stopped at step {steps(tmp_path)[-1]} of 10000; the state is saved, and the"
    said = (tmp_path / "said").read_text()
    assert said.count(sentence) == 1
    assert "Traceback" not in said
    assert not any(map(alive, pids(tmp_path)))


@pytest.mark.parametrize("whom", ["the group", "the first"])
@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
def test_a_signal_at_the_start_ends_both(
    toy: Any, tmp_path: Path, trained: Callable[[Any], Any], whom: str, wait: float
) -> None:
    """While one waits for the other."""
    config = toy.Toy(out=str(tmp_path / "run"), processes=2, pause=0.05)
    config.run.steps = 10_000
    process = trained(config)
    wait_until(lambda: len(pids(tmp_path)) == 2, process)
    time.sleep(wait)
    (os.killpg if whom == "the group" else os.kill)(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 143
    assert not any(map(alive, pids(tmp_path)))


@pytest.mark.parametrize("place", [0, 1], ids=["the first", "the second"])
def test_a_process_whose_partner_was_killed_ends_with_a_sentence(
    toy: Any, tmp_path: Path, trained: Callable[[Any], Any], place: int
) -> None:
    config = toy.Toy(out=str(tmp_path / "run"), processes=2, pause=0.05)
    config.run.steps, config.run.save_every = 10_000, 2
    process = trained(config)
    wait_until(lambda: len(steps(tmp_path)) >= 3, process)
    os.kill(pids(tmp_path)[place], signal.SIGKILL)
    process.join(30)
    for _ in range(100):
        if not any(map(alive, pids(tmp_path))):
            break
        time.sleep(0.2)
    else:
        pytest.fail("a process is left")
    said = (tmp_path / "said").read_text().splitlines()
    _, sentence = (line for line in said if not line.startswith("step "))
    if place == 0:
        assert process.exitcode == -9
        assert sentence.startswith("ming: the first process of this training is gone, so this one")
    else:
        assert process.exitcode == 2
        assert sentence.startswith(
            "ming: process 2 of 2 of this training was ended by signal 9, as"
        )
    assert read_state(tmp_path / "run" / LAST)["global_step"] >= 2


def test_the_error_of_another_process_is_the_error_of_the_training(
    toy: Any, tmp_path: Path, trained: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = toy.Module.training_step

    def breaks(self: Any, batch: Any, index: int) -> Any:
        if self.global_rank == 1 and self.global_step == 2:
            raise MingError("rows.jsonl line 3: the picture is gone")
        return step(self, batch, index)

    monkeypatch.setattr(toy.Module, "training_step", breaks)
    process = trained(toy.Toy(out=str(tmp_path / "run"), processes=2))
    process.join(60)
    assert process.exitcode == 2
    said = (tmp_path / "said").read_text()
    assert said.count("ming: rows.jsonl line 3: the picture is gone") == 1
    assert "Traceback" not in said
    assert not any(map(alive, pids(tmp_path)))


def test_who_was_started_by_another_program_tells_of_a_lost_partner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = RuntimeError("[pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer")

    def run() -> None:
        with processes.other_processes(1, tmp_path, Stop()):
            raise reset

    with pytest.raises(RuntimeError, match="reset by peer"):  # there is no partner
        run()
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun does
    with pytest.raises(
        processes.Lost, match=r"^another process of this training is gone \(.*peer\);"
    ):
        run()


@pytest.mark.slow
def test_a_program_starts_its_other_processes_itself(tmp_path: Path) -> None:
    """And prints nothing but its own lines."""
    program = Path(__file__).with_name("toy_run.py")
    command = [sys.executable, str(program), str(tmp_path / "run"), "processes=2", "run.steps=3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("ming: states of this run take up to ")
    assert len(lines) >= 2
    assert all(line.startswith("step ") for line in lines[1:])
    assert "ended" in (tmp_path / "run/logs/process-2.log").read_text()
