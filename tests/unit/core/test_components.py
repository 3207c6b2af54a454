"""Components: parts of a model with folders, names and weights of their own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ming_core import OmniModel, load
from ming_core.checkpoints.components import Component, prepare
from ming_core.checkpoints.formats import open_part, open_weights
from ming_core.checkpoints.keymap import identity_slots
from ming_core.errors import BadCheckpoint, BadConfig, MingError, MissingPlugin, UnknownName
from ming_core.inventory import inventory
from ming_core.plugins import get_plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.presets import PresetPart

IO = Path("/proc/self/io")


class Linear(nn.Linear):
    """Stands for a network of whatever size."""

    @classmethod
    def build(cls, settings: Mapping[str, Any]) -> nn.Module:
        return nn.ModuleDict({"model": cls(settings["width"], 3)})


class Talker:
    """A head of two components; both have tensors `model.*`, as the backbone has."""

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> list[Component]:
        return [
            Component("lm", Linear.build, "talker", files=("voices.json",)),
            Component("vae", Linear.build, "talker/vae", dtype=torch.float32),
        ]


class Painter:
    """Components in the layout of diffusers, one of them in shards."""

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> list[Component]:
        return [
            Component("transformer", Linear.build, "transformer"),
            Component("vae", Linear.build, "vae"),
        ]


class Plugin:
    def __init__(self) -> None:
        self.arrived: list[tuple[str, str]] = []

    @hookimpl
    def ming_register_heads(self, register: Any) -> None:
        register("fake_talker", "fake_heads:Talker", gives="audio", section="talker")
        register("fake_dit", "fake_heads:Painter", gives="image", section="transformer")

    @hookimpl
    def ming_component_loaded(self, model: OmniModel, name: str, module: nn.Module) -> None:
        assert model.component(name) is module  # it has its place
        assert not any(weight.is_meta for weight in module.parameters())
        self.arrived.append((model.short_name, name))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """A package with two heads."""
    fake = ModuleType("fake_heads")
    vars(fake).update(Talker=Talker, Painter=Painter)
    monkeypatch.setitem(sys.modules, "fake_heads", fake)
    get_plugins.cache_clear()
    plugin = Plugin()
    get_plugins().add(plugin, "fake", "fake-heads")
    yield plugin
    get_plugins.cache_clear()


def tensors(width: int) -> dict[str, Tensor]:
    return {"model.weight": torch.randn(3, width), "model.bias": torch.randn(3)}


def write(folder: Path, stem: str, width: int, shards: int = 1, **config: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"width": width, **config}), "utf-8")
    values = tensors(width)
    if shards == 1:
        save_file(values, folder / f"{stem}.safetensors")
        return
    places = {}
    for number, (name, value) in enumerate(values.items(), start=1):
        places[name] = f"{stem}-{number:05}-of-{len(values):05}.safetensors"
        save_file({name: value}, folder / places[name])
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index), "utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the Flash family with the folders that the release has."""
    folder = load("nano").save(tmp_path_factory.mktemp("released") / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["knows"]  # a release of its own, with fewer parts
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for path in folder.glob("familiar-*"):
        path.unlink()
    diffusers = "diffusion_pytorch_model"
    write(folder / "transformer", diffusers, 1000, _class_name="Dit", model_type="fake_dit")
    write(folder / "vae", diffusers, 500, shards=2, _class_name="AutoencoderKL")
    write(folder / "talker", "model", 2000, model_type="fake_talker")
    write(folder / "talker/vae", "model", 10)
    write(folder / "connector", "model", 4)
    (folder / "talker/voices.json").write_text("{}", "utf-8")
    (folder / "talker/campplus.onnx").write_bytes(bytes(100))
    (folder / "byt5/byt5_model").mkdir(parents=True)
    (folder / "byt5/byt5_model/byt5_model.pt").write_bytes(bytes(50))
    (folder / "oddity").mkdir()
    (folder / "oddity/extra.safetensors").write_bytes(bytes(7))
    (folder / "modeling_bailingmm2.py").write_text("# code of the release\n", "utf-8")
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/lock").write_text("", "utf-8")
    return folder


@pytest.fixture
def released(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# Reading only what is wanted


def read_by(work: Callable[[], object]) -> int:
    """Bytes that this process reads from files meanwhile."""

    def count() -> int:
        return int(IO.read_text().split()[1])

    before = count()
    work()
    return count() - before


@pytest.mark.skipif(not IO.is_file(), reason="needs /proc")
@pytest.mark.parametrize(
    ("parts", "folders"),
    [
        ("audio_head", ["talker/model.safetensors", "talker/vae/model.safetensors"]),
        ("image_head", ["transformer/diffusion_pytorch_model.safetensors"]),
        (["audio_head", "image_head"], ["talker", "transformer"]),
    ],
)
def test_only_the_bytes_of_the_parts_are_read(
    released: Path, plugin: Plugin, parts: Any, folders: list[str]
) -> None:
    load(released, parts=parts)  # imports, and what is read once in a process
    wanted = sum(
        path.stat().st_size
        for name in folders
        for path in [released / name, *(released / name).rglob("*")]
        if path.suffix == ".safetensors" and path.is_file()
    )
    read = read_by(lambda: load(released, parts=parts))
    small = sum(path.stat().st_size for path in released.rglob("*config.json"))
    assert wanted <= read < wanted + 4 * small + 30_000
    assert (released / "model.safetensors").stat().st_size > 20 * read


@pytest.mark.skipif(not IO.is_file(), reason="needs /proc")
def test_an_encoder_alone_reads_no_language_model(plugin: Plugin) -> None:
    """The folders of a preset: only that of the part is opened."""
    parts = load("nano", parts="image").sources.checkpoints
    sizes = {
        c.root.parent.parent.name: (c.root / "model.safetensors").stat().st_size for c in parts
    }
    read = read_by(lambda: load("nano", parts=["image"]))
    assert sizes["ming_vision"] <= read < sizes["ming_vision"] + 150_000
    assert sizes["ming_core"] > read


def test_without_the_weights_of_other_parts(released: Path, plugin: Plugin) -> None:
    for name in ("model.safetensors", "tokenizer.json", "connector/model.safetensors"):
        (released / name).unlink()
    model = load(released, parts=["audio_head"])
    assert sorted(model.loaded) == ["audio_head.lm", "audio_head.vae"]
    sentence = r"this model was loaded with parts=\['audio_head'\], without its language model"
    for ask in (
        lambda: model.ask("how many?"),
        lambda: model.chat([{"role": "user", "content": "how many?"}]),
        lambda: model.answer_batch([[{"role": "user", "content": "how many?"}]]),
        lambda: model.component("backbone"),
    ):
        with pytest.raises(MissingPlugin, match=sentence):
            ask()
    with pytest.raises(MissingPlugin, match="load it with 'image' among them to use it"):
        model.encoder("image")


def test_each_part_is_read_when_it_is_needed(released: Path, plugin: Plugin) -> None:
    model = load(released)
    assert (model.loaded, plugin.arrived) == ({}, [])
    model.ask("how many?", max_new_tokens=1)
    model.component("audio_head.vae")
    model.component("text")
    assert plugin.arrived == [("model", "backbone"), ("model", "audio_head.vae")]
    assert load(released, parts=["text"]).loaded.keys() == {"backbone"}


def test_names_of_components_do_not_collide(released: Path, plugin: Plugin) -> None:
    model = load(released)
    for name, folder in (
        ("audio_head.lm", "talker"),
        ("audio_head.vae", "talker/vae"),
        ("image_head.transformer", "transformer"),
        ("image_head.vae", "vae"),
    ):
        stored = open_weights(released / folder)
        for key, value in model.component(name).state_dict().items():
            assert torch.equal(value, stored.read(key)), name
    with pytest.raises(UnknownName, match=r"'image_head\.va'; did you mean 'image_head\.vae'"):
        model.component("image_head.va")


def test_devices_and_dtypes_of_their_own(released: Path, plugin: Plugin) -> None:
    model = load(released, device={"image": "cpu"}, dtype={"audio_head": "bfloat16"})
    assert model.component("audio_head.lm").model.weight.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert model.component("audio_head.vae").model.weight.dtype == torch.float32  # type: ignore[union-attr]
    assert next(model.component("image").parameters()).dtype == torch.float32
    half = load("nano", dtype={"image": "bfloat16"}, device="cpu")
    assert half.component("image").linear_proj[0].weight.dtype == torch.bfloat16  # type: ignore[index,union-attr]
    picture = half.sources.checkpoints[0].root / "demo.png"
    assert half.ask("how many shapes?", picture, max_new_tokens=4).tokens
    with pytest.raises(UnknownName, match="unknown part 'vae'"):
        load("nano", dtype={"vae": "float32"})


def test_unknown_parts_have_a_nearest_name(released: Path, plugin: Plugin) -> None:
    for wrong, near in (("audio_hed", "audio_head"), ("backbon", "backbone"), ("imag", "image")):
        with pytest.raises(UnknownName, match=f"unknown part '{wrong}'; did you mean '{near}'"):
            load(released, parts=["text", wrong])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda config: config["width"], "KeyError: 'width'"),
        (lambda config: sys.exit("no licence"), "SystemExit: no licence"),
        (lambda config: None, "TypeError: 'NoneType' object is not iterable"),
        (lambda config: [3], "TypeError: it gave "),
        (5, "TypeError: 'int' object is not callable"),
    ],
)
def test_a_head_whose_components_are_wrong(
    released: Path, plugin: Plugin, monkeypatch: pytest.MonkeyPatch, given: Any, reason: str
) -> None:
    monkeypatch.setattr(Talker, "components", staticmethod(given) if callable(given) else given)
    sentence = f"components of the head 'fake_talker' of fake-heads raised {reason}"
    with pytest.raises(MissingPlugin, match=sentence):
        load(released, parts="audio_head")
    found = {item.name: item for item in load(released, parts=()).components()}
    assert (found["talker"].reader, found["vae"].reader) == (None, "fake-heads")


