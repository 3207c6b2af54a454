"""Which model a name means, which parts may be used, and a model that is saved and loaded again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ming_core import Image, OmniModel, load
from ming_core.checkpoints import writing
from ming_core.checkpoints.formats import fingerprint, open_checkpoint, open_weights
from ming_core.errors import BadCheckpoint, BadConfig, UnknownName
from ming_core.presets import preset_folders

FILES = [
    "config.json",
    "familiar-audio.safetensors",
    "familiar-image.safetensors",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load("nano").save(tmp_path_factory.mktemp("saved") / "nano")


def picture() -> Image:
    return Image(Path(preset_folders("nano")["backbone"]) / "demo.png")


# Names


def test_a_preset_wins_over_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nano").mkdir()
    assert load("nano", parts="text").name == "nano"
    with pytest.raises(BadCheckpoint, match=r"^nano has no config\.json"):
        load("./nano")
    with pytest.raises(BadCheckpoint, match=r"^nano has no config\.json"):
        load(Path("nano"))
    shutil.copytree(saved, "mine")
    assert load("mine", parts="text").name == "mine"
    Path("empty").mkdir()
    with pytest.raises(BadCheckpoint, match=r"^empty has no config\.json"):
        load("empty")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000 + "/y", "a\0b", "\ud800", "\x1b[2J"])
def test_names_that_no_folder_can_have(name: str) -> None:
    with pytest.raises((UnknownName, BadCheckpoint)) as caught:
        load(name)
    assert str(caught.value).isprintable()


# Parts


def test_one_part_as_a_word_and_types_as_objects() -> None:
    model = load("nano", torch.device("cpu"), torch.bfloat16, parts="image")
    assert model.sources.parts == ("image",)
    assert list(model.omni.encoders) == ["image"]
    assert {weight.dtype for weight in model.omni.encoders.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("parts", ["vision", ["text", "vision"], ["text", None], [3]])
def test_parts_that_nobody_has(parts: Any) -> None:
    with pytest.raises(UnknownName, match=r"^unknown part .*; known: audio, image, text$"):
        load("nano", parts=parts)


# Endless prompts


@pytest.mark.parametrize("text", ["a" * 10_000_000, "red star " * 1_000_000, "\ud83d" * 5_000_000])
def test_an_endless_prompt_is_refused_at_once(nano: OmniModel, text: str) -> None:
    sentence = r"^the text has at least \d+ tokens and the context of the model holds 4096; shorten"
    sound = np.random.default_rng(0).normal(size=8000).astype(np.float32) / 10
    watched = nano.watch(frames=4)
    watched.see(np.zeros((64, 64, 3), np.uint8), 0.0)
    for ask in (
        lambda: nano.ask(text),
        lambda: nano.ask("what?", instructions=text),
        lambda: nano.ground(picture(), text),
        lambda: nano.transcribe((sound, 16000), context=text),
        lambda: nano.transcribe((sound, 16000), hotwords=[text, "Ming"]),
        lambda: watched.ask(text),
    ):
        with pytest.raises(BadConfig, match=sentence):
            ask()


def test_half_a_character_is_a_question(nano: OmniModel) -> None:
    assert nano.ask("\ud83d", max_new_tokens=2).tokens


# Saving


def test_a_saved_model_is_one_whole_folder(nano: OmniModel, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == FILES
    again = load(saved)
    assert str(again.ask("what color is the star?", picture())) == str(
        nano.ask("what color is the star?", picture())
    )
    sound = np.sin(np.arange(16000) / 20).astype(np.float32) * 0.1
    features = nano.encoder("audio").processor
    assert again.encoder("audio").processor == features
    assert again.transcribe((sound, 16000)) == nano.transcribe((sound, 16000))


def test_encoders_are_saved_loaded_or_not(nano: OmniModel, saved: Path, tmp_path: Path) -> None:
    """Those that nobody has used are copied as they are stored."""
    nano.encoder("image")
    nano.encoder("audio")
    whole = open_weights(nano.save(tmp_path / "used"))
    copied = open_weights(saved)
    assert whole.tensors.keys() == copied.tensors.keys()
    for part, folder in preset_folders("nano").items():
        stored = open_checkpoint(folder)
        for name in stored.tensors:
            assert torch.equal(whole.read(name), stored.read(name).float())
            if part != "backbone":
                assert copied.read(name).dtype == stored.read(name).dtype
    again = load(tmp_path / "used").save(tmp_path / "again")
    assert fingerprint(open_weights(again)) != fingerprint(copied)  # the types differ
    assert load(again, parts="image").encoder("image")


def test_a_trained_part_is_saved_as_it_is_now(tmp_path: Path) -> None:
    model = load("nano", parts=["text", "image"])
    with torch.no_grad():
        model.omni.backbone.norm.weight.add_(1)
        model.omni.encoders["image"].linear_proj[0].bias.add_(1)  # type: ignore[union-attr]
    again = load(model.save(tmp_path / "trained"))
    for name, tensor in model.omni.state_dict().items():
        again.encoder("image")
        assert torch.equal(again.omni.state_dict()[name], tensor), name


def test_saving_leaves_everything_or_nothing(
    nano: OmniModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine", "utf-8")
    with pytest.raises(BadCheckpoint, match="mine exists and is not empty; choose another folder"):
        nano.save(tmp_path / "mine")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_write_shard", full)
    with pytest.raises(BadCheckpoint, match=r"cannot write .*No space left.*free space"):
        nano.save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert load(nano.save(tmp_path / "link"), parts="text")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == FILES


def test_without_the_settings_of_the_preprocessor(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "lacking"))
    (folder / "preprocessor_config.json").unlink()
    for parts in (None, "image", ["text", "image"]):
        with pytest.raises(
            BadCheckpoint, match=r"and no preprocessor_config\.json, which says how"
        ):
            load(folder, parts=parts)
    assert load(folder, parts="text").ask("how many?", max_new_tokens=2).tokens
    assert load(folder, parts="audio").encoder("audio")


def test_weights_that_change_under_a_running_model(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "changing"))
    model = load(folder)
    other = bytearray((folder / "model.safetensors").read_bytes())
    (folder / "new").write_bytes(other)
    (folder / "new").replace(folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"was changed or replaced after the model was opened"):
        model.ask("what?", picture())
    with pytest.raises(BadCheckpoint, match="load the model again"):
        model.save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
