"""The nano understanding model in training: one LightningModule for both stages."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F

from ming_core.model.balance import bias_update, router_z_loss, sequence_balance_loss
from ming_core.model.moe import ModalityMoE
from ming_core.model.omni import Omni
from ming_core.model.routing import Gate, Routing
from ming_recipes.muon import MuonAdamW, parameter_groups
from ming_recipes.understanding.config import NanoUnderstanding
from ming_recipes.understanding.data import PackedBatch, Packer, batches
from ming_recipes.understanding.dense import (
    WHERE_LAYER,
    DenseHeads,
    aligned_words,
    dense_labels,
)
from ming_recipes.world.batch import Mix

MATRICES = (
    "query_key_value.weight",
    "dense.weight",
    "gate_up_proj",
    "gate_up_proj.weight",
    "down_proj",
    "down_proj.weight",
    "attn.qkv.weight",
    "attn.proj.weight",
    "gate_proj.weight",
    "up_proj.weight",
    "merger.mlp.0.weight",
    "merger.mlp.2.weight",
    "linear_proj.0.weight",
    "linear_proj.2.weight",
)
"""Hidden matrices, which Muon updates; embeddings, routers, norms and heads get AdamW."""


class Understanding(LightningModule):
    """Stage "sight": the tower and the word embeddings on dense labels. "language": the language
    model on answers, in front of the frozen tower. "joint": everything on everything.

    Weights are bf16 with float32 masters in the optimiser; routing and losses are float32.
    """

    def __init__(
        self,
        config: NanoUnderstanding,
        omni: Omni,
        heads: DenseHeads,
        packer: Packer,
        stage: str,
    ) -> None:
        super().__init__()
        self.config = config
        self.omni = omni
        self.heads = heads
        self.packer = packer
        self.stage = stage
        for name, parameter in omni.backbone.named_parameters():
            parameter.requires_grad_(stage != "sight" or name == "word_embeddings.weight")
        for part in (omni.encoders, heads):
            part.requires_grad_(stage != "language")
        heads.where.requires_grad_(stage != "sight")
        encode, words = packer.tokenizer.encode, aligned_words()
        ids = [[encode(text) for text in language] for language in zip(*words, strict=True)]
        assert all(len(tokens) == 1 for language in ids for tokens in language)
        self.word_ids = torch.tensor([[tokens[0] for tokens in language] for language in ids])
        self.started = time.monotonic()
        self.routed: list[Routing] = []
        self.batch: PackedBatch | None = None  # of the step whose routing is in `routed`

    @property
    def total_steps(self) -> int:
        return stage_steps(self.config, self.stage)

    def configure_optimizers(self) -> Any:
        rates = self.config.muon_lr, self.config.adam_lr
        if self.stage == "joint":
            # The tower knows its trade by then; at the language model's rate it would forget it.
            slow = self.config.tower_rate
            groups = parameter_groups(self.omni.encoders, MATRICES, *(slow * r for r in rates))
            groups += parameter_groups(self.omni.backbone, MATRICES, *rates)
            groups += parameter_groups(self.heads, (), *rates)
        else:
            groups = parameter_groups(self, MATRICES, *rates)
        optimizer = MuonAdamW(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine to 5 %; the last two stages share one cosine."""
        warm = min(1.0, (step + 1) / self.config.warmup)
        done, total = step, self.total_steps
        if self.stage != "sight":
            total = self.config.language_steps + self.config.joint_steps
        if self.stage == "joint":
            done += self.config.language_steps
        progress = min(1.0, done / total)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))

    def transfer_batch_to_device(
        self, batch: PackedBatch, device: torch.device, dataloader_idx: int
    ) -> PackedBatch:
        return batch.moved(device, torch.bfloat16)

    def training_step(self, batch: PackedBatch, index: int) -> Tensor:
        (features,) = batch.omni.features
        with torch.set_grad_enabled(self.stage != "language"):
            tokens = self.omni.encoders["image"](features)
        losses: dict[str, Tensor] = {}
        scores: dict[str, float] = {}
        terms = []
        if self.stage != "language":
            losses, scores = self._dense(batch, tokens)
            dense = torch.stack([value for name, value in losses.items() if name != "align"]).sum()
            sight = self.stage == "sight"
            terms += [
                dense * (1.0 if sight else self.config.dense_weight),
                losses["align"] * (1.0 if sight else self.config.align_weight),
            ]
        if self.stage != "sight":
            losses |= self._answers(batch, tokens)
            where = losses["where"] * self.config.where_weight
            terms += [losses["answers"], losses["balance"], where]
        loss = torch.stack(terms).sum()
        if index % 20 == 0:
            self._report({"loss": loss, **losses}, scores)
        return loss

    def _dense(
        self, batch: PackedBatch, tokens: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        words = self.omni.backbone.word_embeddings(self.word_ids.to(self.device))
        pictures = len(batch.scenes)
        by_picture = tokens.view(pictures, -1, tokens.shape[-1])
        return self.heads(by_picture, words, dense_labels(batch.scenes, batch.motions))

    def _answers(self, batch: PackedBatch, tokens: Tensor) -> dict[str, Tensor]:
        """Weighted cross-entropy of the answers, the routers' auxiliary losses, and how well image
        tokens know their place."""
        omni, backbone = batch.omni, self.omni.backbone
        places = (omni.modality_ids == 1).unsqueeze(-1)
        embeds = backbone.embed(omni.input_ids).masked_scatter(places, tokens)
        early: list[Tensor] = []
        watch = backbone.layers[WHERE_LAYER].register_forward_hook(
            lambda layer, inputs, output: early.append(output[0])
        )
        out = backbone(embeds, omni.position_ids, modality_ids=omni.modality_ids, mask=omni.mask)
        watch.remove()
        self.routed, self.batch = out.routing, batch
        wanted = batch.labels[:, 1:] >= 0
        logits = backbone.lm_head(out.hidden[:, :-1][wanted]).float()
        errors = F.cross_entropy(logits, batch.labels[:, 1:][wanted], reduction="none")
        weight = batch.weights[:, 1:][wanted]
        return {
            "answers": (errors * weight).sum() / weight.sum(),
            "balance": self._balance(out.routing, omni.segment_ids),
            "where": self.heads.place_of_tokens(early[0][places.squeeze(-1)]),
        }

    def _balance(self, routing: list[Routing], segments: Tensor | None) -> Tensor:
        assert segments is not None
        keep = segments >= 0
        shape = (*keep.shape, -1)
        terms = [
            self.config.balance_weight
            * sequence_balance_loss(routed.logits.view(shape), routed.index.view(shape), keep)
            + self.config.z_weight * router_z_loss(routed.logits.view(shape), keep)
            for routed in routing
        ]
        return torch.stack(terms).mean()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step and then the routers' own, before any checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        if self.batch is not None:
            self._update_biases(self.batch)
            self.batch = None

    def on_train_batch_end(self, outputs: Any, batch: PackedBatch, index: int) -> None:
        step = self.global_step
        due = step % self.config.validate_every == 0 or step == self.total_steps
        if self.stage != "sight" and due:
            self._validate()

    @torch.no_grad()
    def _update_biases(self, batch: PackedBatch) -> None:
        """Move each router's selection bias towards even loads, over all processes' tokens."""
        assert batch.omni.segment_ids is not None
        valid = batch.omni.segment_ids.flatten() >= 0
        modality = batch.omni.modality_ids.flatten()
        mixtures = [m for m in self.omni.backbone.modules() if isinstance(m, ModalityMoE)]
        for mixture, routed in zip(mixtures, self.routed, strict=True):
            for id, gate in enumerate(mixture.gates):
                chosen = routed.index[valid & (modality == id)].flatten()
                counts = torch.bincount(chosen, minlength=gate.weight.shape[0]).float()
                counts = cast(Tensor, self.trainer.strategy.reduce(counts, reduce_op="sum"))
                _move(gate, counts, self.config.bias_rate)

    @torch.no_grad()
    def _validate(self) -> None:
        """Exact answers by kind and language under teacher forcing (equals greedy exactness)."""
        self.eval()
        share = self.config.validation_images // self.trainer.world_size
        first = self.global_rank * share
        for split in ("val", "compositional"):
            hits: dict[str, list[bool]] = defaultdict(list)
            for mix in VALIDATION:
                for batch in batches(
                    self.packer, split, first, first + share, self.config.images, mix
                ):
                    for key, right in exact_answers(self.omni, batch):
                        hits[key].append(right)
            row = {key: [sum(hits[key]), len(hits[key])] for key in hits}
            gathered: list[Any] = [row]
            if self.trainer.world_size > 1:
                gathered = [None] * self.trainer.world_size
                torch.distributed.all_gather_object(gathered, row)
            self._write_curve(split, gathered)
        self.train()

    def _write_curve(self, split: str, rows: list[dict[str, list[int]]]) -> None:
        if self.global_rank:
            return
        keys = sorted({key for row in rows for key in row})
        score = {
            key: sum(r.get(key, [0, 0])[0] for r in rows) / sum(r.get(key, [0, 0])[1] for r in rows)
            for key in keys
        }
        mean = {
            lang: _mean([v for k, v in score.items() if k.startswith(lang) and "describe" not in k])
            for lang in ("en", "zh")
        }
        line = {
            "stage": self.stage,
            "step": self.global_step,
            "seconds": round(time.monotonic() - self.started),
            "split": split,
            **{k: round(v, 3) for k, v in {**mean, **score}.items()},
        }
        path = Path(self.config.out) / "curve.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _report(self, losses: dict[str, Tensor], scores: dict[str, float]) -> None:
        values = {name: float(value.detach()) for name, value in losses.items()}
        self.log_dict({**values, **{f"read/{k}": v for k, v in scores.items()}}, prog_bar=False)
        if self.global_rank == 0:
            line = {"stage": self.stage, "step": self.global_step}
            line |= {"seconds": round(time.monotonic() - self.started)}
            line |= {k: round(v, 3) for k, v in {**values, **scores}.items()}
            with (Path(self.config.out) / "loss.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def stage_steps(config: NanoUnderstanding, stage: str) -> int:
    """Optimiser steps of a stage."""
    return int(getattr(config, f"{stage}_steps"))


VALIDATION = (Mix(dialogue=0.25), Mix(video=1.0))
"""What is asked in validation: stills with some conversations, and videos."""


def exact_answers(omni: Omni, batch: PackedBatch) -> Iterator[tuple[str, bool]]:
    """("language kind", right) for each question of a packed batch; "it" questions apart."""
    moved = batch.omni.to("cpu", torch.bfloat16)
    predicted = omni.backbone.lm_head(omni(moved).hidden).argmax(-1)
    wrong = (predicted[:, :-1] != batch.labels[:, 1:]) & (batch.labels[:, 1:] >= 0)
    failed = set(batch.question[:, 1:][wrong].tolist())
    for number, question in enumerate(batch.questions):
        kind = f"it_{question.kind}" if question.follows else question.kind
        yield f"{question.lang} {kind}", number not in failed


def _move(gate: Gate, counts: Tensor, rate: float) -> None:
    if gate.expert_bias is not None:
        gate.expert_bias.copy_(bias_update(gate.expert_bias, counts, rate, zero_mean=True))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
