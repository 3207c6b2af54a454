"""The folder of a run, and that a run with interruptions is the run without."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pty
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from ming_core.errors import BadConfig, MissingPlugin, UnknownName
from ming_core.output import replacing
from ming_recipes.training.runs import guard
from ming_recipes.training.runs.fit import BEST, LAST, RunSettings, best_state
from ming_recipes.training.runs.keeping import Diverged
from ming_recipes.training.runs.logs import append_row, cut_rows, read_rows
from ming_recipes.training.runs.states import read_state
from ming_recipes.training.runs.stopping import answering_signals, leave_signals

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's

FORK = multiprocessing.get_context("fork")  # starts at once, with everything imported
TIMES = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def toy() -> Any:
    """The module `toy_run`."""
    spec = importlib.util.spec_from_file_location("toy_run", Path(__file__).with_name("toy_run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["toy_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing happened to; two batches are one step."""
    config = toy.Toy(out=str(tmp_path_factory.mktemp("whole") / "run"), accumulate=2)
    toy.train(config, "toy")
    return left(config)


def left(config: Any) -> dict[str, Any]:
    """Everything that must not depend on interruptions, in a form that can be compared."""
    out = Path(config.out)
    state = read_state(out / LAST)
    rows = [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_rows(out / "metrics.jsonl")
    ]
    for callback in state["callbacks"].values():
        callback.pop("seconds", None)
    best = best_state(out)
    assert best is not None
    return {
        "weights": _listed(state["state_dict"]),
        "optimizer": _listed(state["optimizer_states"]),
        "schedule": state["lr_schedulers"],
        "callbacks": state["callbacks"],
        "step": state["global_step"],
        "best": _listed(best),
        "metrics": rows,
        "samples": list(read_rows(out / "samples.jsonl")),
    }


def _listed(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list) else value


def started(toy: Any, config: Any) -> Any:
    process = FORK.Process(target=toy.train, args=(config, "toy"))
    process.start()
    return process


def wait_until(holds: Callable[[], bool], process: Any) -> None:
    for _ in range(6000):
        if holds():
            return
        assert process.is_alive()
        time.sleep(0.01)
    pytest.fail("it does not happen")


# The folder


