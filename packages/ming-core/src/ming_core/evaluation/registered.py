"""The benchmarks of the installed packages, and their options. docs/hooks.md adds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, isabstract, signature
from pathlib import Path

from ming_core.errors import BadConfig, MissingPlugin, UnknownName
from ming_core.evaluation.benchmark import Benchmark
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import missing, package_for
from ming_core.plugins.kinds import BenchmarkEntry


def benchmark_entry(name: str) -> BenchmarkEntry:
    """The registered benchmark. Raises UnknownName, or MissingPlugin with what to install."""
    known = get_plugins().benchmarks
    package = package_for("benchmarks", name)
    if name not in known and package:
        raise missing(f"the benchmark {name!r}", package)
    return known[name]


def options_of(entry: BenchmarkEntry, words: Sequence[str]) -> dict[str, str]:
    """Options of a benchmark from `key=value`.

    Raises BadConfig for a word of another form, UnknownName for another key.
    """
    options = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise BadConfig(f"cannot read the option {word!r}; write it as key=value")
        options[key] = value
    _check_options(entry, options)
    return options


def _check_options(entry: BenchmarkEntry, options: Mapping[str, str]) -> None:
    target = entry.load()
    try:
        parameters = signature(target).parameters.values()
    except (TypeError, ValueError):  # no class and no function
        raise _broken(entry) from None
    known = [each.name for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise UnknownName(f"option of {entry.name}", key, known)
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind not in several]
    if isabstract(target) or any(p.name not in options for p in needed):
        raise _broken(entry)


def open_benchmark(entry: BenchmarkEntry, options: Mapping[str, str]) -> Benchmark:
    """The benchmark with its options. Raises UnknownName, BadConfig or MissingPlugin."""
    _check_options(entry, options)
    found = entry.load()(**options)
    if not isinstance(found, Benchmark):
        raise _broken(entry)
    return found


def _broken(entry: BenchmarkEntry) -> MissingPlugin:
    return MissingPlugin(
        f"the benchmark {entry.name!r} of {entry.plugin} is broken: {entry.target!r} must make a "
        "ming_core.evaluation.Benchmark with all of its methods, and every option must have a "
        f"default; update {entry.plugin}"
    )


def check_data(entry: BenchmarkEntry, data: Path | None) -> None:
    """Raises BadConfig if data are lacking, are not there, or are given to whom needs none."""
    wanted = entry.data
    if wanted and data is None:
        raise BadConfig(f"the benchmark {entry.name!r} needs --data: {wanted}")
    if data is not None and not wanted:
        raise BadConfig(f"the benchmark {entry.name!r} brings its own data; leave --data out")
    if data is not None and not data.exists():
        raise BadConfig(f"--data {str(data)!r} does not exist; check the path")


def check_judge(entry: BenchmarkEntry, benchmark: Benchmark, name: str) -> None:
    """Raises BadConfig for a benchmark without judges, UnknownName for another judge."""
    if not benchmark.judges:
        raise BadConfig(f"the benchmark {entry.name!r} has no judges; leave --judge out")
    if name not in benchmark.judges:
        raise UnknownName(f"judge of {entry.name}", name, benchmark.judges)
