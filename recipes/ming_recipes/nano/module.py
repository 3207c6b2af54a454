"""The nano perception model in training: one LightningModule for all stages."""

from __future__ import annotations

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

from ming_audio.encoder import AudioEncoder, unit_length
from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.omni import Omni
from ming_core.model.routing import Routing
from ming_core.training.balance import router_z_loss, sequence_balance_loss
from ming_recipes.nano.config import NanoPerception
from ming_recipes.nano.ctc import CTCHeads, name_entries
from ming_recipes.nano.data import PackedBatch, Packer, batches
from ming_recipes.nano.dense import (
    GRID_LAYER,
    TOLD_LAYER,
    WHERE_LAYER,
    DenseHeads,
    aligned_words,
    dense_labels,
)
from ming_recipes.nano.routers import move_bias, tokens_per_expert
from ming_recipes.nano.speech import Listening, Sounds
from ming_recipes.nano.talk import speech_rows
from ming_recipes.nano.world.batch import Mix
from ming_recipes.training.muon import MuonAdamW, parameter_groups
from ming_recipes.training.runs.logs import append_row

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
    "query.weight",
    "key.weight",
    "value.weight",
    "out.weight",
    "mlp.0.weight",
    "mlp.2.weight",
    "linear_proj_audio.3.weight",
)
"""Hidden matrices, which Muon updates; embeddings, routers, norms and heads get AdamW."""


