"""Heads in the folder of a model: loaded with `load`, used, saved and loaded again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ming_core import load, user
from ming_core.engine.request import Request
from ming_core.errors import BadCheckpoint, MissingPlugin, UnknownName
from ming_core.heads import Row, save_head, speak
from ming_core.plugins import get_plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.presets import preset

WIDTH = 192
CONFIG = {
    "painter_config": {"model_type": "acme_painter"},
    "talker_config": {"model_type": "acme_talker", "hidden_size": 12, "thinker_width": WIDTH},
    "reader_config": {"model_type": "acme_reader"},
}
SETTINGS = {
    "front": {"width": WIDTH, "scales": [1, 2]},
    "transformer": {"tokens": 4, "hidden": 64},
    "flow": {"width": 8, "voice": 2},
}
HEADS = {
    "painter": import_module("acme_heads.painter").Painter,
    "talker": import_module("acme_heads.talker").Talker,
    "reader": import_module("acme_heads.reader").Reader,
}


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is installed, and gone again afterwards."""
    plugins = get_plugins()
    plugins.add(import_module("acme_heads.plugin"), "acme_heads", "acme-heads")
    yield
    get_plugins.cache_clear()


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load("nano", device="cpu").save(tmp_path_factory.mktemp("nano") / "model")


@pytest.fixture
def folder(nano_folder: Path, tmp_path: Path) -> Path:
    """A model with two heads in sub-folders: those of the third are those of the second."""
    return with_heads(nano_folder, tmp_path, "painter", "talker")


def with_heads(model: Path, tmp_path: Path, *names: str) -> Path:
    made = tmp_path / "model"
    shutil.copytree(model, made)
    config = json.loads((made / "config.json").read_text("utf-8"))
    (tmp_path / "voices.json").write_text('{"ann": [1.0, 0.0], "bob": [0.0, 1.0]}', "utf-8")
    for name in names:
        torch.manual_seed(7)
        components = HEADS[name].components(CONFIG)
        parts = {
            part.name: part.build(
                CONFIG[part.section] if part.section else SETTINGS.get(part.name, {})
            )
            for part in components
        }
        section = f"{name}_config"
        own = {section: CONFIG[section]}
        files = {"reader/voices.json": tmp_path / "voices.json"}
        place = save_head(components, parts, tmp_path / name, own, SETTINGS, files)
        shutil.copytree(place, made, dirs_exist_ok=True)
        config |= own
    (made / "config.json").write_text(json.dumps(config), "utf-8")
    return made


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def painted(model: Any, word: str = "red") -> torch.Tensor:
    head = model.head("image")
    request = Request([user(word)], queries=head.queries, keep=head.reads)
    row = Row(model.engine.answer(request).states, head.processor())
    return head.paint(head.condition([row]), [torch.Generator().manual_seed(1)])


def said(model: Any, text: str = "hello.") -> torch.Tensor:
    head = model.head("audio")
    states = None
    if head.reads:
        states = model.engine.answer(Request([user(text)], keep=head.reads)).states
    condition = head.condition([Row(states, head.processor())])
    pieces = speak(head, condition, [[text]], [torch.Generator().manual_seed(1)])
    return torch.cat([samples for _, samples in pieces])


def test_heads_lie_in_folders_of_their_own(folder: Path) -> None:
    for path in (
        "mlp/config.json",
        "mlp/model.safetensors",
        "transformer/model.safetensors",
        "talker/model.safetensors",
        "talker/codec/model.safetensors",
        "talker/codec/config.json",
    ):
        assert path in files(folder)
    assert set(load_file(folder / "mlp/model.safetensors")) == {
        "query_tokens_dict.1x1",
        "query_tokens_dict.2x2",
        "proj.weight",
        "proj.bias",
    }
    names = set(load_file(folder / "talker/model.safetensors"))
    assert "model.cell.weight_ih" in names  # the backbone has `model.…` too


def test_a_question_loads_no_head(folder: Path) -> None:
    model = load(folder, device="cpu")
    model.ask("how many stars are there?", max_new_tokens=2)
    assert [name for name in model.loaded if "_head" in name] == []