@pytest.mark.parametrize(
    "change", [{"build": lambda _: 5}, {"slots": lambda _: 1 / 0}, {"build": lambda _: 1 / 0}]
)
def test_a_component_whose_functions_are_wrong(released: Path, change: dict[str, Any]) -> None:
    component = replace(Component("lm", Linear.build, "talker"), **change)
    with pytest.raises(BadCheckpoint, match="lm cannot be built from its settings in"):
        prepare(component, {}, open_part(released, "talker"))


def test_parts_that_are_no_names(released: Path) -> None:
    with pytest.raises(BadConfig, match="parts must be a name or a list of names, not 5"):
        load(released, parts=5)  # type: ignore[arg-type]


def test_a_head_that_nobody_reads(released: Path) -> None:
    get_plugins.cache_clear()
    with pytest.raises(MissingPlugin, match="making sound needs"):
        load(released, parts="audio_head")
    with pytest.raises(MissingPlugin, match="making sound needs"):
        load(released).component("audio_head.vae")


# Saving


def test_what_is_not_loaded_is_carried_over(released: Path, tmp_path: Path, plugin: Plugin) -> None:
    before = files(released)
    hidden = {name for name in before if name.startswith(".")}
    after = files(load(released).save(tmp_path / "copy"))
    assert after == {name: data for name, data in before.items() if name not in hidden}

    model = load(released)
    with torch.no_grad():
        model.component("image").linear_proj[0].bias.add_(1)  # type: ignore[index,union-attr]
        model.component("image_head.transformer").model.bias.add_(1)  # type: ignore[operator,union-attr]
        model.component("image_head.vae").model.bias.add_(1)  # type: ignore[operator,union-attr]
    saved = model.save(tmp_path / "tuned")
    after = files(saved)
    changed = {name for name in before if after.get(name) != before[name]} - hidden
    index = "vae/diffusion_pytorch_model.safetensors.index.json"
    assert changed == {
        "model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        index,
        *(name for name in before if name.startswith("vae/") and "-of-" in name),
    }
    assert after["vae/diffusion_pytorch_model.safetensors"]  # so small that one file holds it
    again = load(saved)
    for name in model.loaded:
        for key, value in model.component(name).state_dict().items():
            assert torch.equal(again.component(name).state_dict()[key], value)


