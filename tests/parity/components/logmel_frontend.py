"""From recordings of several formats to Whisper's log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Iterator

from ming_audio.logmel import log_mel, mel_filters
from ming_core.testing import Check, GoldenCase

from ._audio import mono16k


def run(case: GoldenCase) -> Iterator[Check]:
    n_mels = case.config["whisper_frontend_args"]["n_mels"]
    yield Check("mel_filters", mel_filters(n_mels), case.weights["mel_filters"])
    for i, samples in mono16k(case):
        yield Check(f"mono16k_{i}", samples, case.outputs[f"mono16k_{i}"])
        yield Check(f"mel_{i}", log_mel(samples, n_mels), case.outputs[f"mel_{i}"])
