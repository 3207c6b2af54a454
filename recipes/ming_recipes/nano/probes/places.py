"""What early layers of the language model must know about places in the picture.

`TokenPosition`: the place of each image token, because rotary positions only give places relative
to other tokens. `ObjectCell`, a layer later: in which ninth of the picture the centre of an object
lies. `Referent`: for the words of a description, the image token that shows their object. Without
it, the model takes the shape of the wrong object if two objects have the same colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.modalities import IMAGE
from ming_core.model.omni import Omni
from ming_core.training.labels import IGNORED
from ming_recipes.nano.probes.cells import CELLS, TOKEN_CELLS, TOKENS, by_token
from ming_recipes.nano.probes.reading import Reader, asked
from ming_recipes.nano.world.batch import cell_labels
from ming_recipes.nano.world.scene import Scene
from ming_recipes.nano.world.vocabulary import GRID
from ming_recipes.training.batch import Batch
from ming_recipes.training.forward import Forward
from ming_recipes.training.objectives import Objective, Terms

POSITION_LAYER = 2  # after it a token must know its place
CELL_LAYER = 3  # after it a token must know in which ninth of the picture its objects are
REFERENT_LAYER = 4  # after it a word of a description must know what it is about


class TokenPosition(nn.Module, Objective):
    """Names the index of each image token in its picture."""

    keep = (POSITION_LAYER,)
    terms = ("token_position",)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.token = Reader(hidden_size, TOKENS)

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        hidden = _at_images(forward, batch, POSITION_LAYER)
        index = torch.arange(len(hidden), device=hidden.device) % TOKENS
        return {"token_position": asked(self.token(hidden), index)}


class ObjectCell(nn.Module, Objective):
    """Names the ninth of the picture for each cell with the centre of an object."""

    keep = (CELL_LAYER,)
    terms = ("object_cell",)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.ninth = Reader(hidden_size, TOKEN_CELLS**2 * len(GRID))

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        hidden = _at_images(forward, batch, CELL_LAYER)
        scaled = F.rms_norm(hidden, hidden.shape[-1:])
        logits = self.ninth(scaled).unflatten(-1, (TOKEN_CELLS**2, len(GRID)))
        targets = ninths(batch.extra.scenes).to(hidden.device)
        return {"object_cell": asked(logits.flatten(0, -2), targets.flatten())}


class Referent(nn.Module, Objective):
    """Names the image token that shows what the next word of a description is about."""

    keep = (REFERENT_LAYER,)
    terms = ("referent",)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.token = Reader(hidden_size, TOKENS)

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        wanted = batch.labels[:, 1:] != IGNORED
        hidden = forward.kept[REFERENT_LAYER][:, :-1][wanted]
        about = batch.extra.referent[:, 1:][wanted]
        return {"referent": asked(self.named(hidden), about)}

    def named(self, hidden: Tensor) -> Tensor:
        """States [N, D] in front of words -> logits [N, tokens of a picture]."""
        return self.token(F.rms_norm(hidden, hidden.shape[-1:]))


def ninths(scenes: Sequence[Scene]) -> Tensor:
    """[pictures * tokens, 4] int64: index into GRID of the object that is centred in a cell, -1
    where there is none."""
    found = []
    for scene in scenes:
        index = np.array([*(item.grid for item in scene.objects), -1])
        cells = torch.from_numpy(index[cell_labels(scene, CELLS).index])
        found.append(by_token(cells[None])[0])
    return torch.stack(found).flatten(0, 1) if found else torch.empty(0, 4, dtype=torch.long)


def _at_images(forward: Forward, batch: Batch, layer: int) -> Tensor:
    return forward.kept[layer][batch.omni.modality_ids == IMAGE]
