"""Rows, media and the light parts of nano for tests of training data."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ming_recipes.training.examples import Parts

WriteRows = Callable[..., Path]


@pytest.fixture(scope="session")
def parts() -> Parts:
    """What is needed of nano to make inputs."""
    from ming_core import load

    return Parts.of(load("nano", device="cpu"))


def png(shade: int = 200, size: int = 64) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 20, 90)).save(data, "PNG")
    return data.getvalue()


def wav(seconds: float = 1.0) -> bytes:
    data = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 3000, int(16000 * seconds)).astype("<i2")
    with wave.open(data, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(samples.tobytes())
    return data.getvalue()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with two pictures, a sound and a video of four frames."""
    folder = tmp_path / "data"
    (folder / "clip").mkdir(parents=True)
    (folder / "a.png").write_bytes(png())
    (folder / "b.png").write_bytes(png(40))
    (folder / "s.wav").write_bytes(wav())
    for number in range(4):
        (folder / "clip" / f"{number}.png").write_bytes(png(50 * number))
    return folder


@pytest.fixture
def write_rows(media: Path) -> WriteRows:
    """Writes rows beside the media, one a line; a text or bytes stand as they are."""

    def write(rows: Sequence[Any], name: str = "rows.jsonl") -> Path:
        lines = [
            row
            if isinstance(row, bytes)
            else (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)).encode()
            for row in rows
        ]
        (media / name).write_bytes(b"".join(line + b"\n" for line in lines))
        return media / name

    return write


def said(question: Any, answer: Any = "red", **more: Any) -> dict[str, Any]:
    """A row with one question and its answer."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


@pytest.fixture(name="said")
def said_() -> Callable[..., dict[str, Any]]:
    return said


@pytest.fixture
def bytes_of() -> dict[str, bytes]:
    """Media in memory, by suffix."""
    return {"png": png(), "wav": wav()}


@pytest.fixture
def mixed(said: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of every kind: text, pictures, a video, sound, several media, turns, reasoning."""
    picture = {"type": "image", "image": "a.png"}
    return [
        *(
            said([picture, {"type": "text", "text": f"which {word} is it?"}], word)
            for word in ("color", "shape", "size")
        ),
        said("<audio>what is said?", "a red circle", audios=["s.wav"]),
        said("<video>what moves?", "the ring", videos=["clip"]),
        said("<image>and<image>: the same?", "no", images=["a.png", "b.png"]),
        said("<image>what do you hear?<audio>", "left", images=["b.png"], audios=["s.wav"]),
        {
            "conversations": [
                {"from": "human", "value": "<image>what is it?"},
                {"from": "gpt", "value": "a square"},
                {"from": "human", "value": "and its color?"},
                {"from": "gpt", "value": "blue"},
            ],
            "system": "be brief",
            "images": ["b.png"],
        },
        said([picture, {"type": "text", "text": "how many?"}], "three", think="one and two"),
        *(said(f"{n} + {n}?", str(2 * n), weight=0.5 + n % 2) for n in range(12)),
    ]
