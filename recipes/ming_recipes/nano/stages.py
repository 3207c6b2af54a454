"""The stages of nano's training: what each of them trains, on what, and its batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import cast

import numpy as np
import torch
from lightning.pytorch.core import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ming_audio.encoder import AudioEncoder
from ming_core.chat.tokenizer import Tokenizer
from ming_core.errors import BadConfig
from ming_core.model.omni import Omni
from ming_core.model.transformer import Backbone
from ming_core.release import release_of
from ming_recipes.nano.build import build, released_config
from ming_recipes.nano.config import STAGES, NanoPerception, Stage, StageName
from ming_recipes.nano.data import Packer, Row, media_only, row_of
from ming_recipes.nano.on_device import Order
from ming_recipes.nano.probes.cells import Cells, WordAlignment
from ming_recipes.nano.probes.places import ObjectCell, Referent, TokenPosition
from ming_recipes.nano.probes.speech import SpeechCTC, SpokenWords
from ming_recipes.nano.speech import Listening, Recordings, Sounds, Variety
from ming_recipes.nano.talk import WINDOW, chosen, speech_rows
from ming_recipes.nano.world.batch import training_example
from ming_recipes.training.batch import Batch
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Answers, Balance, Objective
from ming_recipes.training.runs.stopping import leave_signals
from ming_recipes.training.strategies import ranks
from ming_vision.encoder import QwenVisionEncoder
from ming_vision.processing import ImageProcessor


class Learner:
    """The model, the objectives of all stages, and the makers of their batches."""

    def __init__(self, config: NanoPerception, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.released = released_config(tokenizer)
        self.omni = build(self.released, config.seed)
        self.eye = cast(QwenVisionEncoder, self.omni.encoders["image"])
        self.ear = cast(AudioEncoder, self.omni.encoders["audio"]).config.listening
        width = self.omni.backbone.config.hidden_size
        probes = [Cells(width), TokenPosition(width), ObjectCell(width), Referent(width)]
        self.ctc = SpeechCTC(self.ear, width, tokenizer)
        probes += [WordAlignment(tokenizer), self.ctc, SpokenWords(self.ctc, width, tokenizer)]
        self.probes = nn.ModuleDict({probe.terms[0]: probe.to(torch.bfloat16) for probe in probes})
        self.objectives: list[Objective] = [
            *cast(list[Objective], probes),
            Answers(),
            Balance(config.bias_rate),
        ]

    @property
    def weights(self) -> nn.Module:
        """All that is learnt in some stage."""
        return nn.ModuleDict({"omni": self.omni, "probes": self.probes})

    def packer(self, stage: Stage) -> Packer:
        return Packer(
            self.omni.backbone.config,
            release_of(self.released),
            self.tokenizer,
            self.eye.processor,
            stage.capacity,
            self.config.name_weight,
        )

    def listening(self, recordings: Recordings, stage: Stage) -> Listening:
        heard = stage.heard
        variety = Variety(heard.joined, heard.wordless, heard.other_lists)
        return Listening(recordings, self.ear, self.tokenizer, variety)

    def module(self, name: StageName) -> OmniModule:
        """The module that trains a stage. Raises BadConfig for a loss that nothing gives."""
        config, stage = self.config, self.config.stage(name)
        weights = term_weights(stage, self.objectives)
        used = [one for one in self.objectives if any(weights[term] for term in one.terms)]
        before, after = around(config, name)
        return OmniModule(
            lambda: self.omni,
            used,
            {term: weights[term] for one in used for term in one.terms},
            replace(
                config.optimizer,
                rate=config.optimizer.rate * stage.rate,
                matrix_rate=config.optimizer.matrix_rate * stage.rate,
            ),
            stage.steps,
            stage.train,
            compute_dtype=next(self.omni.parameters()).dtype,
            before=before,
            after=after,
        )


def term_weights(stage: Stage, objectives: list[Objective]) -> dict[str, float]:
    """The weight of each term in the loss of a stage; 0 for what it does not name."""
    terms = [term for one in objectives for term in one.terms]
    weights = dict.fromkeys(terms, 0.0)
    for pattern, weight in stage.losses.items():
        own = [term for term in terms if fnmatchcase(term, pattern)]
        if not own:
            raise BadConfig(f"no objective has a term {pattern!r}; known: {', '.join(terms)}")
        weights |= dict.fromkeys(own, weight)
    return weights


def around(config: NanoPerception, name: StageName) -> tuple[int, int]:
    """Steps before and after a stage that share its curve of the learning rate."""
    curve = config.stage(name).curve or [name]
    if name not in curve:
        raise BadConfig(f"{name}.curve is {', '.join(curve)}; it must hold {name}")
    steps = [config.stage(other).steps for other in curve]
    place = curve.index(name)
    return sum(steps[:place]), sum(steps[place + 1 :])


def check_stages(config: NanoPerception) -> None:
    """Raises BadConfig for a stage that cannot be drawn on the device, and shares above the time
    there is."""
    for name in STAGES:
        stage = config.stage(name)
        if stage.on_device and (stage.seen.questions or stage.sounds or not stage.pictures):
            raise BadConfig(
                f"{name}.on_device draws pictures of which nothing is asked; set "
                f"{name}.seen.questions=0 and {name}.sounds=0, or leave it"
            )
    shares = sum(config.stage(name).share for name in STAGES)
    if config.minutes and not 0 < shares < 1:
        raise BadConfig(
            f"the shares of all stages add up to {shares:g}; with `minutes` they must be above 0 "
            "and leave some time to prepare the data and to write the result"
        )


def begin(stage: Stage, omni: Omni) -> None:
    """What is done before the first step of a stage."""
    if stage.start == "hear as read":
        hear_as_read(omni.backbone)


def hear_as_read(backbone: Backbone) -> None:
    """Let the routers of sounds begin as those of text: after "hearing", a sound token lies where
    its word lies."""
    for mixture in backbone.mixtures:
        text, _, audio = mixture.gates
        audio.load_state_dict(text.state_dict())


@dataclass(eq=False)
class Examples(IterableDataset):
    """Training batches of a stage from step `start` on; process `rank` of `world` takes every
    `world`-th batch. Workers of a process take turns."""

    config: NanoPerception
    packer: Packer
    listening: Listening
    name: StageName
    start: int = 0
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[Batch | Order]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        stage = self.config.stage(self.name)
        for step in range(self.start + first, stage.steps, every):
            turn = step * self.world + self.rank
            if stage.on_device:
                processor = cast(ImageProcessor, self.packer.processor)
                yield Order(self._seed(turn), stage.pictures, stage.seen, processor)
            elif stage.pictures:
                yield self.packer(self._rows(stage, step, turn))
            else:
                uses = range(turn * stage.sounds, (turn + 1) * stage.sounds)
                sounds = Sounds.joined([self.listening(use) for use in uses])
                yield media_only([sounds.features], [], [], sounds)

    def _seed(self, turn: int) -> int:
        """Of pictures that are drawn together."""
        stage = STAGES.index(self.name)
        words = np.random.SeedSequence((self.config.seed, stage, turn)).generate_state(2)
        return int(words[0]) << 31 | int(words[1]) >> 1

    def _rows(self, stage: Stage, step: int, turn: int) -> list[Row]:
        # No picture is seen twice, and no use of a recording: each stage goes on where those before
        # it ended.
        before = [self.config.stage(name) for name in STAGES[: STAGES.index(self.name)]]
        seen = sum(other.steps * other.pictures for other in before)
        first = seen * self.world + turn * stage.pictures
        wanted = stage.seen.mix(step)
        rows = [row_of(training_example(first + i, wanted)) for i in range(stage.pictures)]
        if stage.sounds:
            used = sum(other.steps * other.sounds for other in before) * self.world
            used += turn * WINDOW * stage.sounds
            uses = chosen(self.listening, used, stage.sounds, stage.heard.focus)
            rows += speech_rows(self.packer, self.listening, uses, stage.spoken)
        return rows


class StageData(LightningDataModule):
    """Feeds a stage, from the step on that the trainer has come to."""

    def __init__(
        self, config: NanoPerception, packer: Packer, listening: Listening, name: StageName
    ) -> None:
        super().__init__()
        self.config, self.packer, self.listening = config, packer, listening
        self.stage_name: StageName = name

    def train_dataloader(self) -> DataLoader[Batch | Order]:
        trainer = self.trainer
        assert trainer is not None
        place = ranks(trainer)
        examples = Examples(
            self.config,
            self.packer,
            self.listening,
            self.stage_name,
            trainer.global_step,
            place.rank,
            place.size,
        )
        # An order is no work: it is given at once.
        workers = 0 if self.config.stage(self.stage_name).on_device else self.config.workers
        return DataLoader(
            examples, batch_size=None, num_workers=workers, worker_init_fn=leave_signals
        )

    def val_dataloader(self) -> None:
        """The curve of a stage is made by `validation.Curve`."""
