"""From recordings of several formats to the stacked and normalised filter banks of SANM."""

from __future__ import annotations

from collections.abc import Iterator

from ming_audio.fbank import fbank, normalise, released_cmvn, stack_frames
from ming_core.testing import Check, GoldenCase

from ._audio import mono16k


def run(case: GoldenCase) -> Iterator[Check]:
    yield Check("cmvn", released_cmvn(), case.weights["cmvn"])
    for i, samples in mono16k(case):
        yield Check(f"mono16k_{i}", samples, case.outputs[f"mono16k_{i}"])
        frames = fbank(samples, case.config["wav_frontend_args"]["n_mels"])
        yield Check(f"fbank_{i}", frames, case.outputs[f"fbank_{i}"])
        stacked = stack_frames(frames)
        yield Check(f"lfr_{i}", stacked, case.outputs[f"lfr_{i}"])
        features = normalise(stacked, case.weights["cmvn"])
        yield Check(f"feats_{i}", features, case.outputs[f"feats_{i}"])
