"""The projector `linear_proj` and the unit length of every visual token."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ming_core.testing import Check, GoldenCase
from ming_vision.encoder import projector, unit_length


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    config = case.config
    linear_proj = projector(config["image_emb_dim"], config["hidden_size"], config["mlp_depth"])
    prefix = "linear_proj."
    linear_proj.load_state_dict({k.removeprefix(prefix): v for k, v in case.weights.items()})
    projected = linear_proj(case.inputs["vision_embeds"])
    embeds = unit_length(projected)
    yield Check("projected", projected, case.outputs["projected"])
    yield Check("image_embeds", embeds, case.outputs["image_embeds"])
    yield Check("row_norms", embeds.norm(dim=-1), case.outputs["row_norms"])
