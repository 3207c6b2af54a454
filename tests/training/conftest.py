"""Rows and media for tests of training data; nano in float32, and batches of conversations."""

from __future__ import annotations

import copy
import io
import json
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.media import Audio, Message, Video, assistant, user
from ming_core.media import Image as Picture
from ming_core.model.encoder import by_modality
from ming_core.model.omni import Omni, OmniBatch
from ming_core.training.labels import IGNORED
from ming_core.training.packing import Sample, pack, plan_samples
from ming_recipes.training.batch import Batch, SampleInfo
from ming_recipes.training.examples import Example, Parts, read_example
from ming_recipes.training.records import Record

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


SPEECH = Path(__file__).parents[1] / "speech"


def picture(color: str) -> Image.Image:
    return Image.new("RGB", (64, 64), color)


@pytest.fixture(scope="session")
def nano() -> Any:
    """The model with its encoders; nobody may change its weights."""
    from ming_core import load

    model = load("nano", device="cpu", dtype="float32")
    for modality in ("image", "audio"):
        model.encoder(modality)
    return model


@pytest.fixture
def omni(nano: Any) -> Omni:
    """A copy of nano to be trained."""
    return copy.deepcopy(nano.omni).train()


@pytest.fixture(scope="session")
def examples(parts: Parts) -> dict[str, Example]:
    """Conversations by name; "red …" begin with the same picture."""
    red, sound = picture("red"), SPEECH / "en-flite-00.flac"
    frames = tuple(picture(color) for color in ("blue", "green", "red", "white"))

    def talk(*messages: Message) -> tuple[Message, ...]:
        return messages

    talks = {
        "text": talk(user("how are you?"), assistant("very well")),
        "longer text": talk(
            user("a"), assistant("one two"), user("and the next one"), assistant("three")
        ),
        "red color": talk(user(Picture(red), "what color is it?"), assistant("red")),
        "red count": talk(user(Picture(red), "how many circles?"), assistant("none at all")),
        "red talk": talk(
            user(Picture(red), "is it blue?"), assistant("no"), user("why?"), assistant("it is red")
        ),
        "video": talk(user(Video(frames), "what happens?"), assistant("it turns white")),
        "sound": talk(user(Audio(sound), "what is said?"), assistant("nothing of note")),
        "both": talk(
            user(Picture(picture("green")), Audio(sound), "what?"), assistant("a green picture")
        ),
    }
    return {
        name: read_example(Record(name, turns, dataset=name.split()[0]), parts)
        for name, turns in talks.items()
    }


@pytest.fixture(scope="session")
def batch_of(examples: dict[str, Example], parts: Parts) -> Callable[..., Batch]:
    """Names of conversations -> one packed batch; shared: those of one picture share it."""

    def make(names: Sequence[str], shared: bool = False, capacity: int = 0, **rest: Any) -> Batch:
        chosen = [examples[name] for name in names]
        groups = {example.group: number for number, example in enumerate(chosen) if example.group}
        samples = [sample_of(e, parts, groups.get(e.group) if shared else None) for e in chosen]
        capacity = capacity or max(map(len, samples)) + 40
        packed = pack(samples, plan_samples(samples, capacity), capacity, parts.pad)
        seen, features = set(), []
        for number in packed.order:
            example, sample = chosen[number], samples[number]
            skip = example.leading if sample.group in seen else 0
            features += example.features[skip:]
            seen |= {sample.group} - {None}
        omni = OmniBatch(
            packed.input_ids,
            packed.position_ids,
            packed.modality_ids,
            packed.segment_ids,
            packed.mask,
            by_modality(features),
        )
        infos = [SampleInfo(e.record.id, e.record.dataset) for e in chosen]
        return Batch(omni, packed.labels, packed.weights, packed.sample_ids, infos, **rest)

    return make


def sample_of(example: Example, parts: Parts, group: int | None) -> Sample:
    ids = torch.tensor(example.prompt.input_ids)
    targets = torch.tensor(example.prompt.targets)
    generator = torch.Generator().manual_seed(len(ids))
    return Sample(
        ids,
        torch.where(targets, ids, IGNORED),
        example.positions(parts.rule),
        torch.tensor(example.prompt.modality_ids),
        weights=torch.rand(len(ids), generator=generator) + 0.5,
        prefix=example.prefix if group is not None else 0,
        group=group,
    )
