"""Key maps, streamed loading, export: what one puts in comes back bit by bit, and cheaply."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ming_core.checkpoints.formats import fingerprint, open_checkpoint, open_weights, read_config
from ming_core.checkpoints.keymap import Slot, backbone_slots, identity_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.checkpoints.writing import export
from ming_core.errors import BadCheckpoint
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of, release_of

LITE = {
    "model_type": "bailing_moe",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_shared_experts": 2,
    "moe_intermediate_size": 6,
    "first_k_dense_replace": 0,
    "multi_gate": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "rope_scaling": None,
}
FLASH = LITE | {
    "model_type": "bailing_moe_v2",
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "router_type": "MultiRouter",
    "rope_scaling": {"type": "video_rope"},
}


def make(llm: dict, seed: int = 0) -> Backbone:
    """A backbone whose every tensor, biases included, is random."""
    torch.manual_seed(seed)
    backbone = Backbone(backbone_of({"llm_config": llm}))
    for tensor in backbone.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape))
    return backbone


def hollow(llm: dict) -> Backbone:
    with on_meta():
        return Backbone(backbone_of({"llm_config": llm}))


def export_backbone(backbone: Backbone, folder: Path, llm: dict, **options) -> None:
    slots = backbone_slots(backbone.config)
    export({"backbone": (backbone, slots)}, folder, {"llm_config": llm}, **options)


def assert_same(left: nn.Module, right: nn.Module) -> None:
    expected = right.state_dict()
    assert left.state_dict().keys() == expected.keys()
    for name, tensor in left.state_dict().items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("llm", [LITE, FLASH], ids=["lite", "flash"])
@pytest.mark.parametrize("shard", [4000, 10**9], ids=["sharded", "single"])
def test_round_trip_is_bit_exact(tmp_path: Path, llm: dict, shard: int) -> None:
    source = make(llm)
    export_backbone(source, tmp_path / "out", llm, max_shard_bytes=shard)
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.config == {"llm_config": llm}
    target = hollow(llm)
    load_module(target, checkpoint, backbone_slots(target.config), "cpu", torch.float32)
    assert_same(target, source)
    export_backbone(target, tmp_path / "again", llm, max_shard_bytes=shard)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert len(files) > 5 if shard == 4000 else files == ["config.json", "model.safetensors"]
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_export_is_what_other_engines_expect(tmp_path: Path) -> None:
    backbone = make(FLASH)
    extra = tmp_path / "tokenizer.json"
    extra.write_text('{"a": 1}')
    export_backbone(backbone, tmp_path / "out", FLASH, max_shard_bytes=4000, files=[extra])
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(index["weight_map"].values())):
        loaded = load_file(tmp_path / "out" / shard)
        assert set(loaded) == {n for n, s in index["weight_map"].items() if s == shard}
        size = sum(t.nbytes for t in loaded.values())
        assert size <= 4000 or len(loaded) == 1
        tensors |= loaded
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    mlp = "model.model.layers.1.mlp"
    stacked = backbone.state_dict()["layers.1.mlp.experts.gate_up_proj"]
    assert torch.equal(tensors[f"{mlp}.experts.3.gate_proj.weight"], stacked[3, :6])
    assert torch.equal(tensors[f"{mlp}.experts.3.up_proj.weight"], stacked[3, 6:])
    shared = backbone.state_dict()["layers.1.mlp.shared_experts.gate_up_proj.weight"]
    assert torch.equal(tensors[f"{mlp}.shared_experts.up_proj.weight"], shared[12:])
    assert tensors["model.model.layers.0.mlp.gate_proj.weight"].shape == (24, 16)
    assert tensors[f"{mlp}.audio_gate.expert_bias"].shape == (4,)
    assert tensors["model.lm_head.weight"].shape == (40, 16)
    assert (tmp_path / "out/tokenizer.json").read_text() == '{"a": 1}'


def test_single_file_equals_the_librarys(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    module.register_buffer("count", torch.tensor(7))
    module.register_buffer("narrow", torch.ones(3, dtype=torch.bfloat16))
    export({"x": (module, identity_slots(module))}, tmp_path / "out", {})
    save_file(dict(module.state_dict()), tmp_path / "theirs.safetensors", {"format": "pt"})
    ours = (tmp_path / "out/model.safetensors").read_bytes()
    assert ours == (tmp_path / "theirs.safetensors").read_bytes()


def test_half_precision_keeps_the_bias_in_float32(tmp_path: Path) -> None:
    source = make(FLASH)
    export_backbone(source, tmp_path / "half", FLASH, dtype=torch.bfloat16)
    target = hollow(FLASH)
    load_module(
        target, open_weights(tmp_path / "half"), backbone_slots(target.config), "cpu", torch.float16
    )
    gate = target.get_submodule("layers.1.mlp.image_gate").state_dict()
    reference = source.state_dict()
    assert gate["weight"].dtype == torch.float16
    assert gate["expert_bias"].dtype == torch.float32
    assert torch.equal(gate["expert_bias"], reference["layers.1.mlp.image_gate.expert_bias"])
    expected = reference["layers.1.mlp.image_gate.weight"].bfloat16().half()
    assert torch.equal(gate["weight"], expected)


def test_bias_that_is_a_parameter_in_the_release_loads_as_our_buffer(tmp_path: Path) -> None:
    backbone = hollow(FLASH)
    export_backbone(make(FLASH), tmp_path / "out", FLASH)
    load_module(
        backbone, open_weights(tmp_path / "out"), backbone_slots(backbone.config), "cpu", torch.half
    )
    assert "layers.1.mlp.gate.expert_bias" in dict(backbone.named_buffers())


def test_standalone_names_and_ling_aliases(tmp_path: Path) -> None:
    llm = FLASH | {"router_type": None}
    source = make(llm)
    slots = backbone_slots(source.config, prefix="")
    assert "lm_head.weight" in slots
    assert "model.layers.1.mlp.image_gate.weight" not in slots
    ling = {
        name.replace("q_norm", "query_layernorm").replace("k_norm", "key_layernorm"): slot.of(
            source.state_dict()[slot.name]
        ).clone()
        for name, slot in slots.items()
    }
    assert set(ling) != set(slots)
    save_file(ling, tmp_path / "ling.safetensors")
    target = hollow(llm)
    load_module(target, open_weights(tmp_path / "ling.safetensors"), slots, "cpu", torch.float32)
    assert_same(target, source)


class Part(nn.Module):
    """An encoder-like module: released names, a non-persistent buffer, an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = nn.Linear(4, 3)
        self.vision.weight.requires_grad_(False)
        self.linear_proj = nn.Sequential(nn.Linear(3, 2), nn.GELU(), nn.Linear(2, 2))
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.register_buffer("steps", torch.tensor(3))


