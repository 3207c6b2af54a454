"""The curve of a stage: answers that are exactly right, and words that are heard."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ming_core.model.omni import Omni
from ming_recipes.nano.config import NanoPerception, StageName
from ming_recipes.nano.data import Packer, batches
from ming_recipes.nano.probes.speech import SpeechCTC
from ming_recipes.nano.speech import Listening
from ming_recipes.nano.talk import speech_rows
from ming_recipes.nano.world.batch import Mix
from ming_recipes.training.batch import Batch
from ming_recipes.training.module import OmniModule
from ming_recipes.training.runs.logs import append_row

VALIDATION = (Mix(dialogue=0.25), Mix(video=1.0))
"""What is asked in validation: stills with some conversations, and videos."""

CURVE = "curve.jsonl"

Hits = dict[str, list[int]]
"""By kind of question or voice: how many are right, of how many."""


class Curve(Callback):
    """Adds a line to <out>/curve.jsonl every `validate_every` steps and after the last one.

    A stage that answers is asked questions of the splits "val" and "compositional", one that hears
    only writes down words; "sight" does neither.
    """

    def __init__(
        self,
        config: NanoPerception,
        name: StageName,
        packer: Packer,
        listening: Listening,
        ctc: SpeechCTC,
    ) -> None:
        self.config, self.packer, self.listening, self.ctc = config, packer, listening, ctc
        self.name: StageName = name
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        step = trainer.global_step
        if step % self.config.validate_every and step != trainer.max_steps:
            return
        module = cast(OmniModule, pl_module)
        module.eval()
        with torch.no_grad():
            if "answers" in module.weights:
                for split in ("val", "compositional"):
                    self._write(trainer, split, self._answers(trainer, module, split))
            elif "token_ctc" in module.weights:
                self._write(trainer, "val", self._words(trainer, module))
        module.train()

    def _answers(self, trainer: Trainer, module: OmniModule, split: str) -> Hits:
        hits: Hits = defaultdict(lambda: [0, 0])
        for batch in self._batches(trainer, split):
            for kind, right in exact_answers(
                module.model, batch.to(module.device, module.compute_dtype)
            ):
                hits[kind][0] += right
                hits[kind][1] += 1
        return dict(hits)

    def _words(self, trainer: Trainer, module: OmniModule) -> Hits:
        """Entries of the tokenizer that the best path gets wrong, by language and program."""
        errors: Hits = defaultdict(lambda: [0, 0])
        words = module.model.backbone.word_embeddings.weight
        for index in range(trainer.global_rank, self.config.validation_sounds, trainer.world_size):
            sounds = self.listening(index)
            features = sounds.features.to(module.device, module.compute_dtype)
            tokens = module.model.encode(features)
            found = self.ctc.misheard(tokens, words, sounds)
            (said,) = sounds.utterances
            row = errors[f"{said.lang} {said.voice.program}"]
            row[0], row[1] = row[0] + found.total, row[1] + found.length
        return dict(errors)

    def _batches(self, trainer: Trainer, split: str) -> Iterator[Batch]:
        """The share of this process: pictures, videos and, where it can be heard, speech."""
        config, stage = self.config, self.config.stage(self.name)
        processes, rank = trainer.world_size, trainer.global_rank
        share = config.validation_pictures // processes
        for mix in VALIDATION:
            first = rank * share
            yield from batches(self.packer, split, first, first + share, stage.pictures, mix)
        if stage.sounds and split == "val":
            size = stage.sounds
            last = config.validation_sounds - size + 1
            for first in range(rank * size, last, processes * size):
                uses = range(first, first + size)
                yield self.packer(speech_rows(self.packer, self.listening, uses, 2))

    def _write(self, trainer: Trainer, split: str, own: Hits) -> None:
        rows = _gathered(trainer, own)
        if trainer.global_rank:
            return
        keys = sorted({key for row in rows for key in row})
        counts = {key: [row.get(key, [0, 0]) for row in rows] for key in keys}
        score = {
            key: sum(right for right, _ in found) / sum(of for _, of in found)
            for key, found in counts.items()
        }
        mean = {
            lang: _mean([v for k, v in score.items() if k.startswith(lang) and "describe" not in k])
            for lang in ("en", "zh")
        }
        line = {
            "stage": self.name,
            "step": trainer.global_step,
            "seconds": round(time.monotonic() - self.started),
            "split": split,
            **{k: round(v, 3) for k, v in {**mean, **score}.items()},
        }
        append_row(Path(self.config.out) / CURVE, line)


def exact_answers(omni: Omni, batch: Batch) -> Iterator[tuple[str, bool]]:
    """("language kind", right) for each question of a packed batch; "it" questions apart.

    Under teacher forcing: that is right if and only if the greedy answer is.
    """
    predicted = omni.backbone.lm_head(omni(batch.omni).hidden).argmax(-1)
    wrong = (predicted[:, :-1] != batch.labels[:, 1:]) & (batch.labels[:, 1:] >= 0)
    failed = set(batch.extra.question[:, 1:][wrong].tolist())
    for number, question in enumerate(batch.extra.questions):
        kind = f"it_{question.kind}" if question.follows else question.kind
        yield f"{question.lang} {kind}", number not in failed


def _gathered(trainer: Trainer, row: Hits) -> list[Hits]:
    """The rows of all processes."""
    if trainer.world_size == 1:
        return [row]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, row)
    return gathered


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
