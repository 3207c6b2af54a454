"""Scored runs: what a benchmark is, how a model is asked, and how its answers are scored.

A run has two halves. `predict` asks the model and writes each prediction on a line of a file, so
that a run that was stopped goes on. `score_rows` needs only these lines and no model.
"""

from ming_core.evaluation.benchmark import Benchmark, Judge, Row, Sample, Score
from ming_core.evaluation.bootstrap import Sums, interval, interval_of_difference
from ming_core.evaluation.predictions import Predictions, RunSettings, read_predictions
from ming_core.evaluation.registered import benchmark_entry, open_benchmark
from ming_core.evaluation.running import Track, model_mark, predict, run_settings, untracked
from ming_core.evaluation.scoring import judge_rows, score_rows

__all__ = [
    "Benchmark",
    "Judge",
    "Predictions",
    "Row",
    "RunSettings",
    "Sample",
    "Score",
    "Sums",
    "Track",
    "benchmark_entry",
    "interval",
    "interval_of_difference",
    "judge_rows",
    "model_mark",
    "open_benchmark",
    "predict",
    "read_predictions",
    "run_settings",
    "score_rows",
    "untracked",
]
