"""Log-mel spectrogram of Whisper against transformers' WhisperFeatureExtractor.

    python speed/logmel.py [--seconds 5] [--json FILE]

Both take the same float32 samples at 16 kHz, put out 128 bins of natural length and use as many
threads. transformers runs as the released checkpoints would need it: `padding="longest"`,
`truncation=False`, tensors out; its back end is torch. Results must agree to 1e-4. Claim: never
slower.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

from _turns import Ratio, all_of, finish, in_turns, middle, options
from ming_audio.logmel import RATE, log_mel

LENGTHS = (2.0, 10.0, 30.0, 120.0)


def theirs(extractor: Any, samples: np.ndarray) -> torch.Tensor:
    """[T, 128] as ours."""
    features = extractor(
        samples, sampling_rate=RATE, padding="longest", truncation=False, return_tensors="pt"
    )
    return features["input_features"][0].T


def compare(length: float, seconds: float) -> dict[str, Any]:
    noise = np.random.default_rng(0).normal(0, 0.1, round(length * RATE)).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=128)
    error = (log_mel(noise) - theirs(extractor, noise)).abs().max().item()
    if error > 1e-4:
        raise SystemExit(f"the two differ by {error:.1e}")
    times = in_turns(
        {"ours": partial(log_mel, noise), "theirs": partial(theirs, extractor, noise)}, seconds
    )
    return {
        "sound": f"{length:.0f} s",
        "ours ms": middle(times["ours"]),
        "transformers ms": middle(times["theirs"]),
        "transformers / ours": Ratio.of(times["theirs"], times["ours"]),
        "seconds of sound per second": 1e3 * length / middle(times["ours"]),
    }


def main() -> int:
    parser = options(__doc__, seconds=5)
    args = parser.parse_args()
    rows = [compare(length, args.seconds) for length in LENGTHS]
    claims = {"never slower": all_of(row["transformers / ours"].at_least(1) for row in rows)}
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
