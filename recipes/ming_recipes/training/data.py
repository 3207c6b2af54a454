"""The data of a training as Lightning takes them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ming_core.errors import BadConfig, MingError
from ming_core.training.packing import plan_packing
from ming_recipes.training.batch import Batch
from ming_recipes.training.collate import Change, Collator, without_targets
from ming_recipes.training.dialects import ReadRow, read_row
from ming_recipes.training.examples import Parts
from ming_recipes.training.files import open_rows
from ming_recipes.training.mixing import Mix
from ming_recipes.training.planning import MicroBatch, Plan, units_of, weight_of
from ming_recipes.training.ranges import Range
from ming_recipes.training.runs.stopping import leave_signals
from ming_recipes.training.sizes import Measured, Progress, measure
from ming_recipes.training.strategies import ranks


@dataclass
class DataSet:
    """Rows to train on, as settings name them.

    Attributes:
        path: A file, a folder, or a pattern such as `rows-*.tar`.
        name: What logs call it; the name of the path by default.
        share: How often it is drawn, compared with the shares of the others. Without shares, each
            row of all data sets is drawn equally often.
        media: The folder in which its media are named; by default that of the file.
    """

    path: str
    name: str | None = None
    share: Annotated[float, Range(0, above=True)] | None = None
    media: str | None = None


def measure_sets(
    sets: Sequence[DataSet],
    parts: Parts,
    capacity: int,
    folder: Path | None = None,
    *,
    read: ReadRow = read_row,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Measured]:
    """Open data sets and measure their rows.

    folder: where sizes are kept, so that they are measured once. Rows that are left out are among
    the faults of each. Raises BadConfig if a data set has no row that fits.
    """
    names = [one.name or Path(one.path).name.partition(".")[0] for one in sets]
    if len(set(names)) < len(names):
        raise BadConfig(f"two data sets have one name in {names}; give each a name of its own")
    found = []
    for one, name in zip(sets, names, strict=True):
        if not one.path:
            raise BadConfig(f"the data set {name!r} has no path; name its file of rows")
        rows = open_rows(one.path, name, one.media, read)
        key = hashlib.sha256(str(Path(one.path).absolute()).encode()).hexdigest()[:8]
        file = None if folder is None else folder / f"{name}-{key}.jsonl"
        count = default_workers() if workers is None else workers
        measured = measure(rows, parts, file, workers=count, progress=progress).limited(capacity)
        if not measured.kept():
            reasons = "; ".join(measured.told())
            raise BadConfig(f"nothing can be learnt from {one.path}: {reasons}")
        found.append(measured)
    return found


def default_workers(ranks: int = 1) -> int:
    """Processes that make batches ahead: what the cores allow beside the training itself."""
    return max(0, min(4, _cores() // ranks - 1))


def default_threads(ranks: int = 1) -> int:
    """Threads of one process of a training: the cores that the makers of batches leave.

    With more, threads wait for each other at every small operation, and a step takes many times as
    long.
    """
    return max(1, _cores() // ranks - default_workers(ranks))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class OmniData(LightningDataModule):
    """Endless batches of a mix of data sets, and the validation rows once.

    The batches of a step depend on the seed and the sizes of the rows only. A run that goes on at
    a step gets what it would have got without the stop.
    """

    def __init__(
        self,
        sets: Sequence[Measured],
        parts: Parts,
        *,
        capacity: int,
        rows: int = 1,
        accumulate: int = 1,
        seed: int = 0,
        shares: Sequence[float | None] = (),
        validation: Sequence[Measured] = (),
        change: Change | None = None,
        workers: int | None = None,
    ) -> None:
        """capacity: tokens of a packed row. rows: of a micro-batch. accumulate: micro-batches that
        each process adds up to a step. shares: as in `DataSet`, for all data sets or for none.
        change: as in `Collator`; validation media stay as they are. workers: processes that make
        batches; None: what the cores allow.

        Raises BadConfig.
        """
        super().__init__()
        self.sets = [measured.limited(capacity) for measured in sets]
        self.validation = [measured.limited(capacity) for measured in validation]
        self.parts = parts
        self.capacity, self.rows, self.accumulate, self.seed = capacity, rows, accumulate, seed
        self.change, self.workers = change, workers
        self.shares = _checked_shares(shares, self.sets)
        self.units = [
            units_of(measured, number, capacity, parts.costs)
            for number, measured in enumerate(self.sets)
        ]
        for measured, units in zip(self.sets, self.units, strict=True):
            if not units:
                raise BadConfig(f"no row of {measured.name} fits into {capacity} tokens")
        self._restored: Mapping[str, Any] | None = None

    def steps(self, epochs: float, size: int = 1) -> int:
        """Steps in which the mix shows as many tokens as all rows have, times `epochs`.

        size: number of ranks.
        """
        tokens = sum(unit.tokens for units in self.units for unit in units)
        return max(1, round(epochs * tokens / (self.capacity * self.rows * self._each(size))))

    def plan(self, size: int = 1) -> Plan:
        """The plan of the training on so many ranks, from its first step."""
        counts = [len(units) for units in self.units]
        if self.shares is None:
            shares: list[float] = [float(count) for count in counts]
        else:  # of rows; a unit may be several
            shares = [
                share * len(units) / sum(len(unit.rows) for unit in units)
                for share, units in zip(self.shares, self.units, strict=True)
            ]
        return Plan(
            self.units,
            Mix(counts, shares, self.seed),
            capacity=self.capacity,
            rows=self.rows,
            micro_batches=self._each(size),
        )

    def train_dataloader(self) -> Batches:
        rank, size = self._ranks()
        plan = self.plan(size)
        step = self.trainer.global_step if self.trainer else 0
        if self._restored is not None and self._restored["micro_batches"] == plan.micro_batches:
            plan.restore(self._restored["plan"])
        collator = Collator(self.sets, self.parts, self.capacity, self.change, self.seed)
        stream = _Training(plan, collator, rank, size, step)
        return Batches(self._loader(stream, size))

    def val_dataloader(self) -> Batches | list[Any]:
        if not self.validation:
            return []
        rank, size = self._ranks()
        batches = validation_plan(self.validation, self.parts, self.capacity, self.rows)
        collator = Collator(self.validation, self.parts, self.capacity)
        return Batches(self._loader(_Once(batches, collator, rank, size), size))

    def state_dict(self) -> dict[str, Any]:
        """The place in the mix, for a checkpoint."""
        _, size = self._ranks()
        if self._main is None or self._main.micro_batches != self._each(size):
            self._main = self.plan(size)
        self._main.step(self.trainer.global_step if self.trainer else 0)
        state = self._main.state()
        return {"data": self.key, "micro_batches": self._main.micro_batches, "plan": state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raises BadConfig if the rows are not those of the checkpoint."""
        if state_dict["data"] != self.key:
            raise BadConfig(
                "the rows or their order are not those that the run began with; bring the files "
                "back, or start in a new folder"
            )
        self._restored = state_dict

    @cached_property
    def key(self) -> str:
        """A hash of everything that the plan depends on but the number of ranks."""
        sizes = [
            [(u.rows, u.tokens, round(u.cost, 3), round(u.weight, 3)) for u in units]
            for units in self.units
        ]
        what = [self.seed, self.capacity, self.rows, self.shares, sizes]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    _main: Plan | None = None

    def _each(self, size: int) -> int:
        return size * self.accumulate

    def _ranks(self) -> tuple[int, int]:
        """Number of this process among those that read other data, and how many these are."""
        if self.trainer is None:
            return 0, 1
        place = ranks(self.trainer)
        return place.rank, place.size

    def _loader(self, stream: IterableDataset[Any], size: int) -> DataLoader[Any]:
        workers = default_workers(size) if self.workers is None else self.workers
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=leave_signals,
            prefetch_factor=4 if workers else None,
            persistent_workers=False,
        )


