"""Query tokens of image heads: in the prompt, in the embeddings, for the routers and positions.

What a connector makes of their hidden states is a matter of a head, and not compared here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, normalize

from ming_core import Message, user
from ming_core.chat.formats import LITE_1_5, ChatFormat
from ming_core.chat.prompt import Prompt, build_prompt
from ming_core.modalities import IMAGE
from ming_core.model.encoder import Features, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import PositionRule, rope_index
from ming_core.model.queries import Queries
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_core.testing import Check, GoldenCase

from ._common import ToyTokenizer

MERGE = 2


def run(case: GoldenCase) -> Iterator[Check]:
    config, inputs, wanted = case.config, case.inputs, case.outputs
    uni = config["release"] == "Ming-Lite-Uni"
    scales = config["scales" if uni else "img_gen_scales"]
    queries = Queries(tuple(case.weights[f"mlp/query_tokens_dict.{s}x{s}"].float() for s in scales))
    ids = inputs["input_ids"]
    mask = inputs["attention_mask"] if not uni else torch.ones_like(ids)
    added = _added(case, queries)
    if uni:  # whose prompt ends with the first marker
        added = Prompt(
            added.input_ids[1:], added.modality_ids[1:], [], query_ids=added.query_ids[1:]
        )
    expanded, real, query_ids = _appended(ids, mask, added)
    yield Check("expanded_input_ids", expanded, wanted["expanded_input_ids"])
    if not uni:
        yield Check("expanded_attention_mask", real, wanted["expanded_attention_mask"])
    gen = wanted["gen_mask"]
    yield Check("gen_mask", (query_ids >= 0).to(gen.dtype), gen)
    modality = (expanded == config["image_patch_token"]) * IMAGE
    if not uni:
        seen = (modality == IMAGE).view(wanted["image_mask"].shape)
        yield Check("image_mask", seen, wanted["image_mask"])

    pictures = _pictures(inputs.get("image_grid_thw"))
    items = _in_reading_order(expanded, query_ids, pictures, queries, config["image_patch_token"])
    stills, _ = split_grids(items)
    if "image_grid_thw" in wanted:
        yield Check("image_grid_thw", stills, wanted["image_grid_thw"])
    if "position_ids" in wanted:
        positions, _ = rope_index(_rule(case), expanded, real, stills)
        yield Check("position_ids", positions, wanted["position_ids"])
    else:
        assert config["rope_scaling"] is None

    encoded = _encoded(case)
    if "image_embeds" in wanted:
        yield Check("image_embeds", encoded["image"], wanted["image_embeds"])
    embeds = _omni(case).embed(
        OmniBatch(
            expanded,
            torch.zeros(3, *expanded.shape),
            modality,
            encoded=encoded,
            query_ids=query_ids,
            queries=queries.joined(),
        )
    )
    places = real.bool()
    yield Check("inputs_embeds", embeds[places], wanted["inputs_embeds"][places])


def _added(case: GoldenCase, queries: Queries) -> Prompt:
    """What queries add to a prompt: its end, as they stand behind the start of the answer."""
    config = case.config
    block = replace(LITE_1_5.image, start="<S>", patch="<P>", end="<E>")
    format: ChatFormat = replace(LITE_1_5, image=block)
    names = {"<P>": "patch", "<S>": "start", "<E>": "end"}
    special = {text: config[f"image_{name}_token"] for text, name in names.items()}
    special |= {"<role>": 1000, "</role>": 1001}
    tokenizer = ToyTokenizer(special, 2000)
    talk: list[Message] = [user("x")]
    plain = build_prompt(talk, format, tokenizer)
    whole, start = build_prompt(talk, format, tokenizer, queries=queries), len(plain.input_ids)
    assert whole.input_ids[:start] == plain.input_ids
    return Prompt(whole.input_ids[start:], [], [], query_ids=whole.query_ids[start:])


def _appended(ids: Tensor, mask: Tensor, added: Prompt) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and query ids of prompts that are padded on the right."""
    more = len(added.input_ids)
    shape = (len(ids), ids.shape[1] + more)
    expanded, real, query_ids = (torch.full(shape, value) for value in (0, 0, -1))
    for row, count in enumerate(mask.sum(1).tolist()):
        expanded[row, :count], real[row, : count + more] = ids[row, :count], 1
        expanded[row, count : count + more] = torch.tensor(added.input_ids)
        query_ids[row, count : count + more] = torch.tensor(added.query_ids)
        # What stands behind is padding, whatever its ids are.
        expanded[row, count + more :] = ids[row, count:]
    return expanded, real, query_ids


def _pictures(grids: Tensor | None) -> list[Features]:
    rows = [] if grids is None else list(grids)
    return [Features("image", {}, row[None], [int(row.prod()) // MERGE**2]) for row in rows]


def _in_reading_order(
    ids: Tensor, query_ids: Tensor, pictures: list[Features], queries: Queries, patch: int
) -> list[Features]:
    """Pictures and queries of all rows: in each row the pictures come first."""
    left, found = iter(pictures), []
    for row, numbers in zip(ids, query_ids, strict=True):
        count = int(((row == patch) & (numbers < 0)).sum())
        while count:
            found.append(next(left))
            count -= found[-1].tokens[0]
        found.append(queries.features(MERGE))
    return found


def _rule(case: GoldenCase) -> PositionRule:
    config = case.config
    kind = {"3D": "mrope", "video_rope": "video_rope", "mrope": "mrope"}
    section = config.get("llm", config)
    return PositionRule(
        kind=kind[section["rope_scaling"]["type"]],  # type: ignore[arg-type]
        image_patch=config["image_patch_token"],
        video_patch=config["image_patch_token"],
        image_start=config["image_start_token"],
        merge=MERGE,
    )


def _encoded(case: GoldenCase) -> dict[str, Tensor]:
    if "vision_features" in case.inputs:  # the projector of Uni lies in the same file
        parts = [
            (case.weights[f"mlp/linear_proj.{n}.weight"], case.weights[f"mlp/linear_proj.{n}.bias"])
            for n in (0, 2)
        ]
        x = linear(gelu(linear(case.inputs["vision_features"], *parts[0])), *parts[1])
        return {"image": normalize(x, dim=-1)}
    return {"image": case.inputs["image_embeds"]} if "image_embeds" in case.inputs else {}


def _omni(case: GoldenCase) -> Omni:
    """A model with the embeddings of the case; nothing else of it is used."""
    names = ("word_embeddings.weight", "qwen2_5_llm/model.embed_tokens.weight")
    words = next(case.weights[name] for name in names if name in case.weights)
    config = {
        "model_type": "bailing_moe",
        "vocab_size": len(words),
        "hidden_size": case.config["hidden_size"],
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 100.0,
    }
    backbone = Backbone(backbone_of({"llm_config": config}))
    backbone.word_embeddings.weight.data.copy_(words)
    return Omni(backbone.requires_grad_(False))
