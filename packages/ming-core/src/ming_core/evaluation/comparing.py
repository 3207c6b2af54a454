"""What a training changed: the scores of two models on the same samples, and their differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ming_core.errors import MissingPlugin
from ming_core.evaluation.benchmark import SHARE, Benchmark, Row, Score
from ming_core.evaluation.bootstrap import interval_of_difference
from ming_core.evaluation.registered import benchmark_entry, open_benchmark
from ming_core.evaluation.running import Track, predict, run_settings, untracked
from ming_core.evaluation.scoring import score_rows
from ming_core.notes import note_to_user
from ming_core.plugins import get_plugins
from ming_core.plugins.registry import packaged

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.plugins.kinds import BenchmarkEntry

Verdict = Literal["better", "worse", "not decided"]


@dataclass(frozen=True)
class Probe:
    """A benchmark with so little data that a comparison takes seconds.

    data: as `--data` of the benchmark. limit: highest number of samples. options: of the benchmark.
    title: what the comparison calls it, if not by the name of the benchmark.
    """

    benchmark: str
    data: Path | None = None
    limit: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    @property
    def name(self) -> str:
        return self.title or self.benchmark


@dataclass(frozen=True)
class Change:
    """One score of two models.

    Attributes:
        benchmark: The name of the probe.
        before: The score of the first model, on the samples that both have a prediction for.
        after: That of the second model.
        interval: Both ends of the 95 % interval of `after - before` (paired bootstrap); None if
            the benchmark gives no sums, or for one sample.
    """

    benchmark: str
    before: Score
    after: Score
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        return self.after.value - self.before.value

    @property
    def gain(self) -> float:
        """The difference, positive if the second model is better."""
        return self.difference if self.before.better == "higher" else -self.difference

    @property
    def verdict(self) -> Verdict:
        """Decided only if the whole interval lies on one side of 0."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "not decided"
        return "better" if self.gain > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "benchmark": self.benchmark,
            "column": self.before.column,
            "name": self.before.name,
            "n": self.before.n,
            "unit": self.before.unit,
            "better": self.before.better,
            "before": self.before.value,
            "after": self.after.value,
            "difference": self.difference,
            "interval": self.interval,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples.

    Attributes:
        changes: Score by score, in the order of the benchmarks.
        answers: By the name of the probe, the rows of both models whose predictions differ.
        skipped: Probes that were left out, with the reason.
    """

    changes: Sequence[Change]
    answers: Mapping[str, Sequence[tuple[Row, Row]]]
    skipped: Mapping[str, str]

    def worse(self, points: float = 0.0) -> list[Change]:
        """Shares that fell by more than so many percentage points and whose verdict is "worse"."""
        return [
            change
            for change in self.changes
            if change.verdict == "worse"
            and change.before.unit == SHARE
            and -100 * change.gain > points
        ]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "scores": [change.to_dict() for change in self.changes],
            "changed_answers": {name: len(pairs) for name, pairs in self.answers.items()},
            "skipped": dict(self.skipped),
        }


def probes() -> list[Probe]:
    """The benchmarks of the installed packages that say with what they can be asked quickly."""
    return [probe for entry in get_plugins().benchmarks if (probe := _probe(entry)) is not None]


def _probe(entry: BenchmarkEntry) -> Probe | None:
    if entry.probe_data is None and entry.probe_limit is None:
        return None
    data = None if entry.probe_data is None else packaged(entry.probe_data)
    if data is None and entry.probe_data is not None:
        raise MissingPlugin(
            f"the benchmark {entry.name!r} of {entry.plugin} has no {entry.probe_data!r}; "
            f"reinstall or update {entry.plugin}"
        )
    return Probe(
        entry.name,
        data,
        entry.probe_limit,
        dict(word.split("=", 1) for word in entry.probe_options),
    )


@dataclass(frozen=True)
class Asked:
    """What a model made of probes, by their names. skipped: why one was left out."""

    rows: Mapping[str, Sequence[Row]]
    skipped: Mapping[str, str]


def ask(
    model: OmniModel,
    probes: Iterable[Probe],
    folder: Path,
    track: Track = untracked,
    *,
    again: bool = False,
) -> Asked:
    """Ask a model all probes.

    The predictions are kept in `folder`, a file for each probe. What is there is not asked again,
    unless `again` replaces it. Raises BadConfig if the files are those of another model.
    """
    found: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for probe in probes:
        benchmark = _open(probe)
        settings = run_settings(model, probe.benchmark, probe.options, probe.data, probe.limit)
        try:
            suited = benchmark.suited_to(model)
        except MissingPlugin as error:
            skipped[probe.name] = str(error)
            continue
        file = folder / f"{probe.name.replace(' ', '-')}.jsonl"
        found[probe.name] = predict(model, suited, settings, file, again=again, track=track)
    return Asked(found, skipped)


def compare(probes: Iterable[Probe], before: Asked, after: Asked) -> Comparison:
    """Compare what two models made of the same probes."""
    changes: list[Change] = []
    answers: dict[str, list[tuple[Row, Row]]] = {}
    skipped = {**before.skipped, **after.skipped}
    for probe in probes:
        if probe.name in skipped:
            continue
        pairs = _pairs(before.rows[probe.name], after.rows[probe.name])
        if not pairs:
            skipped[probe.name] = "there is no sample that both models have answered"
            continue
        changes += _changes(probe, pairs)
        answers[probe.name] = [pair for pair in pairs if pair[0].prediction != pair[1].prediction]
    return Comparison(changes, answers, skipped)


def _pairs(before: Sequence[Row], after: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The samples that both have a prediction for, in the order of the first."""
    other = {(row.column, row.id): row for row in after if row.error is None}
    found = []
    for row in before:
        same = other.get((row.column, row.id))
        if row.error is None and same is not None and same.facts == row.facts:
            found.append((row, same))
    missing = max(len(before), len(after)) - len(found)
    if missing and found:
        note_to_user(f"{missing} samples are left out: only one of the models has answered them")
    return found


def _changes(probe: Probe, pairs: Sequence[tuple[Row, Row]]) -> list[Change]:
    benchmark = _open(probe)
    first, second = (score_rows(benchmark, rows) for rows in zip(*pairs, strict=True))
    known = {(score.column, score.name): score for score in second}
    changes = []
    for score in first:
        other = known.get((score.column, score.name))
        if other is None:
            continue
        sure = None
        if score.sums is not None and other.sums is not None:
            sure = interval_of_difference(score.sums, other.sums)
        changes.append(Change(probe.name, score, other, sure))
    return changes


def _open(probe: Probe) -> Benchmark:
    return open_benchmark(benchmark_entry(probe.benchmark), probe.options)
