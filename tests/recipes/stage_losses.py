"""The losses of the first steps of each stage of nano's training, from random weights.

Every stage begins with the same weights, those of seed 0, so that no stage depends on another one.
Sounds are noise as long as their sentence, so no program has to speak. Settings are small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything

import ming_core
from ming_core.chat.tokenizer import Tokenizer
from ming_recipes.nano.config import STAGES, NanoPerception, StageName
from ming_recipes.nano.speech import SHARD, Recordings
from ming_recipes.nano.stages import Learner, StageData, begin
from ming_recipes.nano.world.speech import Utterance
from ming_recipes.training.module import OmniModule
from ming_recipes.training.recipe import Recipe, recipe_entry, recipe_yaml, settings

STEPS = 20
_PLAIN = {"seen.more_phrases": 0, "seen.framed": 0, "seen.unknown": 0}
SMALL = {
    "sight": {"pictures": 6},
    "language": {"pictures": 2, "seen.easy_steps": 10, **_PLAIN},
    "joint": {"pictures": 2, **_PLAIN},
    "hearing": {"sounds": 2, "heard.wordless": 0.1},
    "senses": {"pictures": 1, "sounds": 3, "spoken": 1, "heard.wordless": 0.1, **_PLAIN},
}


def small_config() -> NanoPerception:
    own = {f"{stage}.{key}": value for stage, row in SMALL.items() for key, value in row.items()}
    own |= {f"{stage}.steps": STEPS for stage in STAGES}
    own |= {"recordings": 24, "optimizer.warmup": 5, "free_words": 0}
    files = [recipe_yaml(recipe_entry("nano-perception"))]
    return settings(
        Recipe(NanoPerception, lambda config, command: None),
        files,
        [f"{key}={value}" for key, value in own.items()],
    )


def hum(said: Utterance) -> np.ndarray:
    """Noise whose length fits the sentence."""
    rng = np.random.default_rng(len(said.text))
    return 0.1 * rng.standard_normal(8000 + 400 * len(said.text)).astype(np.float32)


class Recorder(OmniModule):
    """Keeps the terms of each step: name -> value."""

    rows: list[dict[str, float]]

    def training_step(self, batch: Any, index: int) -> dict[str, Any]:
        found = super().training_step(batch, index)
        row = {
            name: float(total) / max(float(count), 1e-30)
            for name, (total, count, _) in found["terms"].items()
        }
        self.rows.append({"loss": float(found["loss"].detach()), **row})
        return found


def record(
    stage: StageName, folder: Path, dtype: torch.dtype = torch.float32, steps: int = STEPS
) -> tuple[list[dict[str, float]], Trainer]:
    """Losses of each step of a stage, and the trainer that made them. The recordings are in
    `folder`."""
    config = small_config()
    seed_everything(config.seed, verbose=False)
    tokenizer = Tokenizer(Path(ming_core.__file__).parent / "presets/nano")
    learner = Learner(config, tokenizer)
    learner.weights.to(dtype)
    block = config.stage(stage)
    begin(block, learner.omni)
    module = learner.module(stage)
    module.__class__ = Recorder
    assert isinstance(module, Recorder)
    object.__setattr__(module, "rows", [])
    said = Recordings(folder, "train", config.recordings)
    data = StageData(config, learner.packer(block), learner.listening(said, block), stage)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        logger=False,
    )
    trainer.fit(module, datamodule=data)
    return module.rows, trainer


def make_recordings(folder: Path) -> None:
    """What `record` hears; the caller has put `hum` in the place of `speech.speak`."""
    folder.mkdir(exist_ok=True)
    said = Recordings(folder, "train", small_config().recordings)
    for first in range(0, said.count, SHARD):
        said._record(first)