class Batches:
    """The batches of a loader. What a worker could not read is raised here with its sentence."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for found in self.loader:
            if isinstance(found, MingError):
                raise found
            yield found


class _Training(IterableDataset[Any]):
    """The micro-batches of one rank from a step on, without an end."""

    def __init__(self, plan: Plan, collator: Collator, rank: int, size: int, step: int) -> None:
        self.plan, self.collator = plan, collator
        self.rank, self.size, self.step = rank, size, step

    def __iter__(self) -> Iterator[Batch | MingError]:
        number, step = 0, self.step
        while True:
            own = self.plan.step(step)[self.rank :: self.size]
            weight = sum(map(weight_of, own))
            tokens = float(sum(unit.tokens for batch in own for row in batch for unit in row))
            for place, batch in enumerate(own):
                if _is_mine(number):
                    of_all = step * self.plan.micro_batches + place * self.size + self.rank
                    yield _tried(self.collator, batch, weight, tokens, of_all)
                number += 1
            step += 1


class _Once(IterableDataset[Any]):
    """Some micro-batches once, shared by the ranks; each rank has as many as the others."""

    def __init__(
        self, batches: Sequence[MicroBatch], collator: Collator, rank: int, size: int
    ) -> None:
        self.batches, self.collator, self.rank, self.size = batches, collator, rank, size

    def __iter__(self) -> Iterator[Batch | MingError]:
        for number in range(-(-len(self.batches) // self.size)):
            if not _is_mine(number):
                continue
            place = number * self.size + self.rank
            found = _tried(self.collator, self.batches[min(place, len(self.batches) - 1)])
            spare = place >= len(self.batches) and isinstance(found, Batch)
            yield without_targets(found) if spare else found  # type: ignore[arg-type]


def _is_mine(number: int) -> bool:
    """Whether this worker makes the item of a number; a loader takes from its workers in turn."""
    worker = get_worker_info()
    return worker is None or number % worker.num_workers == worker.id


def _tried(collator: Collator, batch: MicroBatch, *of_step: Any) -> Batch | MingError:
    # An error that leaves a worker would lose its class, so it is handed over as a value.
    try:
        return collator(batch, *of_step)
    except MingError as error:
        return error


def validation_plan(
    sets: Sequence[Measured], parts: Parts, capacity: int, rows: int
) -> list[MicroBatch]:
    """All rows of some data sets once, in micro-batches of so many packed rows."""
    units = [
        unit
        for number, measured in enumerate(sets)
        for unit in units_of(measured, number, capacity, parts.costs)
    ]
    placements = plan_packing([unit.tokens for unit in units], capacity)
    packed: list[list[Any]] = [[] for _ in range(max((p.row for p in placements), default=-1) + 1)]
    for unit, placement in sorted(zip(units, placements), key=lambda pair: pair[1]):
        packed[placement.row].append(unit)
    filled = [tuple(row) for row in packed]
    return [tuple(filled[first : first + rows]) for first in range(0, len(filled), rows)]


def _checked_shares(shares: Sequence[float | None], sets: Sequence[Measured]) -> list[float] | None:
    given = [share for share in shares if share is not None]
    if not given:
        return None
    if len(given) < len(sets):
        raise BadConfig(
            f"{len(given)} of {len(sets)} data sets have a share; give one to each or to none"
        )
    return given
