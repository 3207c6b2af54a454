"""Fine-tuning, from rows to a result: what all recipes share.

Rows are measured, a run that cannot learn is refused, the model is trained, and the result is saved
as `adapter` or `model` in the folder of the run.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ming_core.api import load
from ming_core.errors import BadConfig
from ming_core.media import Message, Text
from ming_core.presets import BACKBONE
from ming_recipes.training.collate import Change
from ming_recipes.training.data import DataSet, OmniData, default_threads, measure_sets
from ming_recipes.training.dialects import ReadRow, read_row
from ming_recipes.training.examples import Parts
from ming_recipes.training.lora import Base, inject, save_adapter
from ming_recipes.training.merging import forget_knowledge, stored_type
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Answers, Balance, Objective
from ming_recipes.training.records import Record
from ming_recipes.training.runs.fit import best_state, fit
from ming_recipes.training.runs.folder import Run, running
from ming_recipes.training.settings import FineTuning
from ming_recipes.training.sharded import ShardedModel
from ming_recipes.training.sizes import Measured
from ming_recipes.training.strategies import Layout, layout, trainer_arguments

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from ming_core.api import OmniModel
    from ming_core.model.omni import Omni

RESULTS = ("adapter", "model")
"""What a run writes in its folder at the end: one of the two."""

SIZES = "sizes"
"""The folder in that of the run where the sizes of rows are kept."""


def finetune(
    settings: FineTuning,
    command: str,
    *,
    reader: Callable[[OmniModel], ReadRow] = lambda model: read_row,
    objectives: Sequence[Objective] | None = None,
    rehearsal: Callable[[Path], Sequence[DataSet]] = lambda folder: (),
    change: Change | None = None,
    callbacks: Callable[[OmniModel], Sequence[Callback]] = lambda model: (),
) -> None:
    """Run or resume a fine-tuning.

    Args:
        command: The command line, which is written beside the result.
        reader: Gives what makes a record of a row. The model that it is given has no weights yet.
        objectives: What is trained for; by default the answers and an even use of the experts.
        rehearsal: More data, which are made for the folder that it is given.
        change: Changes a medium whenever it is used, so that few media teach more.
        callbacks: Of Lightning, such as one that stops when the model has lost too much.

    Raises BadConfig for settings with which nothing can be learnt, and what `running` raises.
    """
    plan = layout(settings.strategy)
    settings.patterns()
    if not settings.data:
        raise BadConfig("there is no data; name a file or folder of rows, as data=rows.jsonl")
    out = Path(settings.out)
    with running(out, settings, command, RESULTS, plan.devices) as run:
        result = out / RESULTS[0 if settings.lora.rank else 1]
        if result.exists():
            run.note(f"this run is finished; its result is in {result}")
            return
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(default_threads(plan.devices))
        work = Work(settings, plan, run)
        sets = rehearsed(settings.data, rehearsal(out))
        training, validation = work.rows(sets, reader(work.model))
        data = OmniData(
            training,
            work.parts,
            capacity=settings.capacity,
            rows=settings.rows,
            accumulate=settings.accumulate,
            seed=settings.seed,
            shares=[one.share for one in sets],
            validation=validation,
            change=change,
        )
        steps = settings.steps or data.steps(settings.epochs, plan.data)
        work.tell(training, validation, steps)
        module = work.module(objectives or default_objectives(settings), steps, training)
        fit(
            module,
            data,
            run,
            replace(settings, steps=steps),
            seed=settings.seed,
            accumulate=settings.accumulate,
            trainer=trainer_arguments(plan),
            samples=work.samples(validation),
            callbacks=callbacks(work.model),
        )
        work.save(module, result, bool(validation))


def rehearsed(own: Sequence[DataSet], more: Sequence[DataSet]) -> list[DataSet]:
    """All data sets. The shares of `more` are of everything; `own` divides the rest.

    Raises BadConfig if only a part of several data sets has a share.
    """
    given = [one.share for one in own if one.share is not None]
    if not more or 0 < len(given) < len(own):  # the second is refused where they are mixed
        return [*own, *more]
    left = 1 - sum(one.share or 0 for one in more)
    shares = given or [1.0] * len(own)
    scaled = [replace(one, share=left * s / sum(shares)) for one, s in zip(own, shares)]
    return [*scaled, *more]


def default_objectives(settings: FineTuning) -> list[Objective]:
    return [Answers(), Balance(settings.bias_rate)]


class Work:
    """The model of a run, its rows, and its result."""

    def __init__(self, settings: FineTuning, plan: Layout, run: Run) -> None:
        self.settings, self.plan, self.run = settings, plan, run
        lower = settings.precision == "bfloat16" or (
            settings.precision == "auto" and torch.cuda.is_available()
        )
        self.compute = torch.bfloat16 if lower else torch.float32
        self.model = load(settings.model, device="cpu", dtype=self.compute)
        self.parts = Parts.of(self.model)
        self.sharded: ShardedModel | None = None

    def rows(self, sets: Sequence[DataSet], read: ReadRow) -> tuple[list[Measured], list[Measured]]:
        """Training and validation rows. Raises BadConfig if there is nothing to learn."""
        settings = self.settings
        folder = self.run.folder / SIZES

        def measured(sets: Sequence[DataSet]) -> list[Measured]:
            return measure_sets(
                sets, self.parts, settings.capacity, folder, read=read, progress=_progress
            )

        training = measured(sets)
        if settings.validation:
            return training, measured(settings.validation)
        # Only rows of the user's own: what is rehearsed is known already.
        own = len(settings.data)
        pairs = [held_out(one, settings.hold_out, settings.seed) for one in training[:own]]
        validation = [held for _, held in pairs if held.kept()]
        return [kept for kept, _ in pairs] + training[own:], validation

    def tell(
        self, training: Sequence[Measured], validation: Sequence[Measured], steps: int
    ) -> None:
        for one in (*training, *validation):
            for sentence in one.told():
                self.run.note(sentence)
        for one in training:
            sizes = [size for size in one.sizes if size is not None]
            self.run.note(
                f"{one.name}: {len(sizes)} rows to train on, of {sum(s.tokens for s in sizes):,} "
                f"tokens, of which {sum(s.targets for s in sizes):,} are learnt"
            )
        held = sum(len(one.kept()) for one in validation)
        self.run.note(f"{steps} steps; {held} rows are kept for validation")

    def module(
        self, objectives: Sequence[Objective], steps: int, rows: Sequence[Measured]
    ) -> OmniModule:
        """The model in training, with the encoders that its rows or settings need."""
        settings, patterns = self.settings, self.settings.patterns()
        read = {name for one in rows for size in one.sizes if size for name in size.work}
        named = " ".join([*patterns, *settings.lora.targets, *settings.lora.whole])
        encoders = tuple(
            name
            for name in self.parts.processors
            if name in read or f"encoders.{name}" in named or f"{name}_tower" in named
        )
        if self.plan.sharded:
            self.sharded = ShardedModel.open(settings.model, encoders, self.compute, settings.seed)

        def build() -> Omni:
            if self.sharded is not None:
                return self.sharded.build()
            for name in (BACKBONE, *encoders):
                self.model.component(name)
            return self.model.omni

        def add(omni: Omni) -> None:
            inject(omni, settings.lora, settings.seed)

        return OmniModule(
            build,
            objectives,
            settings.losses,
            settings.optimizer,
            steps,
            patterns,
            inject=add if settings.lora.rank else None,
            shard=self.sharded and self.sharded.shard,
            fill=self.sharded and self.sharded.fill,
            checkpointing=settings.checkpointing,
            average=settings.average,
            compute_dtype=self.compute,
        )

    def samples(
        self, validation: Sequence[Measured]
    ) -> Callable[[], Iterator[dict[str, Any]]] | None:
        """Answers of the model to the first validation rows, beside what they should be; none of a
        sharded model, which no process has whole."""
        if self.plan.sharded:
            return None
        shown = [one.rows[number] for one in validation for number in one.kept()]
        records = shown[: self.settings.samples]

        def answers() -> Iterator[dict[str, Any]]:
            for record in records:
                asked, wanted = question_of(record), text_of(record.messages[-1])
                (answer,) = self.model.answer_batch([asked], think=record.think)
                yield {
                    "id": record.id,
                    "question": text_of(asked[-1]),
                    "answer": answer.text,
                    "expected": wanted,
                }

        return answers

    def save(self, module: OmniModule, result: Path, validated: bool) -> None:
        """Write what was learnt: the weights of the best validation, or the last ones."""
        state = best_state(self.run.folder) if validated else None
        if state is not None and self.sharded is not None:
            self.sharded.restore(module, state)
        elif state is not None:
            module.load_state_dict(state, strict=False)  # frozen weights are in no state
        settings, model = self.settings, self.model
        if settings.lora.rank:
            base = Base.of(model, dict.fromkeys([BACKBONE, *module.model.encoders]))
            save_adapter(module.model, result, base, write=module.global_rank == 0)
        elif self.sharded is not None:
            self.sharded.save(result)
        elif module.global_rank == 0:
            for name in model.loaded:
                model.component(name).to(stored_type(model.sources.prepare(name)))
            forget_knowledge(model)
            model.save(result)
        name = settings.model
        if settings.lora.rank:
            tuned = self.run.folder / "model"
            self.run.note(
                f"the adapter is in {result}; `ming export --adapter {result} -m {name} -o "
                f"{tuned}` makes a model of it, and `ming ask -m {tuned}` asks that"
            )
        else:
            self.run.note(f"the model is in {result}; `ming ask -m {result}` asks it")
        self.run.note(f"`ming compare {name} {self.run.folder}` shows what it has gained and lost")


def held_out(measured: Measured, share: float, seed: int) -> tuple[Measured, Measured]:
    """The rows of a data set without a share of them, and that share.

    Rows about the same media stay together: what was trained on must not be validated on.
    """
    groups: dict[str, list[int]] = {}
    for number in measured.kept():
        size = measured.sizes[number]
        groups.setdefault((size and size.group) or f"row {number}", []).append(number)
    names = list(groups)
    chosen = random.Random(seed).sample(names, round(share * len(names)))
    held = {number for name in chosen for number in groups[name]}

    def only(wanted: bool) -> Measured:
        sizes = [s if (i in held) == wanted else None for i, s in enumerate(measured.sizes)]
        return replace(measured, sizes=sizes, faults={} if wanted else measured.faults)

    return only(False), only(True)


def question_of(record: Record) -> list[Message]:
    """The conversation up to its last answer."""
    return list(record.messages[:-1])


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text))


def _progress(done: int, count: int, name: str) -> None:
    """How far the measuring is, on a line of its own in a terminal."""
    if sys.stderr.isatty() and (done % 64 == 0 or done == count):
        end = "\n" if done == count else ""
        print(f"\rreading {name}: {done} of {count} rows", end=end, file=sys.stderr, flush=True)
