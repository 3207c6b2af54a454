"""A small training of nano on mixed batches, for one process or for those that torchrun starts.

python toy_training.py OUT KIND...     writes OUT/<kind>.pt in the process with number 0
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from PIL import Image as Pictures
from torch import Tensor
from torch.nn import functional as F

import ming_core
from ming_core.chat.prompt import MediaTokens, build_example, media_parts
from ming_core.media import Audio, Frames, Image, Message, Video, assistant, user
from ming_core.model.encoder import Features, by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.training.balance import expert_counts
from ming_recipes.training import plans
from ming_recipes.training.norms import clip_gradients
from ming_recipes.training.sharded import ShardedModel
from ming_recipes.training.strategies import Layout, Strategy, layout, ranks, trainer_arguments

STEPS, MICRO = 3, 2  # micro-batches of a step; two processes have one each
ENCODERS = ("image", "audio")


class Toy(LightningModule):
    """Mean loss of all targets of a step, with the bias rule and clipped gradients."""

    def __init__(self, sharded: ShardedModel | None, recompute: bool) -> None:
        super().__init__()
        self.sharded, self.recompute = sharded, recompute
        self.omni: Any = None
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.counts: list[Tensor] = []
        self.pending: dict[Any, Tensor] = {}
        self.dummies: dict[str, Features] = {}

    def configure_model(self) -> None:
        if self.omni is not None:
            return
        self.omni = whole_model() if self.sharded is None else self.sharded.build()
        self.omni.requires_grad_(True)
        self.omni.encoders["audio"].requires_grad_(False)  # frozen and trainable mixed
        self.omni.encoders["audio"].linear_proj_audio.requires_grad_(True)
        self.omni.train()
        if self.recompute:
            plans.recompute(self.omni)
        if self.sharded is not None:
            self.sharded.shard(self, self.omni, self.device_mesh)
            self.sharded.fill()

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.1)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        return batch

    def training_step(self, batch: tuple[OmniBatch, Tensor, int], index: int) -> Tensor:
        omni, labels, targets = batch
        # Every process calls the same modules in the same order, whatever its batch holds.
        given = {features.modality: features for features in omni.features}
        encoded = {name: self.omni.encode(given.get(name, self.dummies[name])) for name in ENCODERS}
        dummy = [encoded.pop(name) for name in ENCODERS if name not in given]
        out = self.omni(replace(omni, features=(), encoded=encoded))
        wanted = labels[:, 1:] >= 0
        logits = self.omni.backbone.lm_head(out.hidden[:, :-1][wanted]).float()
        total = F.cross_entropy(logits, labels[:, 1:][wanted], reduction="sum")
        routing = torch.stack([r.logits.logsumexp(-1).square().sum() for r in out.routing]).sum()
        total = total + 1e-4 * routing + sum(0 * values.sum() for values in dummy)
        for mixture, routed in zip(self.omni.backbone.mixtures, out.routing, strict=True):
            for id, gate in enumerate(mixture.gates):
                own = omni.modality_ids.flatten() == id
                counts = expert_counts(routed.index, len(gate.expert_bias), own)
                self.pending[gate] = self.pending.get(gate, 0) + counts
        self.losses.append(float(ranks(self.trainer).sum(total / targets)))
        # Gradients are averaged over processes, and Lightning divides by the accumulated batches.
        return total / targets * ranks(self.trainer).size * self.trainer.accumulate_grad_batches

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        self.norms.append(float(clip_gradients(self.parameters(), 0.5)))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        for gate, counts in self.pending.items():
            counts = ranks(self.trainer).sum(counts.float())
            gate.expert_bias += 0.001 * (counts.mean() - counts).sign()
            self.counts.append(counts)
        self.pending = {}


def whole_model() -> Omni:
    model = ming_core.load("nano", device="cpu", dtype="float32")
    for name in ENCODERS:
        model.encoder(name)
    return model.omni


def talks() -> Iterator[list[Message]]:
    """Text only in turn with everything else, so that one of two processes has only text."""
    random = np.random.default_rng(0)

    def picture(width: int, height: int) -> Pictures.Image:
        return Pictures.fromarray(random.integers(0, 255, (height, width, 3), np.uint8))

    sound = random.standard_normal(16000).astype(np.float32) * 0.1
    everything: list[list[Any]] = [
        [Image(picture(64, 64))],
        [Audio((sound, 16000)), Image(picture(64, 64))],
        [Video(Frames([picture(64, 64) for _ in range(4)], [0.0, 0.5, 1.0, 1.5]))],
    ]
    for media in everything[:STEPS]:
        yield [user("What is red?"), assistant("The red circle.")]
        answer = assistant("A small blue square.")
        yield [user(*media, "What do you see?"), answer]


def batches() -> tuple[list[tuple[OmniBatch, Tensor, int]], dict[str, Features]]:
    """Micro-batches with the number of targets of their step, and a tiny input of each encoder."""
    model = ming_core.load("nano", device="cpu", dtype="float32")
    processors = {name: model.encoder(name).processor for name in ENCODERS}
    made: list[tuple[OmniBatch, Tensor]] = []
    for talk in talks():
        features = [processors[part.modality]([part]) for part in media_parts(talk)]
        sizes = [MediaTokens(sum(f.tokens), f.seconds[0] if f.seconds else ()) for f in features]
        prompt = build_example(talk, model.format, model.tokenizer, sizes)
        ids = torch.tensor([prompt.input_ids])
        positions, _ = rope_index(model.rule, ids, None, *split_grids(features))
        modality = torch.tensor([prompt.modality_ids])
        labels = torch.where(torch.tensor([prompt.targets]), ids, -100)
        made.append((OmniBatch(ids, positions, modality, features=by_modality(features)), labels))
    targets = [int((labels[:, 1:] >= 0).sum()) for _, labels in made]
    rows = [
        (omni, labels, sum(targets[i - i % MICRO : i - i % MICRO + MICRO]))
        for i, (omni, labels) in enumerate(made)
    ]
    dummies: dict[str, Any] = {
        "image": Image(Pictures.new("RGB", (64, 64))),
        "audio": Audio((np.zeros(1600, np.float32), 16000)),
    }
    return rows, {name: processors[name]([medium]) for name, medium in dummies.items()}


class Loader:
    """Every size-th micro-batch, from this process's rank on; the ranks are known at the start."""

    def __init__(self, rows: Sequence[Any], module: LightningModule) -> None:
        self.rows, self.module = rows, module

    def __iter__(self) -> Iterator[Any]:
        place = ranks(self.module.trainer)
        return iter(self.rows[place.rank :: place.size])

    def __len__(self) -> int:
        return len(self.rows) // ranks(self.module.trainer).size


def train(
    plan: Layout, recompute: bool = False, steps: int = STEPS, resume: Path | None = None
) -> tuple[Toy, Trainer]:
    sharded = ShardedModel.open("nano", ENCODERS, torch.float32) if plan.sharded else None
    module = Toy(sharded, recompute)
    rows, module.dummies = batches()
    trainer = Trainer(
        **trainer_arguments(plan),
        max_epochs=1,
        max_steps=steps,
        accumulate_grad_batches=MICRO // plan.data,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, Loader(rows, module), ckpt_path=resume)
    return module, trainer


def main(out: Path, kinds: Sequence[str]) -> None:
    for kind in kinds:
        name, _, more = kind.partition("+")
        plan = layout(Strategy(kind=name))
        module, _ = train(plan, recompute=more == "recompute")
        found: dict[str, Any] = {
            "losses": module.losses,
            "norms": module.norms,
            "counts": torch.stack(module.counts),
        }
        if module.sharded is not None:
            module.sharded.save(out / f"{kind}-model", None)
            found["read"] = module.sharded.bytes_read
        elif module.global_rank == 0:
            found["weights"] = module.omni.state_dict()
        torch.save(found, out / f"{kind}-{module.global_rank}.pt")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