def test_several_parts_share_a_checkpoint_and_only_the_wanted_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, part = make(LITE), Part()
    slots = backbone_slots(backbone.config)
    parts = {"backbone": (backbone, slots), "image": (part, identity_slots(part))}
    export(parts, tmp_path / "out", {}, max_shard_bytes=4000)
    checkpoint = open_checkpoint(tmp_path / "out")
    read: list[str] = []
    original = type(checkpoint).read
    monkeypatch.setattr(
        type(checkpoint), "read", lambda self, name: (read.append(name), original(self, name))[1]
    )
    with on_meta():
        target = Part()
    table = target.table
    progress: list[tuple[int, int]] = []
    load_module(
        target,
        checkpoint,
        identity_slots(target),
        "cpu",
        torch.float32,
        lambda done, total: progress.append((done, total)),
    )
    assert sorted(read) == sorted(part.state_dict())
    assert_same(target, part)
    assert target.table is table
    assert not target.vision.weight.requires_grad
    assert target.linear_proj[0].weight.requires_grad
    total = sum(t.nbytes for t in part.state_dict().values())
    assert progress[-1] == (total, total)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


backbones = st.builds(
    lambda base, layers, dense, experts, shared, gates: (
        base
        | {
            "num_hidden_layers": layers,
            "first_k_dense_replace": dense,
            "num_experts": experts,
            "num_shared_experts": shared,
            "multi_gate": gates,
            "router_type": "MultiRouter" if gates else None,
        }
    ),
    base=st.sampled_from([LITE, FLASH]),
    layers=st.integers(1, 3),
    dense=st.integers(0, 2),
    experts=st.sampled_from([4, 8]),
    shared=st.integers(0, 2),
    gates=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(llm=backbones, order=st.randoms(use_true_random=False))
def test_key_map_is_a_bijection(llm: dict, order: random.Random) -> None:
    """Every element of the module belongs to one released tensor, in whatever order one goes."""
    config = backbone_of({"llm_config": llm})
    source = make(llm)
    slots = list(backbone_slots(config).items())
    order.shuffle(slots)
    state = source.state_dict()
    released = {name: slot.of(state[slot.name]).clone() for name, slot in slots}
    visits = {name: torch.zeros(tensor.shape, dtype=torch.int32) for name, tensor in state.items()}
    back = {name: torch.full(tensor.shape, float("nan")) for name, tensor in state.items()}
    order.shuffle(slots)
    for name, slot in slots:
        slot.of(visits[slot.name]).add_(1)
        slot.of(back[slot.name]).copy_(released[name])
    assert all(bool((count == 1).all()) for count in visits.values())
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_table_that_does_not_fit_its_module_is_a_programming_error(tmp_path: Path) -> None:
    linear = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not account for bias"):
        export({"x": (linear, {"weight": Slot("weight")})}, tmp_path / "out", {})
    with pytest.raises(ValueError, match=r"v maps to gate, which the module does not have"):
        export({"x": (linear, {"v": Slot("gate")})}, tmp_path / "out", {})
    both = identity_slots(linear)
    with pytest.raises(ValueError, match=r"parts x and y both hold weight"):
        export({"x": (linear, both), "y": (linear, both)}, tmp_path / "out", {})
    with pytest.raises(ValueError, match=r"meta device"):
        export({"x": (linear.to("meta"), both)}, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_depends_on_content_and_not_on_layout(tmp_path: Path) -> None:
    backbone = make(LITE)
    for shard in (4000, 10**9):
        export_backbone(backbone, tmp_path / str(shard), LITE, max_shard_bytes=shard)
    prints = {fingerprint(open_weights(tmp_path / str(shard))) for shard in (4000, 10**9)}
    assert len(prints) == 1
    with torch.no_grad():
        backbone.norm.weight[3] += 1e-6
    export_backbone(backbone, tmp_path / "other", LITE)
    assert fingerprint(open_weights(tmp_path / "other")) not in prints


@pytest.mark.parametrize(
    ("llm", "family"),
    [
        (LITE, "lite-1.0"),
        (LITE | {"rope_scaling": {"type": "3D", "factor": None}}, "lite-1.5"),
        (FLASH, "flash"),
        (LITE | {"rope_scaling": {"type": "yarn"}}, None),
        (FLASH | {"rope_scaling": None}, None),
        (LITE | {"model_type": "llama"}, None),
        (LITE | {"model_type": ["bailing_moe"]}, None),
        ("bailing_moe", None),
        (None, None),
    ],
)
def test_family_is_told_from_the_language_model(llm: object, family: str | None) -> None:
    config = {"llm_config": llm, "model_type": "anything"}
    if family is None:
        with pytest.raises(BadCheckpoint, match="unknown checkpoint"):
            release_of(config)
    else:
        assert release_of(config).name == family


def test_hub_cache_links_are_followed_and_others_are_not(tmp_path: Path) -> None:
    """The download cache keeps snapshots as links into its own `blobs` folder."""
    blobs, snapshot = tmp_path / "repo/blobs", tmp_path / "repo/snapshots/abc"
    export_backbone(make(LITE), blobs, LITE)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert open_checkpoint(snapshot).config["llm_config"] == LITE
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").symlink_to(blobs / "config.json")
    with pytest.raises(BadCheckpoint, match=r"config\.json.* lies outside"):
        read_config(elsewhere)


PEAK = """
import sys, torch
from pathlib import Path
from ming_core.checkpoints.formats import open_checkpoint
from ming_core.checkpoints.keymap import backbone_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def load(folder):
    checkpoint = open_checkpoint(folder)
    config = backbone_of(checkpoint.config)
    with on_meta():
        backbone = Backbone(config)
    load_module(backbone, checkpoint, backbone_slots(config), "cpu", torch.bfloat16)
    return backbone

load(sys.argv[1])  # kernels that come with the first use are no part of the claim
assert "sympy" not in sys.modules  # building on meta must not pull torch's symbolic shapes
before = peak()
backbone = load(sys.argv[2])
size = sum(t.nbytes for t in backbone.state_dict().values())
print((peak() - before) / size, size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_peak_memory_is_the_model_and_a_tenth(tmp_path: Path) -> None:
    """float32 on disk, bfloat16 in memory: any copy of a shard or of the model would show."""
    wide = LITE | {"hidden_size": 512, "moe_intermediate_size": 1024, "num_experts": 16}
    export_backbone(make(LITE), tmp_path / "small", LITE)
    export_backbone(make(wide), tmp_path / "wide", wide, max_shard_bytes=50_000_000)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "wide")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    ratio, size = (float(word) for word in result.stdout.split())
    assert size > 100e6
    assert 0.9 < ratio < 1.10  # one tensor is 0.037 of this model


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (f"{tmp_path}/file/a", f"{tmp_path}/a\0b", f"{tmp_path}/{'x' * 300}"):
        with pytest.raises(BadCheckpoint, match=r"^cannot write [^\n]*; ") as refused:
            export({}, folder, {})
        assert "Errno" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
