"""A loaded model as one checkpoint folder that `load` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ming_core.checkpoints.files import inside
from ming_core.checkpoints.keymap import identity_slots
from ming_core.checkpoints.knowledge import familiar_files
from ming_core.checkpoints.writing import export

if TYPE_CHECKING:
    from ming_core.loading import Sources
    from ming_core.model.omni import Omni

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_OTHERS = ("special_tokens_map.json", "generation_config.json")
"""Read by other engines only."""


def save_model(omni: Omni, sources: Sources, folder: str | Path) -> Path:
    """Write everything that `load` needs into a new folder, and return its path.

    Parts that are loaded are written as they are now; all other tensors of the model, such as those
    of encoders that nobody has used yet, are copied as they are stored. The folders of a preset
    become one. The folder appears at once, complete, or not at all. Raises BadCheckpoint if it
    exists and is not empty, or cannot be written.
    """
    slots = {"backbone": (omni.backbone, sources.release.slots(omni.backbone.config))}
    encoders = {name: (part, identity_slots(part)) for name, part in omni.encoders.items()}
    home = sources.tokenizer.folder
    others = (path for name in _OTHERS if (path := inside(home, name)).is_file())
    export(
        slots | encoders,
        folder,
        sources.config,
        files=[
            *(inside(home, name) for name in _TOKENIZER),
            *others,
            *familiar_files(sources.checkpoints),
        ],
        preprocessor=sources.preprocessor or None,
        stored=sources.checkpoints,
    )
    return Path(folder)
