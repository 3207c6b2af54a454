"""States of a training that survive a full disk, kill -9 and a power cut.

A new state is written beside the old one and then renamed, and the old one is kept. So one of the
two can always be read. A file that is read may be cut off, damaged or made by somebody else, so
everything in it is checked.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from ming_core.errors import BadCheckpoint, MingError
from ming_core.output import replacing

State = dict[str, Any]

_KEYS = (
    "pytorch-lightning_version",
    "global_step",
    "loops",
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
)
"""What Lightning needs to go on."""


ALONE = {"before": False}
"""Storage options of a file whose older version is not kept."""


class Unsaved(MingError):
    """A state cannot be saved. The message says which one is kept."""


def before(path: Path) -> Path:
    """Where the state before the newest one is: `sight.ckpt` -> `sight.before.ckpt`."""
    return path.with_suffix(f".before{path.suffix}")


class SafeCheckpoints(CheckpointIO):
    """Saves and loads for a Lightning trainer: `Trainer(plugins=[SafeCheckpoints()])`.

    read: a state that was read already, with its path.
    """

    def __init__(self, read: tuple[Path, State] | None = None) -> None:
        self.read = read
        self.whole: dict[Path, int] = {}  # the step of each state that was written or read here

    def save_checkpoint(self, checkpoint: State, path: Any, storage_options: Any = None) -> None:
        """Raises Unsaved; the state that `path` had is there still."""
        path = Path(path)
        step = checkpoint["global_step"]
        try:
            # Only a whole state may take the place of the one before it.
            save_state(checkpoint, path, keep=path in self.whole and storage_options != ALONE)
        except OSError as error:
            known = self.whole.get(path)
            kept = "" if known is None else f"; that of step {known} is kept"
            raise Unsaved(
                f"cannot save the state of step {step} as {path} ({error.strerror or error})"
                f"{kept}; free space or mend the folder, then the same command goes on"
            ) from error
        self.whole[path] = step

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> State:
        """Raises BadCheckpoint."""
        read, self.read = self.read, None  # it is needed once, and it may be large
        state = read[1] if read and read[0] == Path(path) else read_state(Path(path))
        self.whole[Path(path)] = state["global_step"]
        return state

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def save_state(state: Mapping[str, Any], path: Path, keep: bool = True) -> None:
    """Write a state. keep: the state that has the place becomes the one `before` it. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, before(path) if keep else None) as file:
        target = _Target(file)
        try:
            torch.save(state, cast(IO[bytes], target))
        except RuntimeError as error:  # what torch makes of an OSError
            raise target.error or error from None


class _Target:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def read_state(path: Path, keys: Iterable[str] = _KEYS) -> State:
    """The state in a file, with its tensors on the CPU; no code in it is run.

    Raises BadCheckpoint with the reason if it is not whole or not a state of Lightning with `keys`.
    """
    try:
        if not path.is_file():
            raise BadCheckpoint("it is no file")
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except BadCheckpoint:
        raise
    except Exception as error:  # what a damaged file leads to is nowhere documented
        raise BadCheckpoint("it is torn, damaged or no checkpoint of a training") from error
    if not isinstance(state, dict) or not all(key in state for key in keys):
        raise BadCheckpoint("it is no checkpoint of a training")
    if type(state["global_step"]) is not int or not isinstance(state["state_dict"], dict):
        raise BadCheckpoint("it is no checkpoint of a training")
    return state


def _check_archive(path: Path) -> None:
    """torch does not compare the checksums that it writes."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise BadCheckpoint("it is no checkpoint of a training")  # nothing in one is compressed
        if archive.testzip() is not None:
            raise BadCheckpoint("it is damaged")


def other_weights(state: State, module: nn.Module) -> str | None:
    """Why the weights of a state are not those of a module of this kind; None if they are."""
    own = {name: value.shape for name, value in module.state_dict().items()}
    found = {
        name: value.shape if isinstance(value, Tensor) else None
        for name, value in state["state_dict"].items()
    }
    return None if found == own else "it holds the weights of another model"


def newest_state(
    paths: Iterable[Path], wrong: Callable[[Path, State], str | None], report: Callable[[str], None]
) -> tuple[Path, State] | None:
    """The first state that can be used, or None if there is no file.

    paths: from the newest to the oldest. wrong: says why a state does not belong to its path, or
    None. report: gets a sentence for each state that is left out. Raises BadCheckpoint if there are
    files, and none of them can be used.
    """
    bad: dict[Path, str] = {}
    for path in paths:
        if not path.exists():
            continue
        try:
            state = read_state(path)
            reason = wrong(path, state)
        except BadCheckpoint as error:
            reason = str(error)
        if reason is None:
            for left, why in bad.items():
                report(f"{left} cannot be used: {why}; the training goes on from {path}")
            return path, state
        bad[path] = reason
    if bad:
        reasons = "; ".join(f"{path} cannot be used: {why}" for path, why in bad.items())
        raise BadCheckpoint(f"{reasons}; put a copy there, or remove it to begin anew")
    return None
