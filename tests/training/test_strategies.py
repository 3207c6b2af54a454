"""Two processes train as one does, whatever they share and whatever their batches hold."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ming_core
from ming_core.checkpoints.formats import open_checkpoint
from ming_core.checkpoints.keymap import Slot
from ming_core.errors import BadConfig
from ming_core.loading import open_sources
from ming_recipes.training.norms import clip_gradients
from ming_recipes.training.shards import Cut, Place, held, pieces
from ming_recipes.training.strategies import Layout, Strategy, layout
from ming_recipes.training.tensor_parallel import cuts_of

SCRIPT = Path(__file__).with_name("toy_training.py")
_spec = importlib.util.spec_from_file_location("toy_training", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
toy = sys.modules["toy_training"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)

ALONE = Layout("one", 1, 1, 1)
KINDS = ("ddp", "fsdp2", "tensor_parallel")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torchrun's two processes have written: one after the other, all that they are asked."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(SCRIPT), str(out), *KINDS, "half", "lora"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            said, _ = run.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            raise
    assert run.returncode == 0, said[-5000:]
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same training in this process, in one go."""
    module, _ = toy.module_of(ALONE)
    losses = toy.fit(ALONE, module, toy.STEPS, tmp_path_factory.mktemp("one"))
    return {"losses": losses, "weights": toy.averaged(module)}


def of_steps(losses: list[tuple[float, float]]) -> torch.Tensor:
    """The mean loss of each step, of so many micro-batches as there are."""
    totals, counts = torch.tensor(losses, dtype=torch.float64).view(toy.STEPS, -1, 2).sum(1).T
    return totals / counts


def weights_of(out: Path, kind: str) -> dict[str, torch.Tensor]:
    """After the training; those of sharded models out of what they have exported."""
    if kind == "ddp":
        return torch.load(out / "ddp-0.pt")["weights"]
    model = ming_core.load(out / f"{kind}-model", device="cpu", dtype="float32")
    for name in toy.ENCODERS:
        model.encoder(name)
    return model.omni.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(kind: str, ran: Path, alone: dict[str, Any]) -> None:
    """One has text only, the other pictures, a video and a sound. The state was saved after two
    steps and the third went on from it; gradients were clipped; some weights are frozen.
    Compared is a moving average; sharded, it was read again from the best state and exported."""
    found = torch.load(ran / f"{kind}-0.pt")
    torch.testing.assert_close(
        of_steps(found["losses"]), of_steps(alone["losses"]), rtol=0, atol=1e-5
    )
    weights = weights_of(ran, kind)
    assert weights.keys() == alone["weights"].keys()
    for name, value in alone["weights"].items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-5, msg=name)


def test_the_training_moves_what_is_trained_only(alone: dict[str, Any]) -> None:
    """Or the comparison above would say nothing."""
    before = toy.whole_model().state_dict()
    moved = {name for name, value in alone["weights"].items() if not value.equal(before[name])}
    assert "backbone.layers.0.mlp.gate.expert_bias" in moved
    assert "encoders.audio.audio.blocks.0.attn.query.weight" in moved
    assert "backbone.layers.5.mlp.experts.gate_up_proj" in moved
    assert not {name for name in moved if ".conv1." in name or "patch_embed" in name}


@pytest.mark.parametrize("kind", ["fsdp2", "tensor_parallel"])
def test_each_process_reads_its_part_of_the_weights(kind: str, ran: Path) -> None:
    sizes, whole = [torch.load(ran / f"{kind}-{rank}.pt")["read"] for rank in (0, 1)], 0
    shared, config = 0, open_sources("nano", "cpu", "float32", None)
    cut = cuts_of(config.backbone_config, 2)
    for name in ("backbone", *toy.ENCODERS):
        prepared = config.prepare(name)
        buffers = dict(prepared.module.named_buffers())
        for released, slot in prepared.match.items():
            size = prepared.part.tensors[released].nbytes
            whole += size
            both = slot.name in buffers or (kind == "tensor_parallel" and slot.name not in cut)
            shared += size if both or (name != "backbone" and kind == "tensor_parallel") else 0
    assert sum(sizes) == whole + shared
    assert max(sizes) <= (0.51 if kind == "fsdp2" else 0.76) * whole


@pytest.mark.parametrize("kind", ["fsdp2", "tensor_parallel"])
def test_an_export_that_fails_ends_all_processes(kind: str, ran: Path) -> None:
    first, second = (torch.load(ran / f"{kind}-{rank}.pt")["refused"] for rank in (0, 1))
    assert first.startswith("BadCheckpoint: ")
    assert "exists and is not empty" in first
    assert second.startswith("CannotWrite: process 0 cannot write")


def test_an_export_has_the_released_names(ran: Path) -> None:
    """Of experts, too, which are stacked and cut in training."""
    found = open_checkpoint(ran / "tensor_parallel-model").tensors
    sources = open_sources("nano", "cpu", "float32", ("text",))
    names = {name: info.shape for name, info in sources.checkpoints[0].tensors.items()}
    assert {name: found[name].shape for name in names} == names


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_one_file_of_plain_tensors(kind: str, ran: Path) -> None:
    state = torch.load(ran / kind / "checkpoints/last.ckpt", weights_only=True)
    name = "omni.backbone.layers.0.mlp.experts.gate_up_proj"
    assert type(state["state_dict"][name]) is torch.Tensor
    assert state["state_dict"][name].shape == (8, 256, 192)
    assert state["global_step"] == toy.STEPS


