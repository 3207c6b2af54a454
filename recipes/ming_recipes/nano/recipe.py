"""Train nano: an image encoder, an audio encoder and the language model, from nothing.

"sight": the image encoder on what lies in its pictures. "language": the language model on
questions, in front of the frozen image encoder. "joint": both together. "hearing": the audio
encoder on speech. "senses": all of them on text, pictures, videos and speech. nano.yaml has a block
for each. A stage goes on where it was interrupted. The result is written in the released layout,
one folder per package.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_only

from ming_core.chat.tokenizer import Tokenizer
from ming_core.cli.tables import print_table
from ming_core.devices import find_device
from ming_recipes.nano.build import tokenizer_files
from ming_recipes.nano.config import STAGES, NanoPerception, StageName
from ming_recipes.nano.learnt import load_learnt, save_learnt
from ming_recipes.nano.pace import Pace, pace_table, seconds_of
from ming_recipes.nano.routers import settle_routers
from ming_recipes.nano.ship import REPORT, ship
from ming_recipes.nano.speech import Recordings, recordings_of
from ming_recipes.nano.stages import Examples, Learner, StageData, begin, check_stages
from ming_recipes.nano.validation import Curve
from ming_recipes.training.ranges import check
from ming_recipes.training.recipe import Recipe
from ming_recipes.training.runs.fit import RunSettings, fit
from ming_recipes.training.runs.folder import Run, running
from ming_recipes.training.strategies import Strategy, layout, trainer_arguments

RESULTS = ("nano", "parts", *STAGES)
"""What a run leaves in its folder, and may replace there."""


def train(config: NanoPerception, command: str) -> None:
    """Run what is still missing of the stages, then write and score the result.

    Raises BadConfig for a setting that cannot be used, and what `running` and `fit` raise.
    """
    check(config)
    check_stages(config)
    begun = time.monotonic()
    out = Path(config.out)
    with running(out, config, command, RESULTS, config.processes) as run:
        if (out / "nano" / REPORT).exists():
            run.note(f"this run is finished; its result is in {out / 'nano'}")
            return
        torch.set_num_threads(1)
        tokenizer, recordings = prepare(config)
        learner = Learner(config, tokenizer)
        for name in STAGES[load_learnt(run, learner.weights) :]:
            begin(config.stage(name), learner.omni)
            train_stage(config, name, learner, recordings, run, begun)
            save_learnt(out, name, learner.weights)
        run.stop.patient = False
        if run.stop.asked:
            raise run.stopped(run.stop.asked, "after the last stage")
        if rank_zero_only.rank == 0:
            print_table(pace_table(out))
            last = config.senses
            made = learner.packer(last), learner.listening(recordings[0], last)
            batches = islice(Examples(config, *made, "senses"), config.settle_steps)
            settle_routers(learner.omni.to(find_device(config.device)), batches, config.settle_rate)
            ship(config, learner.omni.cpu(), learner.released, command)


def prepare(config: NanoPerception) -> tuple[Tokenizer, tuple[Recordings, Recordings]]:
    """The tokenizer, and what is heard in training and in validation; made where they are missing,
    by one process."""
    out = Path(config.out)
    recordings = recordings_of(config, out / "speech")
    with FileLock(out / "prepare.lock"):
        tokenizer = Tokenizer(tokenizer_files(out, config.seed)[0].parent)
        for some in recordings:
            some.prepare()
    return tokenizer, recordings


def train_stage(
    config: NanoPerception,
    name: StageName,
    learner: Learner,
    recordings: tuple[Recordings, Recordings],
    run: Run,
    begun: float,
) -> None:
    """Train one stage in a folder of its own, from its start or from its newest state.

    begun: when this attempt at the whole run began, see `pace.seconds_of`.
    """
    stage, folder = config.stage(name), run.folder / name
    folder.mkdir(exist_ok=True)
    packer = learner.packer(stage)
    heard, checked = (learner.listening(some, stage) for some in recordings)
    pace = Pace(config, name, seconds_of(config, name, begun))
    plan = trainer_arguments(layout(Strategy(devices=config.processes)))
    fit(
        learner.module(name),
        StageData(config, packer, heard, name),
        replace(run, folder=folder),
        RunSettings(
            steps=stage.steps,
            save_every=config.save_every,
            validate_every=0,
            log_every=config.log_every,
        ),
        seed=config.seed,
        trainer={**plan, "accelerator": config.device},
        callbacks=[pace, Curve(config, name, packer, checked, learner.ctc)],
    )


RECIPE = Recipe(NanoPerception, train)