def test_heads_are_used_through_the_model(folder: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    picture = painted(model)
    assert picture.shape == (1, 3, 4, 4)
    assert torch.equal(picture, painted(model))
    assert not torch.equal(picture, painted(model, "a green star"))
    assert said(model).shape == (6 * 40,)
    assert model.head("image") is model.head("image")
    names = {name for name in model.loaded if "_head" in name}
    assert names == {
        "image_head.front",
        "image_head.transformer",
        "audio_head.talker",
        "audio_head.codec",
    }
    head: Any = model.head("audio")
    assert model.component("audio_head.codec") is head.codec


def test_a_trained_head_is_saved_and_loaded_again(folder: Path, tmp_path: Path) -> None:
    model = load(folder, device="cpu", dtype="float32")
    before = painted(model)
    head: Any = model.head("image")
    with torch.no_grad():
        for weights in head.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    changed = painted(model)
    assert not torch.equal(before, changed)
    again = load(model.save(tmp_path / "saved"), device="cpu", dtype="float32")
    assert torch.equal(painted(again), changed)
    assert files(tmp_path / "saved") == files(folder)
    for untouched in ("talker/model.safetensors", "talker/codec/model.safetensors"):
        old, new = ((place / untouched).read_bytes() for place in (folder, tmp_path / "saved"))
        assert old == new


def test_a_text_only_head_works_without_the_backbone(nano_folder: Path, tmp_path: Path) -> None:
    whole = with_heads(nano_folder, tmp_path, "reader")
    model = load(whole, device="cpu", parts="audio_head")
    (whole / "model.safetensors").unlink()  # nothing of it is read
    assert said(model).shape == (6 * 32,)
    assert set(model.loaded) == {"audio_head.flow"}
    with pytest.raises(MissingPlugin, match="without its language model"):
        model.ask("how many stars are there?")


def test_only_the_wanted_head_is_allowed(folder: Path) -> None:
    model = load(folder, device="cpu", parts=["text", "image_head"])
    painted(model)
    with pytest.raises(MissingPlugin, match="load it with 'audio_head' among them"):
        model.head("audio")


def test_the_class_of_diffusers_names_a_head(nano_folder: Path, tmp_path: Path) -> None:
    """In the config.json of the head's own folder."""

    class Released:
        @hookimpl
        def ming_register_heads(self, register: Any) -> None:
            register(
                "acme_flow",
                "acme_heads.painter:Painter",
                gives="image",
                section="transformer",
                spellings=("AcmeTransformer2DModel",),
            )

    get_plugins().add(Released(), "released", "acme-released")
    whole = with_heads(nano_folder, tmp_path, "painter")
    config = json.loads((whole / "config.json").read_text("utf-8"))
    del config["painter_config"]
    (whole / "config.json").write_text(json.dumps(config), "utf-8")
    own = {"_class_name": "AcmeTransformer2DModel", **SETTINGS["transformer"]}
    (whole / "transformer/config.json").write_text(json.dumps(own), "utf-8")
    assert painted(load(whole, device="cpu")).shape == (1, 3, 4, 4)


def test_a_model_without_the_head_says_so(nano_folder: Path) -> None:
    model = load(nano_folder, device="cpu")
    with pytest.raises(MissingPlugin, match="no part that makes image: it lacks painter_config"):
        model.head("image")
    with pytest.raises(UnknownName, match="image_head"):
        load(nano_folder, parts="image_hed")


def test_without_the_package_the_sentence_says_what_is_missing(folder: Path) -> None:
    get_plugins.cache_clear()
    with pytest.raises(MissingPlugin, match="making images needs a later version of ming-imagegen"):
        load(folder, device="cpu").head("image")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("transformer/model.safetensors", "transformer has no weights"),
        ("talker/codec", "has no folder 'talker/codec'"),
        ("mlp/config.json", "front cannot be built from its settings in .*mlp"),
    ],
)
def test_an_incomplete_head_is_one_sentence(folder: Path, name: str, sentence: str) -> None:
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    model = load(folder, device="cpu")
    gives = "audio" if "talker" in name else "image"
    with pytest.raises(BadCheckpoint, match=sentence):
        model.head(gives)  # type: ignore[call-overload]


def test_a_missing_file_of_a_head_is_one_sentence(nano_folder: Path, tmp_path: Path) -> None:
    whole = with_heads(nano_folder, tmp_path, "reader")
    (whole / "reader/voices.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"reader has no voices\.json, which flow needs"):
        load(whole, device="cpu", parts="audio_head")


def test_the_hook_sees_each_component_of_a_head(folder: Path) -> None:
    seen = []

    class Quantiser:
        @hookimpl
        def ming_component_loaded(self, name: str, module: torch.nn.Module) -> None:
            seen.append((name, type(module).__name__))

    get_plugins().add(Quantiser(), "quantiser", "acme-quant")
    load(folder, device="cpu").head("image")
    assert seen == [("image_head.front", "Front"), ("image_head.transformer", "Velocity")]


def test_a_head_can_be_a_part_of_a_preset(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package brings the head of nano, as the packages for drawing and speech will."""
    package = tmp_path / "acme_nano_head"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(tmp_path / "painter", package / "preset")
    monkeypatch.syspath_prepend(tmp_path)

    class Preset:
        @hookimpl
        def ming_register_presets(self, register: Any) -> None:
            register("nano", "acme_nano_head:preset", part="painter", summary="paints")

    get_plugins().add(Preset(), "preset", "acme-nano-head")
    model = load("nano", device="cpu", dtype="float32")
    whole = load(folder, device="cpu", dtype="float32")
    assert torch.equal(painted(model), painted(whole))
    again = load(model.save(tmp_path / "saved"), device="cpu", dtype="float32")
    assert torch.equal(painted(again), painted(whole))
    (part,) = [part for part in preset("nano").parts.values() if part.name == "painter"]
    assert part.ready
    shutil.rmtree(package / "preset" / "mlp")
    shutil.rmtree(package / "preset" / "transformer")
    assert part.lacks == ["model.safetensors"]
