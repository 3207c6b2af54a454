"""Log-mel spectrogram of Whisper against transformers' WhisperFeatureExtractor.

    python benchmarks/logmel.py [--seconds 5] [--json FILE]

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

from _bench import fastest, finish, options
from ming_audio.logmel import RATE, log_mel

LENGTHS = (2.0, 10.0, 30.0, 120.0)


def theirs(extractor: Any, samples: np.ndarray) -> torch.Tensor:
    """[T, 128] as ours."""
    features = extractor(
        samples, sampling_rate=RATE, padding="longest", truncation=False, return_tensors="pt"
    )
    return features["input_features"][0].T


def compare(length: float, seconds: float) -> dict[str, object]:
    noise = np.random.default_rng(0).normal(0, 0.1, round(length * RATE)).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=128)
    error = (log_mel(noise) - theirs(extractor, noise)).abs().max().item()
    if error > 1e-4:
        raise SystemExit(f"the two differ by {error:.1e}")
    best = fastest(
        {"ours": partial(log_mel, noise), "theirs": partial(theirs, extractor, noise)}, seconds
    )
    return {
        "sound": f"{length:.0f} s",
        "ours ms": 1e3 * best["ours"],
        "transformers ms": 1e3 * best["theirs"],
        "transformers / ours": best["theirs"] / best["ours"],
        "seconds of sound per second": length / best["ours"],
    }


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="for each length")
    args = parser.parse_args()
    rows = [compare(length, args.seconds) for length in LENGTHS]
    claims = {"never slower": all(float(str(row["transformers / ours"])) >= 1 for row in rows)}
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
