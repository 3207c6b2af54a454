"""The models of a comparison: a model, an adapter beside its base, or the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ming_core.cli.common import load_model
from ming_core.cli.terminal import note
from ming_core.errors import BadCheckpoint

if TYPE_CHECKING:
    from ming_core.api import OmniModel

ADAPTER, MODEL = "adapter", "model"
"""Where a run writes its result."""

RUN = "run.json"


def open_model(name: str, base: str, device: str, dtype: str, quiet: bool) -> OmniModel:
    """Load a model. An adapter is merged into `base`, in memory.

    Raises BadCheckpoint for the folder of a run without a result.
    """
    folder = result_of(Path(name))
    from ming_recipes.training.lora import SETTINGS
    from ming_recipes.training.merging import merge

    if not (folder / SETTINGS).is_file():
        return load_model(str(folder) if folder != Path(name) else name, device, dtype, quiet)
    model = load_model(base, device, dtype, quiet)
    merge(model, folder)
    note(f"merged {folder} into {base}", quiet)
    return model


def result_of(folder: Path) -> Path:
    """The model or the adapter of a run; another folder or name as it is."""
    if not (folder / RUN).is_file() or (folder / "config.json").is_file():
        return folder
    for result in (MODEL, ADAPTER):
        if (folder / result).is_dir():
            return folder / result
    raise BadCheckpoint(f"the run in {folder} has no result yet; let it end, then compare")


def short_name(name: str) -> str:
    """What a model is called in the names of folders: `runs/mine/adapter` is `mine`."""
    path = Path(name)
    parts = [part for part in path.parts if part not in (ADAPTER, MODEL, "/", "..", ".")]
    return parts[-1] if parts else path.resolve().name