def test_the_preset_keeps_its_files_in_one_folder(tmp_path: Path) -> None:
    saved = load("nano", parts=["image"]).save(tmp_path / "nano")
    assert load(saved).ask("how many?", max_new_tokens=1).tokens


def test_a_component_that_was_changed_has_no_released_layout(
    released: Path, tmp_path: Path, plugin: Plugin
) -> None:
    model = load(released)
    module = model.component("audio_head.lm")
    module.register_parameter("adapter", nn.Parameter(torch.zeros(3)))
    with pytest.raises(BadCheckpoint, match=r"a component was changed after it was loaded") as e:
        model.save(tmp_path / "copy")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "copy").exists()


# Bad input


def damage(released: Path, how: str) -> None:
    weights = released / "talker/model.safetensors"
    if how == "no folder":
        shutil.move(released / "talker/vae", released / "gone")
    elif how == "no weights":
        weights.unlink()
    elif how == "no file":
        (released / "talker/voices.json").unlink()
    elif how == "two sets":
        shutil.copy(weights, released / "talker/diffusion_pytorch_model.safetensors")
    elif how == "file and index":
        (released / "talker/model.safetensors.index.json").write_text("{}", "utf-8")
    elif how == "pickle":
        weights.rename(weights.with_suffix(".pt"))
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-5])
    elif how == "extra tensor":
        save_file({**load_file(weights), "other.weight": torch.ones(2)}, weights)
    elif how == "missing tensor":
        save_file({"model.bias": torch.ones(3)}, weights)
    elif how == "wrong shape":
        save_file({**load_file(weights), "model.bias": torch.ones(4)}, weights)
    elif how == "link out":
        shutil.move(released / "talker", released.parent / "talker")
        (released / "talker").symlink_to(released.parent / "talker")
    elif how == "file out":
        shutil.move(weights, released.parent / "x.safetensors")
        weights.symlink_to(released.parent / "x.safetensors")
    elif how == "a file as folder":
        shutil.rmtree(released / "talker/vae")
        (released / "talker/vae").write_text("", "utf-8")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("no folder", r"has no folder 'talker/vae'; finish the download"),
        ("a file as folder", r"has no folder 'talker/vae'; finish the download"),
        ("no weights", r"talker has no weights; expected model\.safetensors or"),
        ("no file", r"talker has no voices\.json, which lm needs; finish the download"),
        ("two sets", r"are two sets of weights; remove the one that does not belong"),
        ("file and index", r"model\.safetensors\.index\.json, which are two sets of weights"),
        ("pickle", r"offers 'model\.pt' as weights; only safetensors files are read"),
        ("truncated", r"talker/model\.safetensors is truncated"),
        ("extra tensor", r"talker do not fit its config\.json: 1 unexpected \(other\.weight\)"),
        ("missing tensor", r"1 missing \(model\.weight\)"),
        ("wrong shape", r"1 of the wrong shape or type \(model\.bias is \[4\], expected \[3\]\)"),
        ("link out", r"refers to 'talker\S*', which lies outside of it"),
        ("file out", r"refers to 'talker/model\.safetensors', which lies outside of it"),
    ],
)
def test_a_folder_that_cannot_be_read(
    released: Path, plugin: Plugin, how: str, sentence: str
) -> None:
    damage(released, how)
    with pytest.raises(BadCheckpoint, match=sentence) as caught:
        load(released, parts=["audio_head"])
    assert "\n" not in str(caught.value)
    assert load(released).ask("how many?", max_new_tokens=1).tokens  # the rest is sound