class Perception(LightningModule):
    """Stage "sight": the image tower and the word embeddings on dense labels. "language": the
    language model on answers, in front of the frozen tower. "joint": both, on everything that is
    seen. "hearing": the audio encoder on what is said, in front of the frozen language model.
    "senses": everything on everything.

    Weights are bf16 with float32 masters in the optimiser; routing and losses are float32.
    """

    def __init__(
        self,
        config: NanoPerception,
        omni: Omni,
        heads: DenseHeads,
        ctc: CTCHeads,
        packer: Packer,
        validation: Listening,
        stage: str,
    ) -> None:
        super().__init__()
        self.config = config
        self.omni = omni
        self.heads = heads
        self.ctc = ctc
        self.packer = packer
        self.validation_speech = validation
        self.stage = stage
        omni.backbone.requires_grad_(stage in ("language", "joint", "senses"))
        for part in (omni.encoders["image"], heads):
            part.requires_grad_(stage in ("sight", "joint", "senses"))
        for part in (omni.encoders["audio"], ctc):
            part.requires_grad_(stage in ("hearing", "senses"))
        # What early layers of the language model are asked.
        for head in (heads.where, heads.grid, heads.told):
            head.requires_grad_(stage in ("language", "joint", "senses"))
        for head in (ctc.before, ctc.person):
            head.requires_grad_(stage == "senses")
        omni.backbone.word_embeddings.requires_grad_(stage != "hearing")
        encode, words = packer.tokenizer.encode, aligned_words()
        ids = [[encode(text) for text in language] for language in zip(*words, strict=True)]
        assert all(len(tokens) == 1 for language in ids for tokens in language)
        self.word_ids = torch.tensor([[tokens[0] for tokens in language] for language in ids])
        self.word_weights = torch.ones(omni.backbone.config.vocab_size)
        self.word_weights[list(name_entries(packer.tokenizer))] = config.name_word_weight
        self.started = time.monotonic()
        self.routed: list[Routing] = []
        self.batch: PackedBatch | None = None  # of the step whose routing is in `routed`

    @property
    def total_steps(self) -> int:
        return stage_steps(self.config, self.stage)

    def configure_optimizers(self) -> Any:
        rates = self.config.muon_lr, self.config.adam_lr
        if self.stage in ("joint", "senses"):
            # The image tower knows its trade by then; at the full rate it would forget it.
            slow = (self.config.tower_rate * rate for rate in rates)
            groups = [
                *parameter_groups(self.omni.backbone, MATRICES, *rates),
                *parameter_groups(self.omni.encoders["image"], MATRICES, *slow),
                *parameter_groups(self.omni.encoders["audio"], MATRICES, *rates),
                *parameter_groups(self.heads, (), *rates),
                *parameter_groups(self.ctc, (), *rates),
            ]
        else:
            groups = parameter_groups(self, MATRICES, *rates)
        optimizer = MuonAdamW(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine to 5 %; "language" and "joint" share one cosine, and
        "senses", which goes on where they ended, begins lower."""
        config = self.config
        warm = min(1.0, (step + 1) / config.warmup)
        done, total = step, self.total_steps
        if self.stage in ("language", "joint"):
            total = config.language_steps + config.joint_steps
            done += config.language_steps if self.stage == "joint" else 0
        progress = min(1.0, done / total)
        peak = config.senses_rate if self.stage == "senses" else 1.0
        return warm * peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))

    def transfer_batch_to_device(
        self, batch: PackedBatch | Sounds, device: torch.device, dataloader_idx: int
    ) -> PackedBatch | Sounds:
        return batch.to(device, torch.bfloat16)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["stage"] = self.stage

    def training_step(self, batch: PackedBatch | Sounds, index: int) -> Tensor:
        if isinstance(batch, Sounds):
            _, losses = self._heard(batch)
            loss = torch.stack(list(losses.values())).sum()
            if index % 20 == 0:
                self._report({"loss": loss, **losses}, {})
            return loss
        losses: dict[str, Tensor] = {}
        scores: dict[str, float] = {}
        terms = []
        heard = None
        if batch.sounds is not None:
            heard, losses = self._heard(batch.sounds)
            terms += [loss * self.config.ctc_weight for loss in losses.values()]
        (features,) = (f for f in batch.omni.features if f.modality == "image")
        with torch.set_grad_enabled(self.stage != "language"):
            tokens = self.omni.encoders["image"](features)
        if self.stage != "language":
            dense_losses, scores = self._dense(batch, tokens)
            losses |= dense_losses
            dense = [value for name, value in dense_losses.items() if name != "align"]
            sight = self.stage == "sight"
            terms += [
                torch.stack(dense).sum() * (1.0 if sight else self.config.dense_weight),
                losses["align"] * (1.0 if sight else self.config.align_weight),
            ]
        if self.stage != "sight":
            losses |= self._answers(batch, tokens, heard)
            place = losses["where"] + losses["grid"] + losses["told"]
            terms += [losses["answers"], losses["balance"], place * self.config.where_weight]
            if "order" in losses:
                terms.append(losses["order"] * self.config.order_weight)
                terms.append(losses["name"] * self.config.name_weight)
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

    def _heard(self, sounds: Sounds) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens of all sounds, and the CTC losses of what the encoder makes of them."""
        states, lengths, tokens = listened(self.omni, sounds)
        words = self.omni.backbone.word_embeddings.weight
        return tokens, self.ctc(states, lengths, tokens, words, sounds)

    def _answers(
        self, batch: PackedBatch, tokens: Tensor, heard: Tensor | None
    ) -> dict[str, Tensor]:
        """Weighted cross-entropy of the answers, the routers' auxiliary losses, and how well image
        tokens know their place and that of what they show, words of descriptions that of what they
        are about, and sound tokens the word before and whose name they say."""
        omni, backbone = batch.omni, self.omni.backbone
        at_image, at_sound = (omni.modality_ids == id for id in (IMAGE, AUDIO))
        embeds = backbone.embed(omni.input_ids).masked_scatter(at_image.unsqueeze(-1), tokens)
        if heard is not None:
            embeds = embeds.masked_scatter(at_sound.unsqueeze(-1), heard)
        early: list[Tensor] = []
        watches = [
            backbone.layers[layer].register_forward_hook(
                lambda layer, inputs, output: early.append(output[0])
            )
            for layer in (WHERE_LAYER, GRID_LAYER, TOLD_LAYER)
        ]
        out = backbone(embeds, omni.position_ids, modality_ids=omni.modality_ids, mask=omni.mask)
        for watch in watches:
            watch.remove()
        self.routed, self.batch = out.routing, batch
        wanted = batch.labels[:, 1:] >= 0
        logits = backbone.lm_head(out.hidden[:, :-1][wanted]).float()
        right = batch.labels[:, 1:][wanted]
        errors = F.cross_entropy(logits, right, reduction="none")
        weight = batch.weights[:, 1:][wanted] * self.word_weights.to(self.device)[right]
        losses = {
            "answers": (errors * weight).sum() / weight.sum(),
            "balance": self._balance(out.routing, omni.segment_ids),
            "where": self.heads.place_of_tokens(early[0][at_image]),
            "grid": self.heads.place_of_objects(early[1][at_image], batch.scenes),
            "told": self.heads.place_of_words(early[2][:, :-1][wanted], batch.told[:, 1:][wanted]),
        }
        if heard is not None and batch.sounds is not None:
            words = backbone.word_embeddings.weight
            losses |= self.ctc.early(early[1][at_sound], heard, words, batch.sounds)
        return losses

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
        if self.stage == "hearing" and due:
            self._validate_hearing()
        elif self.stage != "sight" and due:
            self._validate()

    @torch.no_grad()
    def _update_biases(self, batch: PackedBatch) -> None:
        """Move each router's selection bias towards even loads, over all processes' tokens."""
        for mixture, routed in zip(self.omni.backbone.mixtures, self.routed, strict=True):
            for id, gate in enumerate(mixture.gates):
                counts = tokens_per_expert(batch.omni, id, routed)
                counts = cast(Tensor, self.trainer.strategy.reduce(counts, reduce_op="sum"))
                move_bias(gate, counts, self.config.bias_rate)

    @torch.no_grad()
    def _validate_hearing(self) -> None:
        """Entries of the tokenizer that the best path gets wrong, by language and program."""
        self.eval()
        errors: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        words = self.omni.backbone.word_embeddings.weight
        for index in range(
            self.global_rank, self.config.validation_sounds, self.trainer.world_size
        ):
            sounds = self.validation_speech(index).to(self.device, torch.bfloat16)
            _, _, tokens = listened(self.omni, sounds)
            found = self.ctc.misheard(tokens, words, sounds)
            (said,) = sounds.utterances
            row = errors[f"{said.lang} {said.voice.program}"]
            row[0], row[1] = row[0] + found.total, row[1] + found.length
        self._write_curve("val", self._gathered(dict(errors)))
        self.train()

    def _gathered(self, row: dict[str, list[int]]) -> list[dict[str, list[int]]]:
        """The rows of all processes."""
        if self.trainer.world_size == 1:
            return [row]
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, row)
        return gathered

    @torch.no_grad()
    def _validate(self) -> None:
        """Exact answers by kind and language under teacher forcing (equals greedy exactness)."""
        self.eval()
        for split in ("val", "compositional"):
            hits: dict[str, list[bool]] = defaultdict(list)
            for batch in self._validation(split):
                for key, right in exact_answers(self.omni, batch):
                    hits[key].append(right)
            row = {key: [sum(hits[key]), len(hits[key])] for key in hits}
            self._write_curve(split, self._gathered(row))
        self.train()

    def _validation(self, split: str) -> Iterator[PackedBatch]:
        """The share of this process: pictures, videos and, where it can be heard, speech."""
        processes, rank = self.trainer.world_size, self.global_rank
        share = self.config.validation_images // processes
        for mix in VALIDATION:
            first, size = rank * share, self.config.images
            yield from batches(self.packer, split, first, first + share, size, mix)
        if self.stage == "senses" and split == "val":
            size = self.config.senses_sounds
            for first in range(
                rank * size, self.config.validation_sounds - size + 1, processes * size
            ):
                uses = range(first, first + size)
                yield self.packer(speech_rows(self.packer, self.validation_speech, uses, 2))

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
        append_row(Path(self.config.out) / "curve.jsonl", line)

    def _report(self, losses: dict[str, Tensor], scores: dict[str, float]) -> None:
        values = {name: float(value.detach()) for name, value in losses.items()}
        self.log_dict({**values, **{f"read/{k}": v for k, v in scores.items()}}, prog_bar=False)
        if self.global_rank == 0:
            line = {"stage": self.stage, "step": self.global_step}
            line |= {"seconds": round(time.monotonic() - self.started)}
            line |= {k: round(v, 3) for k, v in {**values, **scores}.items()}
            append_row(Path(self.config.out) / "loss.jsonl", line)


def stage_steps(config: NanoPerception, stage: str) -> int:
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


def listened(omni: Omni, sounds: Sounds) -> tuple[Tensor, list[int], Tensor]:
    """States of the audio encoder's tower, how many each sound has, and the tokens they become."""
    encoder = cast(AudioEncoder, omni.encoders["audio"])
    ear = encoder.config.listening
    frames = sounds.features.tensors["frames"][:, 0].tolist()
    states = encoder.get_submodule(ear.tower)(sounds.features.tensors["mel"], frames)
    lengths = [ear.config.hidden(count) for count in frames]
    return states, lengths, unit_length(encoder.get_submodule(ear.projector)(states, lengths))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