def test_an_adapter_trains_sharded_as_in_one_process(ran: Path, tmp_path: Path) -> None:
    """In attention, experts, routers and projectors."""
    found, alone = torch.load(ran / "lora-0.pt"), toy.lora(ALONE, tmp_path)
    torch.testing.assert_close(
        of_steps(found["losses"]), of_steps(alone["losses"]), rtol=0, atol=1e-5
    )
    assert found["adapter"].keys() == alone["adapter"].keys()
    for name, value in alone["adapter"].items():
        assert value.any(), name
        torch.testing.assert_close(found["adapter"][name], value, rtol=0, atol=1e-5, msg=name)


def test_islands_are_float32_and_the_rest_is_computed_in_bfloat16(ran: Path) -> None:
    found = torch.load(ran / "half-0.pt")
    used, kept = found["used"], found["kept"]
    for name, dtype in used.items():
        language = name.startswith("backbone.")
        island = language and (name.endswith("norm.weight") or "gate.weight" in name)
        assert dtype == (torch.float32 if island else torch.bfloat16), name
    for name, dtype in kept.items():  # what is trained and what a rule moves is exact
        tower = name.startswith("encoders.") and "linear_proj" not in name
        exact = not tower or ".blocks." in name or name.endswith("positional_embedding")
        assert dtype == (torch.float32 if exact else torch.bfloat16), name


@pytest.mark.parametrize(
    ("slot", "shape", "cut"),
    [
        (Slot("w"), (10, 6), None),
        (Slot("w", (slice(4, 8),)), (8, 6), Cut(0, (4, 4))),
        (Slot("w"), (16, 6), Cut(0, (8, 4, 4))),  # queries, keys and values
        (Slot("w", (3, slice(4, 8))), (5, 8, 3), Cut(1, (4, 4))),  # an expert's second half
        (Slot("w", (3,)), (5, 3, 8), Cut(2, (8,))),
        (Slot("w"), (3,), None),
    ],
)
@pytest.mark.parametrize("data", [1, 2, 4])
@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_pieces_make_up_a_tensor(
    slot: Slot, shape: tuple[int, ...], cut: Cut | None, data: int, tensor: int
) -> None:
    """Those of all places lie side by side; places of one tensor group have the same without a
    cut."""
    whole = torch.arange(torch.Size(shape).numel()).view(shape)
    found = torch.full_like(slot.of(whole), -1)
    count = 0
    for number in range(data):
        for other in range(tensor if cut else 1):
            ranges = held(shape, cut, Place(number, data, other, tensor))
            part = whole
            for dim, parts in enumerate(ranges):
                rows = [index for one in parts for index in one]
                part = part.index_select(dim, torch.tensor(rows, dtype=torch.long))
            for piece in pieces(slot, shape, ranges):
                found[piece.there] = part[piece.here]
                count += found[piece.there].numel()
    assert found.equal(slot.of(whole))
    assert count == found.numel()


def test_clipping_is_that_of_torch() -> None:
    ours, theirs = ([torch.nn.Parameter(torch.ones(3, 2)) for _ in range(3)] for _ in range(2))
    for mine, other in zip(ours[:2], theirs[:2], strict=True):  # the third has no gradient
        mine.grad = torch.randn(3, 2)
        other.grad = mine.grad.clone()
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert float(clip_gradients(ours, 0.5)) == pytest.approx(float(norm))
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
SLURM = {"SLURM_NTASKS": "16", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "ming"}


@pytest.mark.parametrize("started", [TORCHRUN, SLURM], ids=("torchrun", "slurm"))
def test_what_was_started_is_used(started: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert layout(Strategy(), started) == Layout("ddp", 8, 2, 1)
    found = layout(Strategy(kind="tensor_parallel", tensor_parallel=4), started)
    assert (found.tensor, found.data, found.sharded) == (4, 4, True)


@pytest.mark.parametrize(
    ("strategy", "started", "words"),
    [
        (Strategy(kind="fsdp"), {}, "strategy.kind is 'fsdp'; it must be one of auto, ddp"),
        (Strategy(devices=4), TORCHRUN, "torchrun or SLURM has started 8 processes on each of 2"),
        (Strategy(devices=4, tensor_parallel=2), {}, "set strategy.kind=tensor_parallel"),
        (
            Strategy(devices=4, kind="tensor_parallel", tensor_parallel=3),
            {},
            "strategy.tensor_parallel is 3, which does not divide the 4 devices",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    strategy: Strategy, started: dict[str, str], words: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadConfig) as error:
        layout(strategy, started)
    assert words in str(error.value)


def test_a_model_that_cannot_be_cut_is_refused() -> None:
    config = open_sources("nano", "cpu", "float32", ("text",)).backbone_config
    with pytest.raises(BadConfig) as error:
        cuts_of(config, 4)
    assert str(error.value) == (
        "tensor_parallel is 4, which does not divide the 2 key heads of this model; take a number "
        "that divides it, or strategy.kind=fsdp2"
    )
