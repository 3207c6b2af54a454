"""Loss cases in float64. What a later component brings is declared per case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ming_core.model.kernels.attention import attend
from ming_core.model.masks import segment_mask
from ming_core.model.routing import grouped_sigmoid_topk, softmax_topk
from ming_core.testing import Check, GoldenCase, Unsupported
from ming_core.training.balance import (
    bias_update,
    expert_counts,
    router_balance_losses,
    router_z_loss,
    sample_balance_loss,
    sequence_balance_loss,
    switch_balance_loss,
)
from ming_core.training.losses import next_token_loss
from ming_core.training.packing import Packed, Sample, pack, plan_packing

ROUTERS = 3


def run(case: GoldenCase) -> Iterator[Check]:
    if "router_logits" in case.inputs:
        sigmoid = case.config["scoring"] == "sigmoid"
        return _bias_update(case) if sigmoid else _softmax_balance(case)
    if "lengths" in case.inputs:
        return _packing(case)
    needs = {
        "representation_alignment": "the image head",
        "flow_matching": "the image and speech heads",
    }
    raise Unsupported(f"comes with {needs.get(case.name, 'preference training')}")


def _softmax_balance(case: GoldenCase) -> Iterator[Check]:
    config, out = case.config, case.outputs
    logits = case.inputs["router_logits"].clone().requires_grad_()
    modality, keep = case.inputs["modality"].flatten(), case.inputs["valid"].flatten()
    sequences = [softmax_topk(x.flatten(0, 1), config["num_experts_per_tok"]) for x in logits]
    flat = logits.flatten(1, 2)
    indices = [index for _, index in sequences]
    fraction = torch.stack([expert_counts(i, config["num_experts"], keep) for i in indices])
    fraction = fraction.double() / fraction.sum(-1, keepdim=True)
    balance = _mean(switch_balance_loss(x, i, keep) for x, i in zip(flat, indices))
    z_loss = _mean(router_z_loss(x, keep) for x in flat)
    per_layer = [router_balance_losses(x, i, modality, keep) for x, i in zip(flat, indices)]
    per_router, tokens = _mean(losses for losses, _ in per_layer), per_layer[0][1]
    sample = _mean(
        sample_balance_loss(x, i.view(*x.shape[:2], -1), case.inputs["valid"])
        for x, i in zip(logits, indices)
    )
    total = config["balance_coef"] * balance + config["z_coef"] * z_loss
    total.backward()

    index = torch.stack(indices).sort(-1).values.view_as(out["topk_index"])
    yield Check("topk_index", index, out["topk_index"])
    yield Check("expert_fraction", fraction, out["expert_fraction"])
    yield Check("tokens_per_router", tokens, out["tokens_per_router"])
    yield Check("balance_switch", balance, out["balance_switch"])
    yield Check("balance_per_router", per_router, out["balance_per_router"])
    used = tokens > 0
    yield Check("balance_router_mean", per_router[used].mean(), out["balance_router_mean"])
    weighted = (per_router * tokens).sum() / tokens.sum()
    yield Check("balance_router_token_weighted", weighted, out["balance_router_token_weighted"])
    yield Check("balance_ming_sample", sample, out["balance_ming_sample"])
    yield Check("z_loss", z_loss, out["z_loss"])
    yield Check("total", total, out["total"])
    yield Check("grad_router_logits", logits.grad, out["grad_router_logits"])


def _bias_update(case: GoldenCase) -> Iterator[Check]:
    config = case.config
    experts, k = config["num_experts"], config["num_experts_per_tok"]
    for suffix, zero_mean in (("sign", False), ("sign_zero_mean", True)):
        bias = torch.zeros(ROUTERS, experts, dtype=torch.float64)
        steps: dict[str, list[Tensor]] = {}
        inputs = (case.inputs[name] for name in ("router_logits", "modality", "valid"))
        for logits, modality, valid in zip(*inputs):
            weights, index = grouped_sigmoid_topk(
                logits,
                bias[modality],
                k,
                config["n_group"],
                config["topk_group"],
                config["routed_scaling_factor"],
            )
            own = (torch.arange(ROUTERS).unsqueeze(1) == modality) & valid
            counts = expert_counts(index.expand(ROUTERS, -1, -1), experts, own)
            bias = bias_update(bias, counts, config["bias_update_rate"], zero_mean)
            index, order = index.sort(-1)
            step = {
                "topk_index": index,
                "topk_weight": weights.gather(-1, order),
                "counts": counts,
                "seq_balance": sequence_balance_loss(logits[None], index[None], valid[None]),
                "bias": bias,
            }
            for name, value in step.items():
                steps.setdefault(name, []).append(value)
        for name, values in steps.items():
            key = f"{name}_{suffix}"
            yield Check(key, torch.stack(values), case.outputs[key])


def _there(batch: Packed, case: GoldenCase) -> Packed:
    """A batch, which is made on the CPU, where the case is."""
    tensors = {name: x for name, x in vars(batch).items() if isinstance(x, Tensor)}
    return replace(batch, **{name: value.to(case.device) for name, value in tensors.items()})


def _packing(case: GoldenCase) -> Iterator[Check]:
    inputs, out, capacity = case.inputs, case.outputs, case.config["capacity"]
    lengths = inputs["lengths"].tolist()
    plan = plan_packing(lengths, capacity)
    ids = [inputs[f"tokens.{i}"] for i in range(len(lengths))]
    text = [torch.zeros_like(x) for x in ids]
    samples = [Sample(x, x, inputs[f"mrope.{i}"], text[i]) for i, x in enumerate(ids)]
    steps = [Sample(x, x, torch.arange(len(x)).expand(3, -1), text[i]) for i, x in enumerate(ids)]
    packed, plain = (_there(pack(some, plan, capacity), case) for some in (samples, steps))
    mask = segment_mask(packed.segment_ids)
    valid = packed.segment_ids >= 0
    attention = attend(inputs["q"], inputs["k"], inputs["v"], mask, causal=False)
    yield Check("assignment", torch.tensor(plan), out["assignment"])
    for name in ("input_ids", "labels", "segment_ids", "cu_seqlens"):
        yield Check(name, getattr(packed, name), out[name])
    yield Check("mrope_position_ids", packed.position_ids, out["mrope_position_ids"])
    yield Check("position_ids", plain.position_ids[0], out["position_ids"])
    yield Check("valid", valid, out["valid"])
    yield Check("attention_mask", mask.squeeze(1), out["attention_mask"])
    yield Check("attention", attention, out["attention"])
    loss = next_token_loss(inputs["logits"], packed.labels)
    yield Check("loss_token_mean", loss, out["loss_token_mean"])
    loss = next_token_loss(inputs["logits"], packed.labels, "sequence", packed.segment_ids)
    yield Check("loss_sequence_mean", loss, out["loss_sequence_mean"])


def _mean(values: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)
