"""What the stages of a run have learnt, one file for each stage that has ended."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ming_core.output import replacing
from ming_recipes.nano.config import STAGES, StageName
from ming_recipes.training.runs.folder import Run

LEARNT = "learnt.safetensors"


def save_learnt(folder: Path, name: StageName, weights: nn.Module) -> None:
    """Keep what is learnt at the end of a stage; what the stages before it learnt, too."""
    place = folder / name / LEARNT
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as file:
        file.write(save({name: value.cpu() for name, value in weights.state_dict().items()}))


def load_learnt(run: Run, weights: nn.Module) -> int:
    """Index of the stage to go on with; weights then hold what the stages before it learnt."""
    for index in range(len(STAGES), 0, -1):
        place = run.folder / STAGES[index - 1] / LEARNT
        if not place.exists():
            continue
        try:
            weights.load_state_dict(load_file(place))
        except (OSError, SafetensorError, RuntimeError):
            run.note(f"{place} cannot be used: it is torn or of another model; it is made again")
        else:
            return index
    return 0
