"""A small training of nano on mixed batches, for one process or for those that torchrun starts.

    python toy_training.py OUT KIND...

Each kind trains two steps, saves its state, goes on from the file in new objects and takes the
third step. Process number 0 writes what came out as OUT/KIND.pt, and sharded models are exported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image as Pictures

import ming_core
from ming_core.chat.prompt import MediaTokens, build_example, media_parts
from ming_core.media import Audio, Frames, Image, Message, Video, assistant, user
from ming_core.model.encoder import by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.training.labels import IGNORED
from ming_recipes.training.batch import Batch
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Answers, Balance
from ming_recipes.training.optimizers import Optimizer
from ming_recipes.training.sharded import ShardedModel
from ming_recipes.training.strategies import Layout, Strategy, layout, ranks, trainer_arguments

STEPS, MICRO = 3, 2  # micro-batches of a step; two processes have one each
ENCODERS = ("image", "audio")


class Watch(Callback):
    """Total and number of targets of each micro-batch, and the norm of each step's gradients."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        total, count, _ = outputs["terms"]["answers"]
        self.losses.append((float(ranks(trainer).sum(total)), float(ranks(trainer).sum(count))))


def module_of(plan: Layout, checkpointing: bool) -> tuple[OmniModule, ShardedModel | None]:
    sharded = ShardedModel.open("nano", ENCODERS, torch.float32) if plan.sharded else None
    module = OmniModule(
        whole_model if sharded is None else sharded.build,
        [Answers(), Balance()],
        {"balance": 0.01, "z": 0.001},
        Optimizer(rate=3e-4, eps=1e-5, clip=0.5, weight_decay=0.1, warmup=0),
        STEPS,
        # Frozen and trainable mixed: the first layers of the towers stay as they are.
        {"backbone.*": 1.0, "encoders.*blocks*": 0.5, "encoders.*linear_proj*": 1.0},
        shard=None if sharded is None else sharded.shard,
        fill=None if sharded is None else sharded.fill,
        checkpointing=checkpointing,
    )
    return module, sharded


def whole_model() -> Omni:
    model = ming_core.load("nano", device="cpu", dtype="float32")
    for name in ENCODERS:
        model.encoder(name)
    return model.omni.train()


def talks() -> Iterator[list[Message]]:
    """Text only in turn with everything else, so that one of two processes has only text."""
    random = np.random.default_rng(0)

    def picture() -> Pictures.Image:
        return Pictures.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8))

    sound = random.standard_normal(16000).astype(np.float32) * 0.1
    everything: list[list[Any]] = [
        [Image(picture())],
        [Audio((sound, 16000)), Image(picture())],
        [Video(Frames([picture() for _ in range(4)], [0.0, 0.5, 1.0, 1.5]))],
    ]
    for media in everything[:STEPS]:
        yield [user("What is red?"), assistant("The red circle.")]
        yield [user(*media, "What do you see?"), assistant("A small blue square.")]


def batches(ranks: int) -> list[Batch]:
    """Micro-batches in order; those of a step are shared by so many ranks."""
    model = ming_core.load("nano", device="cpu", dtype="float32")
    processors = {name: model.encoder(name).processor for name in ENCODERS}
    made: list[Batch] = []
    for talk in talks():
        features = [processors[part.modality]([part]) for part in media_parts(talk)]
        sizes = [MediaTokens(sum(f.tokens), f.seconds[0] if f.seconds else ()) for f in features]
        prompt = build_example(talk, model.format, model.tokenizer, sizes)
        ids = torch.tensor([prompt.input_ids])
        positions, _ = rope_index(model.rule, ids, None, *split_grids(features))
        modality = torch.tensor([prompt.modality_ids])
        labels = torch.where(torch.tensor([prompt.targets]), ids, IGNORED)
        omni = OmniBatch(ids, positions, modality, features=by_modality(features))
        made.append(Batch(omni, labels, torch.ones(ids.shape), torch.full_like(ids, -1)))
    if ranks == MICRO:
        return made
    for start in range(0, len(made), MICRO):  # this rank has all micro-batches of a step
        step = made[start : start + MICRO]
        weight = float(sum((batch.labels[:, 1:] != IGNORED).sum() for batch in step))
        tokens = float(sum(batch.tokens for batch in step))
        made[start : start + MICRO] = [
            Batch(b.omni, b.labels, b.weights, b.sample_ids, (), weight, tokens) for b in step
        ]
    return made


class Loader:
    """This rank's micro-batches from the step on at which the training stands."""

    def __init__(self, rows: Sequence[Batch], trainer: Trainer) -> None:
        self.rows, self.trainer = rows, trainer

    def __iter__(self) -> Iterator[Batch]:
        place = ranks(self.trainer)
        return iter(self.rows[self.trainer.global_step * MICRO + place.rank :: place.size])


def train(plan: Layout, out: Path, checkpointing: bool) -> tuple[dict[str, Any], OmniModule, Any]:
    watch, rows, state = Watch(), batches(plan.data), out / "state.ckpt"
    module, sharded, norms = None, None, []
    for steps in (STEPS - 1, STEPS):
        module, sharded = module_of(plan, checkpointing)
        trainer = Trainer(
            **trainer_arguments(plan),
            max_steps=steps,
            accumulate_grad_batches=MICRO // plan.data,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        resume = state if steps == STEPS else None
        trainer.fit(module, Loader(rows, trainer), ckpt_path=resume, weights_only=False)
        if resume is None:
            trainer.save_checkpoint(state, weights_only=False)
    assert module is not None
    return {"losses": watch.losses, "norms": norms}, module, sharded


def main(out: Path, kinds: Sequence[str]) -> None:
    for kind in kinds:
        plan = layout(Strategy(kind=kind))
        # One of them computes its layers twice.
        found, module, sharded = train(plan, out, checkpointing=kind == "fsdp2")
        if sharded is not None:
            sharded.save(out / f"{kind}-model", None)
            found["read"] = sharded.bytes_read
        else:
            found["weights"] = module.model.state_dict()
        if module.global_rank == 0:
            torch.save(found, out / f"{kind}.pt")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
