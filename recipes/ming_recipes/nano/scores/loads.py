"""Which experts the tokens of each modality visit: numbers, and a picture of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ming_core.api import OmniModel
from ming_core.media import Message
from ming_core.modalities import MODALITY_IDS, TEXT
from ming_core.model.routing import Routing
from ming_core.output import replacing
from ming_core.training.balance import expert_counts
from ming_recipes.nano.scores.evaluate import SLICES, SOUND_SLICES
from ming_recipes.nano.scores.hearing import LANGUAGES, request, spoken, utterances, why_unheard

DEAD = 0.01
"""An expert with less than this part of its even share is dead."""

LONGEST = 64  # tokens of an answer, which are counted as text

Loads = dict[str, np.ndarray]
"""By modality, [layers, experts]: how many tokens came to each expert, as a multiple of an even
share. A row's mean is 1. Modalities that had no token are left out."""


def held_out_talks(model: OmniModel, count: int) -> list[list[Message]]:
    """For each language `count` conversations about pictures and as many about videos; if the model
    hears, also so many utterances to write down, and questions aloud."""
    random = np.random.default_rng(0)
    hears = why_unheard(model) is None
    talks = []
    for language in LANGUAGES:
        slices = [SLICES["test"], SLICES["video"]]
        if hears:
            slices.append(SOUND_SLICES["asked aloud"])
            said = spoken(islice(utterances(language), count))
            talks += [request(model, one.sound, one.listed) for one in said]
        for asks in slices:
            asked = list(asks(language, count))
            talks += [[asked[i].turn(0)] for i in random.permutation(len(asked))[:count]]
    return talks


@torch.inference_mode()
def router_loads(model: OmniModel, talks: Iterable[Sequence[Message]]) -> Loads:
    """What the routers decide while the model answers conversations, its answers included.

    Only for mixtures with a router for each modality. Each token is counted under its own modality.
    """
    mixtures = model.omni.backbone.mixtures
    counts: dict[int, list[Tensor]] = {
        id: [torch.zeros(len(part.gates[0].weight)) for part in mixtures]
        for id in MODALITY_IDS.values()
    }

    def count(layer: int, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        tokens, modality = inputs
        routing: Routing = output[1]
        if modality is None:  # a generated token
            modality = torch.full(tokens.shape[:2], TEXT)
        for id, rows in counts.items():
            own = modality.flatten() == id
            rows[layer] += expert_counts(routing.index, len(rows[layer]), own).cpu()

    hooks = [
        part.register_forward_hook(partial(count, layer)) for layer, part in enumerate(mixtures)
    ]
    try:
        for talk in talks:  # one by one: padding visits experts, too
            model.answer_batch([talk], max_new_tokens=LONGEST)
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: torch.stack(counts[id]).numpy() for name, id in MODALITY_IDS.items()}
    return {name: rows / rows.mean(-1, keepdims=True) for name, rows in found.items() if rows.any()}


def load_scores(loads: Loads) -> dict[str, dict[str, float]]:
    """By router ("router text", …), over all layers: what the least and the most used expert get,
    as multiples of an even share, and how many experts are dead."""
    return {
        f"router {name}": {
            "least": float(rows.min()),
            "most": float(rows.max()),
            "dead": float((rows < DEAD).sum()),
        }
        for name, rows in loads.items()
    }


def draw_loads(loads: Loads, path: Path) -> None:
    """Write a PNG with a panel for each router: a row for each layer, a column for each expert.

    White is unused, the middle blue an even share, the darkest three times as much; red is dead.
    """
    cell, margin, head = 44, 30, 52
    layers, experts = max(rows.shape for rows in loads.values())
    width, height = margin + experts * cell + margin // 2, head + layers * cell + margin // 2
    picture = Image.new("RGB", (len(loads) * width, height), "white")
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    for panel, (name, rows) in enumerate(loads.items()):
        left = panel * width + margin
        draw.text((left, 6), f"{name} router", "black", large)
        for expert in range(rows.shape[1]):
            place = (left + (expert + 0.5) * cell, head - 10)
            draw.text(place, str(expert), "gray", small, anchor="mm")
        for layer, row in enumerate(rows):
            top = head + layer * cell
            draw.text((left - 12, top + cell // 2), str(layer), "gray", small, anchor="mm")
            for expert, load in enumerate(row):
                x = left + expert * cell
                color, ink = _colors(float(load))
                draw.rectangle((x, top, x + cell - 2, top + cell - 2), color)
                middle = (x + cell // 2, top + cell // 2)
                draw.text(middle, f"{load:.2f}", ink, small, anchor="mm")
    with replacing(path) as file:
        picture.save(file, "PNG")


def _colors(load: float) -> tuple[tuple[int, int, int], str]:
    """Of a cell and of what is written in it."""
    if load < DEAD:
        return (214, 40, 40), "white"
    depth = min(load / 3, 1.0) ** 0.6
    red, green, blue = (round(255 + depth * (dark - 255)) for dark in (8, 48, 107))
    return (red, green, blue), "white" if depth > 0.6 else "black"
