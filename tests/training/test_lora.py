"""LoRA: what is adapted, what is saved, and that merged weights answer as the adapted ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ming_core import Audio, Image, OmniModel, load
from ming_core.cli import main
from ming_core.errors import BadCheckpoint, BadConfig
from ming_core.model.omni import OmniBatch
from ming_recipes.training.lora import (
    PRESETS,
    SETTINGS,
    WEIGHTS,
    Base,
    Lora,
    added,
    initialise,
    inject,
    load_adapter,
    name_before,
    save_adapter,
    targets_of,
)
from ming_recipes.training.merging import export, merge

PARTS = ("backbone", "image", "audio")


def parts_of(model: OmniModel) -> OmniModel:
    for part in PARTS:
        model.component(part)
    return model


def nano() -> OmniModel:
    return parts_of(load("nano", dtype="float32"))


def weight(model: OmniModel, name: str) -> torch.Tensor:
    return model.omni.get_parameter(name)


def same(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def tuned(lora: Lora, model: OmniModel | None = None, spread: float = 0.02) -> OmniModel:
    """A model with an adapter that changes what it computes."""
    model = nano() if model is None else parts_of(model)
    inject(model.omni, lora)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in added(model.omni):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def saved(model: OmniModel, folder: Path) -> Path:
    save_adapter(model.omni, folder, Base.of(model, PARTS))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano as one folder of float32 weights, so that a merge rounds nothing."""
    return nano().save(tmp_path_factory.mktemp("base") / "nano")


