"""What a training survives: full disks, kill -9, damaged files, signals, a second process, NaN."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ming_core.errors import BadCheckpoint, BadConfig, MingError
from ming_core.output import replacing, write_file
from ming_recipes.nano.ship import training_seconds
from ming_recipes.training.runs.folder import BadRun, running
from ming_recipes.training.runs.keeping import Diverged
from ming_recipes.training.runs.logs import append_row, read_rows
from ming_recipes.training.runs.states import Unsaved, before, newest_state, read_state, save_state

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def whole(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights of a run that nothing happened to."""
    return trained(toy, toy.Toy(out=str(tmp_path_factory.mktemp("whole") / "run")))


def trained(toy: Any, config: Any) -> Weights:
    """The weights with which a run ends."""
    toy.train(config, "toy")
    return read_state(Path(config.out) / "toy.ckpt")["state_dict"]


@pytest.fixture
def broken(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of a run that power failed in step 12: the states of 10 and 5 are there."""
    config = toy.Toy(out=str(tmp_path / "run"))
    step = toy.Module.training_step

    def dies(self: Any, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.global_step == 12:
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(toy.Module, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            toy.train(config, "toy")
    assert [step_of(tmp_path / "run" / name) for name in ("toy.ckpt", "toy.before.ckpt")] == [10, 5]
    return config


def step_of(path: Path) -> int:
    return read_state(path)["global_step"]


def same(first: Weights, second: Weights) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can be larger here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_resumed_run_ends_with_the_same_weights(toy: Any, broken: Any, whole: Weights) -> None:
    assert same(trained(toy, broken), whole)
    assert sorted(path.name for path in Path(broken.out).iterdir()) == [
        "config.yaml",
        "environment.json",
        "logs",
        "loss.jsonl",
        "run.json",
        "run.lock",
        "toy.before.ckpt",
        "toy.ckpt",
    ]


def test_without_room_the_state_before_is_kept(toy: Any, broken: Any, whole: Weights) -> None:
    out = Path(broken.out)
    size = (out / "toy.ckpt").stat().st_size
    sentence = (
        rf"^cannot save the state of step 15 as {out}/toy.ckpt \(File too large\); "
        "that of step 10 is kept; free space or mend the folder, then the same command goes on$"
    )
    with largest_file(size // 2), pytest.raises(Unsaved, match=sentence):
        toy.train(broken, "toy")
    assert [step_of(out / name) for name in ("toy.ckpt", "toy.before.ckpt")] == [10, 5]
    assert not list(out.glob(".*"))
    assert same(trained(toy, broken), whole)


@pytest.mark.parametrize(
    "call", ["torch.save", "fsync", "rename"], ids=["while writing", "at the end", "when renaming"]
)
def test_whatever_fails_one_state_can_be_read(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.ckpt"
    for step in (1, 2):
        save_state(state(step), path)
    with monkeypatch.context() as patch:
        if call == "torch.save":
            patch.setattr(torch, "save", full)
        elif call == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            save_state(state(3), path)
    assert (step_of(path), step_of(before(path))) == (2, 1)
    assert len(list(tmp_path.iterdir())) == 2


def state(step: int, size: int = 10) -> dict[str, Any]:
    """What is needed of a state of Lightning."""
    return {
        "global_step": step,
        "pytorch-lightning_version": "2.6",
        "loops": {},
        "state_dict": {"weight": torch.full((size,), float(step))},
        "optimizer_states": [],
        "lr_schedulers": [],
    }


def _save_on(path: Path, steps: Any) -> None:
    for step in itertools.count(1):
        save_state(state(step, 200_000), path)
        steps.value = step


def test_kill_9_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for turn in range(12):
        path, steps = tmp_path / f"{turn}.ckpt", fork.Value("i", 0)
        saving = fork.Process(target=_save_on, args=(path, steps))
        saving.start()
        while steps.value < 2:
            time.sleep(0.001)
        time.sleep(0.0007 * turn)
        os.kill(saving.pid or 0, signal.SIGKILL)
        saving.join()
        found = newest_state((path, before(path)), lambda path, state: None, pytest.fail)
        assert found is not None
        assert found[1]["global_step"] >= steps.value
        assert found[1]["state_dict"]["weight"].eq(found[1]["global_step"]).all()
        for left in tmp_path.iterdir():
            left.unlink()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _flip(path: Path) -> None:
    """One bit of the weights themselves, of which torch says nothing."""
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    data = bytearray(path.read_bytes())
    start = entry.header_offset
    names = sum(int.from_bytes(data[start + at : start + at + 2], "little") for at in (26, 28))
    data[start + 30 + names + 4] ^= 1
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "torn early": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "random": lambda path: path.write_bytes(os.urandom(5000)),
    "text": lambda path: path.write_text("hello\n"),
    "one bit": _flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "folder": _folder,
    "pipe": _loop,
    "pickle": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("bang")))),
    "bomb": lambda path: torch.save({"a": Bomb(path.with_name("bang"))}, path),
    "bomb of old": lambda path: torch.save(
        Bomb(path.with_name("bang")), path, _use_new_zipfile_serialization=False
    ),
    "other file": lambda path: torch.save({"a": 1}, path),
    "a list": lambda path: torch.save([1], path),
    "other model": lambda path: torch.save({**read_state(path), "state_dict": {}}, path),
    "other sizes": lambda path: save_state(state(20), path, keep=False),
    "odd step": lambda path: torch.save({**read_state(path), "global_step": "x"}, path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_left_out(
    toy: Any, broken: Any, whole: Weights, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = Path(broken.out)
    path = out / "toy.ckpt"
    DAMAGE[damage](path)
    if path.is_dir():
        path.rmdir()  # a folder stands in the way of what is saved
        DAMAGE["empty"](path)
    assert same(trained(toy, broken), whole)
    (sentence,) = (record.message for record in caplog.records if record.name == "ming")
    assert sentence.startswith(f"{path} cannot be used: it ")
    assert sentence.endswith(f"; the training goes on from {before(path)}")
    assert not (out / "bang").exists()
    assert [step_of(out / name) for name in ("toy.ckpt", "toy.before.ckpt")] == [20, 15]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_states_alone_are_one_sentence(toy: Any, broken: Any, damage: str) -> None:
    path = Path(broken.out) / "toy.ckpt"
    before(path).unlink()
    DAMAGE[damage](path)
    with pytest.raises(BadCheckpoint, match=f"^{path} cannot be used: it .*begin anew$") as error:
        toy.train(broken, "toy")
    assert "\n" not in str(error.value)
    assert not path.with_name("bang").exists()


def test_the_good_state_outlives_a_damaged_newer_one(toy: Any, broken: Any) -> None:
    """The one before is not replaced by the damaged one when the next is saved."""
    path = Path(broken.out) / "toy.ckpt"
    path.write_bytes(b"torn")
    with largest_file(3000), pytest.raises(Unsaved):
        toy.train(broken, "toy")
    assert step_of(before(path)) == 5


def test_other_settings_are_refused_by_name(toy: Any, broken: Any, whole: Weights) -> None:
    other = toy.Toy(out=broken.out, rate=0.01, width=5)
    with pytest.raises(BadConfig) as error:
        toy.train(other, "toy")
    assert str(error.value) == (
        f"the run in {broken.out} was started with other settings: rate (0.1 there, 0.01 now), "
        "width (4 there, 5 now); use those, or choose another folder with out="
    )
    moved = toy.Toy(out=f"{broken.out}-moved")
    shutil.move(broken.out, moved.out)
    assert same(trained(toy, moved), whole)
    with pytest.raises(BadConfig, match="other settings: steps"):  # a finished run, too
        toy.train(toy.Toy(out=moved.out, steps=30), "toy")


@pytest.mark.parametrize("record", ["", "{", "[]", '{"settings": 3}', None])
def test_a_run_without_its_record_is_not_gone_on_with(
    toy: Any, broken: Any, record: str | None
) -> None:
    path = Path(broken.out) / "run.json"
    path.unlink() if record is None else path.write_text(record)
    with pytest.raises(BadRun, match=r"run\.json.* cannot be? told|choose another folder"):
        toy.train(broken, "toy")
    assert step_of(Path(broken.out) / "toy.ckpt") == 10


def test_a_second_process_is_told_of_the_first(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path / "run"))
    with running(tmp_path / "run", config, "toy", ()):
        sentence = rf"^process {os.getpid()} on \S+ trains in {config.out}; wait for it"
        with pytest.raises(BadRun, match=sentence):
            toy.train(config, "toy")
    toy.train(config, "toy")


def test_a_folder_that_cannot_be_used_is_told_at_once(toy: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(BadRun, match=f"^cannot train in {out}: .*; choose another folder"):
            toy.train(toy.Toy(out=str(out)), "toy")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_sentence_wherever_it_is_met(toy: Any, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "scores.json"))
    sentence = (
        rf"^cannot go on in {tmp_path}: No space left on device {tmp_path}/scores\.json; what was "
        "saved there is kept; free space or mend the folder, then the same command goes on$"
    )
    with pytest.raises(BadRun, match=sentence), running(tmp_path, toy.Toy(), "toy", ()):
        raise full


def test_what_somebody_else_made_is_not_replaced(toy: Any, tmp_path: Path) -> None:
    (tmp_path / "toy.ckpt").write_text("mine")
    with pytest.raises(BadRun, match=r"holds toy\.ckpt but no run\.json"):
        toy.train(toy.Toy(out=str(tmp_path)), "toy")
    assert (tmp_path / "toy.ckpt").read_text() == "mine"


@pytest.mark.parametrize("step", [3, 12])
def test_a_loss_that_is_no_number_ends_the_training(toy: Any, tmp_path: Path, step: int) -> None:
    config = toy.Toy(out=str(tmp_path), nan_at=step)
    sentence = rf"^after step {step + 1} the loss of the training is no finite number; .*rates$"
    with pytest.raises(Diverged, match=sentence):
        toy.train(config, "toy")
    saved = tmp_path / "toy.ckpt"
    assert (step_of(saved) if saved.exists() else 0) == step // 5 * 5


def test_weights_that_are_no_numbers_are_not_saved(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infinite gradients of a finite loss."""
    backward = toy.Module.on_after_backward

    def infinite(self: Any) -> None:
        backward(self)
        if self.global_step == 9:
            self.layer.weight.grad.fill_(torch.inf)

    monkeypatch.setattr(toy.Module, "on_after_backward", infinite)
    with pytest.raises(Diverged, match="after step 10 the weights of the training"):
        toy.train(toy.Toy(out=str(tmp_path)), "toy")
    assert step_of(tmp_path / "toy.ckpt") == 5


def test_a_folder_that_is_removed_is_made_again(
    toy: Any, tmp_path: Path, whole: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, out = toy.Module.training_step, tmp_path / "run"

    def removed(self: Any, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.global_step == 7:
            shutil.rmtree(out)
        return step(self, batch, index)

    monkeypatch.setattr(toy.Module, "training_step", removed)
    assert same(trained(toy, toy.Toy(out=str(out))), whole)
    assert step_of(out / "toy.ckpt") == 20


# Processes of their own

FORK = multiprocessing.get_context("fork")  # starts at once, with everything imported
QUIET = {
    **os.environ,
    "TMPDIR": "/nowhere",  # nothing needs it
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
}
PROGRAM = Path(__file__).with_name("toy.py")


def wait_for_steps(log: Path, count: int, alive: Callable[[], bool]) -> None:
    for _ in range(4800):
        if log.exists() and len(list(read_rows(log))) >= count:
            return
        assert alive()
        time.sleep(0.05)
    pytest.fail("the training does not begin")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_a_training(toy: Any, tmp_path: Path, number: signal.Signals) -> None:
    config = toy.Toy(out=str(tmp_path), pause=0.02, every=7, steps=999)
    log = tmp_path / "loss.jsonl"
    training = FORK.Process(target=toy.train, args=(config, "toy"))
    training.start()
    wait_for_steps(log, 16, training.is_alive)
    with pytest.raises(BadRun, match=f"^process {training.pid} on "):
        toy.train(config, "toy")
    os.kill(training.pid or 0, number)
    training.join(60)
    steps = max(row["step"] for row in read_rows(log)) + 1
    saved = step_of(tmp_path / "toy.ckpt")
    if number == signal.SIGKILL:
        assert training.exitcode == -9
        assert saved >= 14
    else:
        assert training.exitcode == 128 + number
        assert saved == steps
    with running(tmp_path, config, "toy", ()):
        pass  # the lock ended with its process


def test_a_second_signal_does_not_wait(toy: Any, tmp_path: Path) -> None:
    config = toy.Toy(out=str(tmp_path), pause=30)
    training = FORK.Process(target=toy.train, args=(config, "toy"))
    training.start()
    while not (tmp_path / "run.json").exists():
        time.sleep(0.01)
    for _ in range(2):
        time.sleep(0.5)
        os.kill(training.pid or 0, signal.SIGTERM)
    training.join(20)
    assert training.exitcode == 143


@pytest.mark.slow
def test_all_processes_of_a_training_stop_together(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path)]
    command += ["pause=0.05", "every=7", "steps=999", "processes=2"]
    with subprocess.Popen(command, env=QUIET, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "loss.jsonl"
        wait_for_steps(log, 8, lambda: process.poll() is None)
        process.terminate()
        told = process.communicate(timeout=120)[1]
    steps = max(row["step"] for row in read_rows(log)) + 1
    assert process.returncode == 143
    assert step_of(tmp_path / "toy.ckpt") == steps
    sentence = f"ming: stopped at step {steps}; the state is saved, and the same command goes on"
    assert told.count(sentence) == 1
    assert "Traceback" not in told


SMALL_DISK = """
import sys, subprocess
sys.path.insert(0, sys.argv[1])
from toy import Toy, train
from ming_core.errors import MingError

def tried(disk, out, **settings):
    subprocess.run(["mount", *disk, sys.argv[2]], check=True)
    try:
        train(Toy(out=f"{sys.argv[2]}/{out}", **settings), "toy")
        print("done")
    except MingError as error:
        print(error)

tried(["-t", "tmpfs", "-o", "size=60k", "disk"], "run", every=3, width=2000)
tried(["-o", "remount,size=1m"], "run", every=3, width=2000)
tried(["-o", "remount,ro"], "new")
"""


@pytest.mark.slow
def test_a_disk_that_is_full_and_a_disk_that_is_read_only(tmp_path: Path) -> None:
    own = ["unshare", "-Urm"]  # where ordinary users may mount something
    if (
        not shutil.which("unshare")
        or subprocess.run([*own, "true"], capture_output=True).returncode
    ):
        pytest.skip("this system lets nobody mount a small disk")
    command = [*own, sys.executable, "-c", SMALL_DISK, str(PROGRAM.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=QUIET)
    if "CalledProcessError" in done.stderr or done.stderr.startswith("unshare: "):
        pytest.skip("this system lets nobody mount a small disk")
    full, again, read_only = done.stdout.splitlines()
    assert full == (
        f"cannot save the state of step 6 as {tmp_path}/run/toy.ckpt (No space left on device); "
        "that of step 3 is kept; free space or mend the folder, then the same command goes on"
    )
    assert again == "done"
    assert read_only == (
        f"cannot train in {tmp_path}/new: Read-only file system; choose another folder with out="
    )


# Files and logs


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(AttributeError), replacing(path) as file:
        file.write(b"half") and file.nonsense  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
    (tmp_path / "link").symlink_to(path)
    write_file(tmp_path / "link", "whole")
    assert path.read_text() == "whole"
    assert (tmp_path / "link").is_symlink()


def test_lines_that_broke_off_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "gone" / "loss.jsonl"
    append_row(log, {"seconds": 5})
    with log.open("ab") as file:
        file.write(b'{"seconds": 7, "lo')  # and no end of line
    append_row(log, {"seconds": 9})
    with log.open("ab") as file:
        file.write(b'\x00\x00\xff\n[1]\n12\n{"step": 3}\n{"seconds": "x"}\n\n')
    append_row(log, {"seconds": 2})
    assert [row["seconds"] for row in read_rows(log) if "seconds" in row] == [5, 9, "x", 2]
    assert training_seconds(log) == 9
    assert list(read_rows(tmp_path / "none.jsonl")) == []
    assert training_seconds(tmp_path / "none.jsonl") == 0


def test_errors_are_those_of_users() -> None:
    for kind in (Unsaved, Diverged, BadRun):
        assert issubclass(kind, MingError)