@pytest.mark.parametrize("folder", ["../other", "/tmp", "a/../../other", "talker/\0"])
def test_folders_that_escape(released: Path, folder: str) -> None:
    (released.parent / "other").mkdir()
    with pytest.raises(BadCheckpoint, match=r"lies outside of it|impossible path"):
        open_part(released, folder)


def test_a_folder_that_is_a_link_is_not_copied(released: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret", "utf-8")
    (released / "linked").symlink_to(outside)
    with pytest.raises(BadCheckpoint, match="has a folder 'linked' that is a link"):
        load(released).save(tmp_path / "copy")
    (released / "linked").unlink()
    (released / "notes.txt").symlink_to(outside / "secret")
    with pytest.raises(BadCheckpoint, match=r"'notes\.txt', which lies outside of it"):
        load(released).save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_files_of_the_download_cache_lie_elsewhere(released: Path, tmp_path: Path) -> None:
    """<repo>/snapshots/<revision>/transformer/x links to <repo>/blobs/y."""
    snapshot = tmp_path / "repo/snapshots/abc"
    (tmp_path / "repo/blobs").mkdir(parents=True)
    shutil.move(released, snapshot)
    for number, path in enumerate(p for p in sorted(snapshot.rglob("*")) if p.is_file()):
        blob = tmp_path / f"repo/blobs/{number}"
        shutil.move(path, blob)
        path.symlink_to(blob)
    part = open_part(snapshot, "transformer")
    assert (part.config["_class_name"], len(part.tensors)) == ("Dit", 2)
    assert load(snapshot).save(tmp_path / "copy")


def test_a_buffer_without_values_is_refused(released: Path) -> None:
    class Hollow(nn.Linear):
        def __init__(self) -> None:
            super().__init__(1000, 3)
            self.register_buffer("table", torch.ones(3), persistent=False)

    build = {"hollow": lambda _: nn.ModuleDict({"model": Hollow()})}
    component = Component("dit", build["hollow"], "transformer")
    with pytest.raises(BadCheckpoint, match=r"dit has a buffer 'model\.table' .* without values"):
        prepare(component, {}, open_part(released, "transformer"))


def test_spare_tensors_and_other_names(released: Path) -> None:
    file = released / "connector/model.safetensors"
    save_file({**tensors(4), "embed_tokens.weight": torch.ones(5)}, file)
    component = Component("connector", Linear.build, "connector", spare=("embed_tokens.",))
    found = prepare(component, {}, open_part(released, "connector"))
    assert found.nbytes == 4 * (3 * 4 + 3)
    file.rename(released / "connector/flow.safetensors")
    named = Component("flow", Linear.build, "connector", weights="flow", spare=("embed",))
    assert prepare(named, {}, open_part(released, "connector", "flow")).nbytes == found.nbytes


def test_tensors_behind_a_prefix(released: Path) -> None:
    """Lite 1.0 keeps its talker among the tensors of the language model."""
    file = released / "model.safetensors"
    save_file({f"talker.{name}": value for name, value in tensors(4).items()}, file)

    def slots(module: nn.Module) -> Any:
        return identity_slots(module, "talker.")

    component = Component("talker", lambda _: Linear.build({"width": 4}), slots=slots)
    loaded = prepare(component, {}, open_part(released)).read(torch.device("cpu"), torch.float32)
    assert torch.equal(loaded.module.model.bias, load_file(file)["talker.model.bias"])  # type: ignore[arg-type,union-attr]


# What a folder holds


def test_the_inventory_names_what_nobody_reads(released: Path, plugin: Plugin) -> None:
    file = released / "model.safetensors"
    save_file({**load_file(file), "strange.weight": torch.ones(4)}, file)
    found = {item.name: item for item in load(released, parts=()).components()}
    readers = {name: item.reader for name, item in found.items()}
    assert readers == {
        "backbone": "ming-core",
        "image": "ming-vision",
        "audio": "ming-audio",
        "strange.*": None,
        "connector": None,
        "transformer": "fake-heads",
        "vae": "fake-heads",
        "glyphs": None,
        "talker": "fake-heads",
        "codec": "fake-heads",
        "oddity": None,
    }
    assert found["strange.*"].nbytes == 16
    assert found["oddity"].nbytes == 7
    folder = released / "talker"
    sizes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    assert (found["talker"].folder, found["talker"].nbytes) == (folder, sizes)
    assert "llm/config.json" in found["talker"].lacks


def test_the_inventory_knows_packages_that_are_not_installed(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MING_DISABLE_PLUGINS", "ming-vision")
    get_plugins.cache_clear()
    found = {item.name: item for item in load(released, parts=()).components()}
    get_plugins.cache_clear()
    assert (found["image"].reader, found["image"].package) == (None, "ming-vision")


def test_the_inventory_of_a_release_that_places_nothing(released: Path) -> None:
    """As one of a third party: the installed packages say which tensors they read."""
    sources = load(released, parts=()).sources
    bare = replace(sources, parts=None, release=replace(sources.release, components=()))
    found = {item.name: item for item in inventory(bare)}
    known = {item.name: item for item in load(released).components()}
    for name in ("backbone", "image", "audio"):
        assert (found[name].reader, found[name].nbytes) == (known[name].reader, known[name].nbytes)


# The tokenizer


def test_a_release_that_lacks_its_tokenizer(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(released / name, kept / name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(BadCheckpoint) as caught:
        load(released)
    assert str(caught.value) == (
        f"{released} has no tokenizer.json, which this release is published without; copy "
        "tokenizer.json and tokenizer_config.json from inclusionAI/Ming-flash-omni-Preview: "
        "hf download inclusionAI/Ming-flash-omni-Preview tokenizer.json tokenizer_config.json "
        f"--local-dir {released}"
    )
    # The cache of the hub has it.
    repository = tmp_path / "hub/models--inclusionAI--Ming-flash-omni-Preview"
    shutil.copytree(kept, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc", "utf-8")
    part = PresetPart("checkpoint", "ming-core", "hub:acme/model", released)
    assert part.lacks == []
    model = load(released)
    assert model.ask("how many?", max_new_tokens=1).tokens
    saved = model.save(tmp_path / "saved")
    assert (saved / "tokenizer.json").read_bytes() == (kept / "tokenizer.json").read_bytes()
    shutil.rmtree(tmp_path / "hub")
    assert part.lacks == ["tokenizer.json", "tokenizer_config.json"]
    # It lies in a folder below; that of the talker does not fit.
    shutil.copytree(kept, released / "tokenizer")
    other = json.loads((kept / "tokenizer.json").read_text("utf-8"))
    other["added_tokens"] = []
    (released / "talker/llm").mkdir()
    (released / "talker/llm/tokenizer.json").write_text(json.dumps(other), "utf-8")
    (released / "talker/llm/tokenizer_config.json").write_text("{}", "utf-8")
    assert load(released).tokenizer.folder == released / "tokenizer"
    # Only one of the two files is here.
    shutil.copy(kept / "tokenizer.json", released)
    with pytest.raises(BadCheckpoint, match=r"has no tokenizer_config\.json, which this release"):
        load(released)


def test_settings_that_a_package_does_not_check(released: Path, plugin: Plugin) -> None:
    (released / "talker/config.json").write_text('{"model_type": "fake_talker"}', "utf-8")
    with pytest.raises(
        MingError, match=r"lm cannot be built from its settings in .*talker: KeyError"
    ):
        load(released, parts="audio_head")
