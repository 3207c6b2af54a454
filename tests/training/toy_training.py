"""A small training of nano on mixed batches, for one process or for those that torchrun starts.

    python toy_training.py OUT KIND...

Each kind trains two steps, saves its state, goes on from the file in new objects and takes the
third step. Process number 0 writes what came out as OUT/KIND.pt, and sharded models are exported.
The kind "half" takes one step with weights in bfloat16 and notes the dtypes.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image as Pictures

import ming_core
from ming_core.chat.prompt import MediaTokens, build_example, media_parts
from ming_core.errors import MingError
from ming_core.media import Audio, Frames, Image, Message, Video, assistant, user
from ming_core.model.encoder import by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.training.labels import IGNORED
from ming_recipes.training.batch import Batch
from ming_recipes.training.lora import Lora, adapter_tensors, inject
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Answers, Balance
from ming_recipes.training.optimizers import Optimizer
from ming_recipes.training.runs import fit as runs
from ming_recipes.training.runs.fit import RunSettings
from ming_recipes.training.runs.folder import Run
from ming_recipes.training.runs.stopping import Stop
from ming_recipes.training.sharded import ShardedModel
from ming_recipes.training.strategies import Layout, Strategy, layout, ranks, trainer_arguments

STEPS, MICRO = 3, 2  # micro-batches of a step; two processes have one each
ENCODERS = ("image", "audio")


class Watch(Callback):
    """Total and number of targets of each micro-batch, over all processes."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        total, count, _ = outputs["terms"]["answers"]
        self.losses.append((float(ranks(trainer).sum(total)), float(ranks(trainer).sum(count))))


def module_of(
    plan: Layout, checkpointing: bool = False, compute: torch.dtype = torch.float32
) -> tuple[OmniModule, ShardedModel | None]:
    sharded = ShardedModel.open("nano", ENCODERS, compute) if plan.sharded else None
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
        average=0.5,
        compute_dtype=compute,
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


class Data(LightningDataModule):
    def __init__(self, rows: Sequence[Batch]) -> None:
        super().__init__()
        self.rows = rows

    def train_dataloader(self) -> Loader:
        assert self.trainer is not None
        return Loader(self.rows, self.trainer)

    def val_dataloader(self) -> list[Batch]:
        assert self.trainer is not None
        place = ranks(self.trainer)
        return list(self.rows[place.rank : MICRO : place.size])


def fit(plan: Layout, module: OmniModule, steps: int, out: Path) -> list[tuple[float, float]]:
    """Until this step, from the state in the folder `out` if there is one."""
    out.mkdir(exist_ok=True)
    watch = Watch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        runs.fit(
            module,
            Data(batches(plan.data)),
            Run(out, Stop()),
            RunSettings(steps=steps, save_every=steps, validate_every=steps),
            seed=0,
            accumulate=MICRO // plan.data,
            trainer=trainer_arguments(plan),
            callbacks=[watch],
        )
    return watch.losses


def averaged(module: OmniModule) -> dict[str, torch.Tensor]:
    with module.averaged():
        return {name: value.clone() for name, value in module.model.state_dict().items()}


def train(kind: str, out: Path) -> None:
    plan, folder = layout(Strategy(kind=kind)), out / kind
    # Only one of them computes its layers twice.
    module, _ = module_of(plan, checkpointing=kind == "fsdp2")
    losses = fit(plan, module, STEPS - 1, folder)
    module, sharded = module_of(plan)
    losses += fit(plan, module, STEPS, folder)
    found: dict[str, Any] = {"losses": losses}
    if sharded is None:
        found["weights"] = averaged(module)
    else:
        best = runs.best_state(folder)
        assert best is not None
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.zero_()
        sharded.restore(module, best)
        sharded.save(out / f"{kind}-model", None)
        found["read"] = sharded.bytes_read
        try:  # a second time, which is refused
            sharded.save(out / f"{kind}-model", None)
        except MingError as error:
            found["refused"] = f"{type(error).__name__}: {error}"
    torch.save(found, out / f"{kind}-{module.global_rank}.pt")


def lora(plan: Layout, out: Path) -> dict[str, Any]:
    """One step of LoRA in every kind of layer, and what its adapter is then."""
    module, _ = module_of(plan)
    module.train_patterns = {"*lora_*": 1.0}
    targets = ["attention", "shared_experts", "experts", "routers", "projectors"]
    module.inject = lambda omni: inject(omni, Lora(rank=4, targets=targets), 0)
    losses = fit(plan, module, STEPS, out)
    return {"losses": losses, "adapter": adapter_tensors(module.model)}


def half(out: Path) -> None:
    module, _ = module_of(layout(Strategy(kind="fsdp2")), compute=torch.bfloat16)
    used: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        def hook(owner: torch.nn.Module, *_: Any) -> None:
            for key, value in owner.named_parameters(recurse=False):
                used[f"{name}.{key}"] = value.dtype

        return hook

    watch = module.configure_model

    def configure() -> None:
        built = module.omni is not None
        watch()
        for name, part in [] if built else module.model.named_modules():
            if any(True for _ in part.parameters(recurse=False)):
                part.register_forward_pre_hook(note(name))

    module.configure_model = configure
    fit(layout(Strategy(kind="fsdp2")), module, 1, out / "half")
    kept = {name: value.dtype for name, value in module.model.state_dict().items()}
    torch.save({"used": used, "kept": kept}, out / f"half-{module.global_rank}.pt")


def main(out: Path, kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind == "half":
            half(out)
        elif kind == "lora":
            found = lora(layout(Strategy(kind="fsdp2")), out / "lora")
            torch.save(found, out / f"lora-{torch.distributed.get_rank()}.pt")
        else:
            train(kind, out)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
