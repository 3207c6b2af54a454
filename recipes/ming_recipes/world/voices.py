"""Utterances as sound, made by programs of Debian: `apt install espeak-ng flite`.

They are needed only to make training data and benchmarks. Both give the same samples each time.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ming_audio.reading import stream_audio
from ming_core.errors import MingError
from ming_recipes.world.speech import Utterance

PLAIN_RATE = 170
"""Words per minute at which neither program hurries."""

_LONGEST = 20  # seconds that a program may take for a sentence
_HEADER = 44  # bytes; espeak-ng does not know the length when it writes it
_ESPEAK_RATE = 22_050


class MissingVoice(MingError):
    """A program that speaks is not installed."""


def speak(utterance: Utterance) -> np.ndarray:
    """The sentence in its voice, [N] float32 at 16 kHz. Raises MissingVoice."""
    voice = utterance.voice
    if voice.program == "espeak-ng":
        speed = ("-s", str(utterance.rate), "-p", str(utterance.pitch))
        data = _run("espeak-ng", "-v", voice.name, *speed, "--stdout", "--", utterance.spoken)
        samples = np.frombuffer(data[_HEADER:], np.int16).astype(np.float32) / 2**15
        return np.concatenate(list(stream_audio((samples, _ESPEAK_RATE))))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        stretch = f"duration_stretch={PLAIN_RATE / utterance.rate:.3f}"
        said = ("-t", utterance.spoken, "-o", str(path))
        _run("flite", "-voice", voice.name, "--setf", stretch, *said)
        return np.concatenate(list(stream_audio(path)))


def _run(program: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, check=True, timeout=_LONGEST
        )
    except FileNotFoundError:
        raise MissingVoice(
            f"{program} makes the speech of this recipe and is not installed: apt install {program}"
        ) from None
    return done.stdout