def test_a_run_leaves_what_people_look_for(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path / "run"), seed=5)
    toy.train(config, "ming train toy seed=5")
    out = tmp_path / "run"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "checkpoints/best.ckpt",
        "checkpoints/last.before.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "environment.json",
        "logs/attempt-001.log",
        "metrics.jsonl",
        "run.json",
        "run.lock",
        "samples.jsonl",
    ]
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["seed"] == 5
    assert settings["run"]["steps"] == 8
    environment = yaml.safe_load((out / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["python"].startswith("3.")
    log = (out / "logs/attempt-001.log").read_text()
    assert "INFO ming train toy seed=5" in log.splitlines()[0]
    assert log.splitlines()[-1].endswith(" ended")
    assert "step 8 of 8: loss " in log


def test_a_row_tells_every_term_its_weight_and_every_data_set(whole: dict[str, Any]) -> None:
    training = [row for row in whole["metrics"] if "loss" in row]
    assert [row["step"] for row in training] == list(range(1, 9))
    for row in training:
        assert row["weight/answers"] == 1
        assert row["weight/size"] == 0.01
        assert row["loss"] == pytest.approx(row["answers"] + 0.01 * row["size"])
        # Two batches, one of each data set.
        assert row["answers"] == pytest.approx((row["answers/even"] + row["answers/odd"]) / 2)
        assert row["lr"] == pytest.approx(0.05 / row["step"])
        assert row["padding"] == 0.125
        assert row["grad_norm"] > 0
    looks = [row for row in whole["metrics"] if "validation/loss" in row]
    assert [row["step"] for row in looks] == [2, 4, 6, 8]
    assert set(looks[0]) == {
        "step",
        *(f"validation/{name}" for name in ("loss", "answers", "answers/even", "answers/odd")),
        "validation/size",
    }
    assert [(row["step"], row["question"]) for row in whole["samples"]] == [
        (step, f"line {number}") for step in (2, 4, 6, 8) for number in range(2)
    ]


def test_rows_can_be_rare(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path), run=RunSettings(steps=8, validate_every=0, log_every=3))
    toy.train(config, "toy")
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert [row["step"] for row in rows if "loss" in row] == [1, 3, 6, 8]
    assert [row["step"] for row in rows if "validation/loss" in row] == [8]


def test_the_best_weights_are_those_of_the_smallest_loss(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([5.0, 2.0, 3.0, 4.0])

    def looks(self: Any, batch: Any, index: int) -> dict[str, Any]:
        value = next(values) if index == 0 else 0.0
        return {"terms": {"answers": (value, float(index == 0), 1.0)}}

    seen = {}
    step = toy.Module.on_train_batch_start

    def on_start(self: Any, *args: Any) -> None:
        seen[self.global_step] = _listed(self.state_dict())
        step(self, *args)

    monkeypatch.setattr(toy.Module, "validation_step", looks)
    monkeypatch.setattr(toy.Module, "on_train_batch_start", on_start)
    toy.train(toy.Toy(out=str(tmp_path)), "toy")
    assert _listed(best_state(tmp_path)) == seen[4]
    assert "optimizer_states" not in read_state(tmp_path / BEST, ("state_dict", "global_step"))
    assert not (tmp_path / "checkpoints" / "best.before.ckpt").exists()


def test_a_measure_that_is_not_there_is_named(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path), run=RunSettings(steps=2, best="validation/anser"))
    with pytest.raises(
        BadConfig, match=r"^best is 'validation/anser', which .* validation/answers"
    ):
        toy.train(config, "toy")


def test_other_settings_are_refused_by_name(toy: Any, tmp_path: Path) -> None:
    toy.train(toy.Toy(out=str(tmp_path), run=RunSettings(steps=1)), "toy")
    other = toy.Toy(out=str(tmp_path), seed=1, run=RunSettings(steps=2))
    with pytest.raises(
        BadConfig, match=r"other settings: run\.steps \(1 there, 2 now\), seed \(0 th"
    ):
        toy.train(other, "toy")


# Interruptions


@pytest.mark.parametrize("step", [0, 2, 3, 7])
def test_a_resumed_run_is_the_whole_run(
    toy: Any, tmp_path: Path, whole: dict[str, Any], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.Toy(out=str(tmp_path), accumulate=2)
    trained = toy.Module.training_step

    def dies(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == step and batch.dataset == "odd":  # in the middle of a step
            raise RuntimeError("power cut")
        return trained(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(toy.Module, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            toy.train(config, "toy")
    assert "power cut" in (tmp_path / "logs/attempt-001.log").read_text()
    toy.train(config, "toy")
    assert left(config) == whole


def test_kill_9_at_any_time_changes_nothing(
    toy: Any, tmp_path: Path, whole: dict[str, Any]
) -> None:
    """Killed again and again, until it has reached the end."""
    drawn = random.Random(0)
    config = toy.Toy(out=str(tmp_path), accumulate=2, pause=0.1, look=0.01)
    config.run.save_every = 1
    kills = 0
    for _ in range(30):
        process = started(toy, config)
        process.join(0.3 + 0.5 * drawn.random())
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    else:
        toy.train(config, "toy")
    assert process.exitcode == 0 or kills == 30
    assert kills
    assert left(config) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_validation_does_not_wait_for_its_end(
    toy: Any, tmp_path: Path, whole: dict[str, Any], number: int
) -> None:
    config = toy.Toy(out=str(tmp_path), accumulate=2, look=2.0)
    process = started(toy, config)
    metrics = tmp_path / "metrics.jsonl"
    wait_until(lambda: any(row["step"] == 2 for row in read_rows(metrics)), process)
    time.sleep(0.2)
    os.kill(process.pid, number)
    begun = time.monotonic()
    process.join(30)
    assert time.monotonic() - begun < 6
    assert process.exitcode == 128 + number
    assert read_state(tmp_path / LAST)["global_step"] == 2
    assert not any("validation/loss" in row for row in read_rows(metrics))
    config.look = 0.0
    record = tmp_path / "run.json"
    record.write_text(record.read_text().replace('"look": 2.0', '"look": 0.0'))
    toy.train(config, "toy")
    assert left(config) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_makes_batches_does_not_end_before_the_training(
    toy: Any, tmp_path: Path, number: int
) -> None:
    """The signal of a terminal goes to all of its processes."""
    config = toy.Toy(out=str(tmp_path), pause=0.05, workers=1)
    config.run.steps, config.run.save_every = 1000, 1000

    def program() -> None:
        os.setpgid(0, 0)
        toy.train(config, "toy")

    process = FORK.Process(target=program)
    process.start()
    metrics = tmp_path / "metrics.jsonl"
    wait_until(lambda: len(list(read_rows(metrics))) > 4, process)
    assert process.pid is not None
    os.killpg(process.pid, number)
    process.join(20)
    assert process.exitcode == 128 + number
    assert read_state(tmp_path / LAST)["global_step"] == list(read_rows(metrics))[-1]["step"]


def test_an_error_of_the_program_does_not_hang(tmp_path: Path) -> None:
    """It keeps the loader alive, and its processes leave the signal with which Python ends them."""

    def program() -> None:
        loader = DataLoader(
            TensorDataset(torch.arange(4)), num_workers=2, worker_init_fn=leave_signals
        )
        with answering_signals():
            batches = iter(loader)
            next(batches)
            pids = [str(child.pid) for child in multiprocessing.active_children()]
            (tmp_path / "pids").write_text(" ".join(pids))
            raise KeyError

    def first() -> None:
        try:
            program()
        except KeyError as error:
            sys.last_value = error  # as the interpreter keeps it
            raise SystemExit(3) from None

    process = FORK.Process(target=first)
    process.start()
    process.join(20)
    code = process.exitcode
    process.kill()
    assert code == 3
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_another_callback_may_end_a_training(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = toy.Module.training_step

    def ends(self: Any, batch: Any, index: int) -> Any:
        self.trainer.should_stop = self.global_step == 4
        return step(self, batch, index)

    monkeypatch.setattr(toy.Module, "training_step", ends)
    toy.train(toy.Toy(out=str(tmp_path)), "toy")
    assert read_state(tmp_path / LAST)["global_step"] == 5


def test_a_finished_run_is_left_as_it_is(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path))
    toy.train(config, "toy")
    found = left(config)
    toy.train(config, "toy")
    assert left(config) == found


def test_rows_of_a_log_are_cut_at_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    cut_rows(path, 3)
    assert not path.exists()
    for step in (1, 2, 3, 4):
        append_row(path, {"step": step, "a": "你"})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "torn')
    cut_rows(path, 3)
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    assert path.read_bytes().endswith(b'"\xe4\xbd\xa0"}\n')
    before = path.stat().st_mtime_ns
    cut_rows(path, 3)
    assert path.stat().st_mtime_ns == before
    with replacing(path) as file:
        file.write(b"")
    cut_rows(path, 0)


# What ends a training


@pytest.mark.parametrize("fault", ["gpu memory", "memory"])
def test_too_little_memory_is_one_sentence(toy: Any, tmp_path: Path, fault: str) -> None:
    with pytest.raises(guard.NoMemory) as error:
        toy.train(toy.Toy(out=str(tmp_path), fault=fault), "toy")
    text = str(error.value)
    assert "has not enough memory for a step of this training; set a smaller capacity=" in text
    assert text.endswith(f"what was saved in {tmp_path} is kept")
    assert text in (tmp_path / "logs/attempt-001.log").read_text()


def test_a_loss_that_is_no_number_is_one_sentence(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(
        Diverged, match=r"^after step 3 the loss of the training is no finite number"
    ):
        toy.train(toy.Toy(out=str(tmp_path), fault="nan"), "toy")


def test_a_disk_without_room_is_told_before(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    toy.train(toy.Toy(out=str(tmp_path / "a"), run=RunSettings(steps=1)), "toy")
    assert any("states of this run take up to 67.1 MB" in text for text in caplog.messages)
    usage = type("Usage", (), {"free": 1000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        guard.NoSpace, match=r"need 67\.1 MB in .*/b, and 1 MB are free; free space"
    ):
        toy.train(toy.Toy(out=str(tmp_path / "b")), "toy")
    assert not list(read_rows(tmp_path / "b/metrics.jsonl"))


# What is refused before


def test_a_model_of_which_nothing_is_trained_is_refused_with_numbers() -> None:
    layer = torch.nn.Linear(30, 50)
    guard.refuse_frozen(layer.parameters())
    layer.requires_grad_(False)
    with pytest.raises(BadConfig, match=r"^no weight is trained, of 1,550; name some with train="):
        guard.refuse_frozen(layer.parameters())


def test_a_logger_that_is_not_there_is_told_before(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ming_recipes.training.runs import loggers

    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    run = RunSettings(steps=1, loggers=["wandb"])
    with pytest.raises(MissingPlugin, match=r"^loggers has 'wandb', and its package .*\[wandb"):
        toy.train(toy.Toy(out=str(tmp_path), run=run), "toy")
    run = RunSettings(steps=1, loggers=["tensorbord"])
    with pytest.raises(
        UnknownName, match=r"^unknown logger 'tensorbord'; did you mean 'tensorboard'"
    ):
        toy.train(toy.Toy(out=str(tmp_path / "b"), run=run), "toy")


def test_tensorboard_shows_every_step_once(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = toy.Toy(out=str(tmp_path), run=RunSettings(steps=8, save_every=3))
    config.run.loggers = ["tensorboard"]
    trained = toy.Module.training_step

    def dies(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == 5:
            raise RuntimeError("power cut")
        return trained(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(toy.Module, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            toy.train(config, "toy")
    toy.train(config, "toy")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = events.Scalars("answers/odd")
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if "answers/odd" in row]
    assert [event.step for event in shown] == [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [event.value for event in shown] == pytest.approx([row["answers/odd"] for row in rows])


# What a person sees


def on_terminal(toy: Any, config: Any) -> tuple[int, str]:
    """Exit code and output of a training whose output is a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "COLUMNS": "100"}
        sys.stderr = os.fdopen(2, "w")
        logging.basicConfig(format="ming: %(message)s", stream=sys.stderr, force=True)
        try:
            toy.train(config, "toy")
        finally:
            os._exit(0)
    said = b""
    with suppress(OSError):  # its end
        while more := os.read(terminal, 10_000):
            said += more
    return os.waitpid(pid, 0)[1], said.decode()


def test_a_terminal_shows_a_bar(toy: Any, tmp_path: Path) -> None:
    code, said = on_terminal(toy, toy.Toy(out=str(tmp_path), pause=0.2))
    assert code == 0
    assert re.search(
        r"step [34] of 8 .*━.* loss [\d.]+, \d+ tokens/s, 12 % padding, 0:00:\d\d left", said
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert set(re.findall(r"[A-Z]\w+", plain)) <= {"GB", "MB"}  # nothing of libraries


def test_without_a_terminal_there_are_lines(
    toy: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    toy.train(toy.Toy(out=str(tmp_path)), "toy")
    out, said = capfd.readouterr()
    assert out == ""
    lines = [line for line in said.splitlines() if not line.startswith("states of this run")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"step 8 of 8: loss [\d.]+, \d+ tokens/s, 12 % padding, 0:00:00 left", lines[-1]
    )