@pytest.fixture(scope="module")
def given() -> OmniBatch:
    """Text, a picture and a sound: every router chooses, every encoder runs."""
    model = nano()
    rng = np.random.default_rng(0)
    picture = Image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    sound = Audio(rng.standard_normal(8000).astype(np.float32) * 0.1)
    seen = model.encoder("image").processor([picture])
    heard = model.encoder("audio").processor([sound])
    places = [0] * 4 + [1] * seen.tokens[0] + [0] * 3 + [2] * heard.tokens[0] + [0] * 6
    ids = torch.randint(5, 1000, (1, len(places)), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(len(places)).expand(3, 1, -1)
    return OmniBatch(ids, positions, torch.tensor([places]), features=[seen, heard])


def logits(model: OmniModel, batch: OmniBatch) -> torch.Tensor:
    return model.omni.backbone.lm_head(model.omni(batch).hidden)


TARGETS = [name for name in PRESETS if name != "dense"]  # nano has no dense layer
OTHERS = [name for name in TARGETS if name != "embeddings"]


@pytest.mark.parametrize("preset", TARGETS)
def test_merged_weights_compute_what_the_adapted_model_does(
    preset: str, base: Path, given: OmniBatch, tmp_path: Path
) -> None:
    model = tuned(Lora(rank=3, targets=[preset]), parts_of(load(base)))
    with torch.no_grad():
        adapted = logits(model, given)
        folder = saved(model, tmp_path / "adapter")
        plain, merged = parts_of(load(base)), parts_of(load(base))
        merge(merged, folder)
        assert (logits(merged, given) - adapted).abs().max() < 1e-5 * adapted.abs().max()
        assert (logits(plain, given) - adapted).abs().max() > 1e-3 * adapted.abs().max()
    exported = load(export(base, folder, tmp_path / "out"))
    for part in PARTS:
        ours, theirs = merged.component(part), exported.component(part)
        assert same(ours.state_dict(), theirs.state_dict())


def test_everything_at_once_merges_as_peft_merges_it(base: Path, tmp_path: Path) -> None:
    everything = Lora(rank=2, targets=OTHERS, whole=["embeddings"])
    folder = saved(tuned(everything, parts_of(load(base))), tmp_path / "adapter")
    ours, theirs = parts_of(load(base)), parts_of(load(base))
    merge(ours, folder)
    PeftModel.from_pretrained(theirs.omni, folder).merge_and_unload()  # type: ignore[arg-type]
    other = dict(theirs.omni.named_parameters())
    for name, parameter in ours.omni.named_parameters():
        torch.testing.assert_close(parameter, other[name], rtol=0, atol=1e-6)


def test_every_matrix_of_an_adapter_gets_a_gradient(given: OmniBatch) -> None:
    model = tuned(Lora(rank=2, targets=TARGETS))
    values = logits(model, given)
    values.square().mean().backward()
    still = [name for name, p in added(model.omni) if p.grad is None or not p.grad.any()]
    assert not still
    frozen = {name for name, p in model.omni.named_parameters() if p.grad is not None}
    assert frozen == {name for name, _ in added(model.omni)}


def test_an_untrained_adapter_changes_nothing(given: OmniBatch) -> None:
    model = nano()
    with torch.no_grad():
        before = logits(model, given)
        inject(model.omni, Lora(rank=4, targets=TARGETS))
        torch.testing.assert_close(logits(model, given), before, rtol=1e-5, atol=1e-5)


def test_biases_of_routers_stay_what_they_are(base: Path, tmp_path: Path) -> None:
    model = nano()
    before = {name: b.clone() for name, b in model.omni.named_buffers() if "expert_bias" in name}
    folder = saved(tuned(Lora(rank=2, targets=["routers"]), model), tmp_path / "adapter")
    for mixture in model.omni.backbone.mixtures:
        assert all(gate.expert_bias is not None for gate in mixture.gates)
    assert not any("expert_bias" in name for name in load_file(folder / WEIGHTS))
    model = load(export("nano", folder, tmp_path / "out"), dtype="bfloat16")
    after = {name: b for name, b in model.omni.named_buffers() if "expert_bias" in name}
    assert same(before, after)
    assert all(bias.dtype == torch.float32 for bias in after.values())


def test_an_export_has_the_types_of_its_base_and_the_bits_of_the_merged_model(
    tmp_path: Path,
) -> None:
    folder = saved(tuned(Lora(rank=2, targets=["attention", "image_tower"])), tmp_path / "adapter")
    merged = nano()
    merge(merged, folder)
    out = export("nano", folder, tmp_path / "out")
    exported = parts_of(load(out))
    assert same(merged.omni.state_dict(), exported.omni.state_dict())
    stored = load_file(out / "model.safetensors")
    assert {t.dtype for name, t in stored.items() if "expert_bias" not in name} == {torch.bfloat16}
    assert exported.knowledge is None  # what nano knows is not what the tuned model knows
    assert merged.knowledge is None


def test_an_adapter_is_refused_by_another_model(base: Path, tmp_path: Path) -> None:
    folder = saved(tuned(Lora(rank=2)), tmp_path / "adapter")
    other = nano()
    with torch.no_grad():
        weight(other, "encoders.image.vision.blocks.0.attn.qkv.weight")[0, 0] += 0.5
    other.save(tmp_path / "other")
    model = load(tmp_path / "other")
    before = weight(model, "backbone.layers.0.attention.dense.weight").clone()
    with pytest.raises(
        BadCheckpoint, match="trained for another model, 'nano': the part for image"
    ):
        merge(model, folder)
    assert torch.equal(weight(model, "backbone.layers.0.attention.dense.weight"), before)
    merge(parts_of(load(base)), folder)  # the same weights in another folder and type


def test_an_adapter_goes_on_from_its_file(tmp_path: Path) -> None:
    lora = Lora(rank=2, targets=OTHERS, whole=["embeddings"])
    first = tuned(lora)
    folder = saved(first, tmp_path / "adapter")
    second = nano()
    inject(second.omni, lora, seed=5)
    load_adapter(second.omni, load_file(folder / WEIGHTS))
    assert same(dict(added(first.omni)), dict(added(second.omni)))


def test_first_values_depend_on_the_seed_alone() -> None:
    made = [nano() for _ in range(3)]
    for model, seed in zip(made, (1, 1, 2)):
        torch.rand(7)
        inject(model.omni, Lora(rank=2, targets=["attention"]), seed)
    one, same_seed, other = (dict(added(model.omni)) for model in made)
    assert same(one, same_seed)
    assert not same(one, other)
    with torch.no_grad():
        for parameter in same_seed.values():
            parameter.fill_(7)
    initialise(made[1].omni, 1)
    assert same(one, dict(added(made[1].omni)))


def test_names_before_are_those_of_the_model() -> None:
    model = nano()
    names = set(dict(model.omni.named_parameters()))
    inject(model.omni, Lora(rank=2, targets=OTHERS, whole=["embeddings"]))
    before = [name_before(name) for name, _ in model.omni.named_parameters()]
    assert {name for name in before if name} == names
    assert before.count("backbone.lm_head.weight") == 2


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (Lora(2, targets=["atention"]), "'atention', which fits no layer .* mean 'attention'"),
        (Lora(2, targets=["dense"]), "'dense', but this model has nothing of that kind"),
        (Lora(2, targets=["("]), "'\\(', which is no pattern"),
        (Lora(2, targets=["experts"], dropout=0.1), "no dropout for experts and routers"),
        (Lora(2, targets=["embeddings"], whole=["embeddings"]), "both name backbone.lm_head"),
        (Lora(2, targets=[], whole=[]), "name nothing to train"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(lora: Lora, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        inject(nano().omni, lora)


def test_patterns_choose_some_layers() -> None:
    found = targets_of(nano().omni, Lora(2, targets=[r"backbone\.layers\.[0-2]\.attention\.dense"]))
    assert found.modules == [f"backbone.layers.{i}.attention.dense" for i in range(3)]
    assert not found.parameters


def damaged(folder: Path, how: str) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    tensors = load_file(folder / WEIGHTS)
    with (folder / WEIGHTS).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    name = next(name for name in tensors if "lora_B" in name)
    if how == "no settings":
        (folder / SETTINGS).unlink()
        return
    if how == "no weights":
        (folder / WEIGHTS).unlink()
        return
    if how == "dora":
        settings["use_dora"] = True
    elif how == "rank":
        settings["r"] = "two"
    elif how == "nan":
        tensors[name][0, 0] = float("nan")
    elif how == "half":
        del tensors[name]
    elif how == "shape":
        tensors[name] = tensors[name][:-1].contiguous()
    elif how == "unknown":
        header = {}
    (folder / SETTINGS).write_text(json.dumps(settings))
    save_file(tensors, folder / WEIGHTS, header)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no settings", "has no adapter_config.json"),
        ("no weights", "adapter_model.safetensors does not exist"),
        ("dora", "LoRA with use_dora"),
        ("rank", "has no usable r and lora_alpha"),
        ("nan", "not finite"),
        ("half", "lacks the second half"),
        ("shape", "does not fit"),
        ("unknown", "does not say which model it is for"),
    ],
)
def test_adapters_that_cannot_be_used_are_refused(
    how: str, message: str, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    damaged(folder, how)
    model = load("nano", dtype="float32")
    before = {name: p.clone() for name, p in model.omni.named_parameters()}
    with pytest.raises(BadCheckpoint, match=message):
        merge(model, folder)
    assert before
    assert all(torch.equal(weight(model, name), value) for name, value in before.items())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tuned(Lora(rank=2)), tmp_path_factory.mktemp("run") / "adapter")


def test_merging_imports_neither_peft_nor_transformers() -> None:
    code = (
        "import sys, ming_recipes.training.merging\n"
        "print({'peft', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_command_writes_the_merged_model(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["export", "--adapter", str(adapter), "-o", str(out)])
    assert ended.value.code == 0
    merged = nano()
    merge(merged, adapter)
    assert same(merged.omni.state_dict(), parts_of(load(out)).omni.state_dict())
    with pytest.raises(SystemExit) as ended:
        main(["export", "--adapter", str(adapter.parent), "-m", "nano", "-o", str(out)])
    assert ended.value.code == 2
    assert "exists and is not empty" in capsys.readouterr().err
