"""The module in a trainer: what is trained, what a step counts, and what its state holds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ming_core.errors import BadConfig
from ming_core.model.omni import Omni
from ming_recipes.training.batch import Batch
from ming_recipes.training.checkpointing import checkpoint_layers
from ming_recipes.training.forward import Forward, run
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Answers, Balance, Objective, Term, Terms
from ming_recipes.training.optimizers import Optimizer, hidden_matrices, make_optimizer
from ming_recipes.training.patterns import rates
from ming_recipes.training.schedules import schedule

pytestmark = pytest.mark.filterwarnings("ignore:.*(val_dataloader|many workers|LeafSpec)")

EVERYTHING = {"*": 1.0}
PLAIN = Optimizer(rate=1e-3, schedule="constant", warmup=0)


def trained(
    module: OmniModule, batches: Sequence[Batch], accumulate: int = 1, **rest: Any
) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(batches) // accumulate,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        **rest,
    )
    loader = DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader)
    return trainer


def module_of(omni: Omni, train: dict[str, float], steps: int = 1, **rest: Any) -> OmniModule:
    rest = {"objectives": [Answers(), Balance()], "weights": {"balance": 1e-2, "z": 1e-3}} | rest
    return OmniModule(
        lambda: omni, optimizer=rest.pop("optimizer", PLAIN), steps=steps, train=train, **rest
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_only_named_weights_are_trained_each_at_its_rate(
    omni: Omni, batch_of: Callable[..., Batch]
) -> None:
    before = copy.deepcopy(omni)
    train = {"backbone.layers.*": 1.0, "backbone.layers.1.*": 0.1, "encoders.image.linear*": 0.5}
    module = module_of(omni, train)
    trained(module, [batch_of(["both", "text"])])
    moved = {
        name: float((own - old).detach().abs().max())
        for (name, own), old in zip(omni.named_parameters(), before.parameters())
    }
    named = {"backbone.layers.0.attention.dense.weight": 1e-3}
    named |= {"backbone.layers.1.attention.dense.weight": 1e-4}
    named |= {"encoders.image.linear_proj.0.weight": 5e-4}
    for name, rate in named.items():
        assert moved[name] == pytest.approx(rate, rel=0.01)  # the first step of AdamW
    assert {name for name, by in moved.items() if by} == set(module.rates)
    assert not any(name.startswith("encoders.audio") for name in module.rates)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"backbone.layer.*": 1.0},
            "no weight has a name like 'backbone.layer.*'; near it: .*layers",
        ),
        ({"encoder.image*": 1.0}, "no weight has a name like .* near it: encoders.image"),
        ({}, "no weight is trained"),
        ({"*": 0.0}, "no weight is trained"),
    ],
)
def test_patterns_that_train_nothing_are_refused(
    omni: Omni, train: dict[str, float], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        module_of(omni, train).configure_model()


def test_unknown_terms_are_refused(omni: Omni) -> None:
    with pytest.raises(BadConfig, match="has a term 'balanse'; did you mean 'balance'"):
        module_of(omni, EVERYTHING, weights={"balanse": 1.0})


@pytest.mark.parametrize("names", [["text"], ["sound"], ["video", "text"]])
def test_any_batch_trains_nano(
    omni: Omni, batch_of: Callable[..., Batch], names: list[str]
) -> None:
    """A step of everything, although the batch has no picture, or nothing but text."""
    trained(module_of(omni, EVERYTHING), [batch_of(names)])
    assert all(p.isfinite().all() for p in omni.parameters())


def test_a_coefficient_changes_the_gradient(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    batch, found = batch_of(["both"]), []
    gate = omni.backbone.mixtures[-1].gates[0].weight
    for factor in (0.0, 1.0):
        module = module_of(omni, EVERYTHING, weights={"balance": factor})
        module.configure_model()
        module.trainer = Trainer(accelerator="cpu", devices=1, logger=False)
        omni.zero_grad()
        module.training_step(batch, 0)["loss"].backward()
        assert gate.grad is not None
        found.append(gate.grad.clone())
    assert (found[0] - found[1]).abs().max() > 1e-6


def test_micro_batches_count_as_one_batch(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    """Two micro-batches of different sizes move every weight, and the biases, as one with both."""
    first, second = ["both", "text"], ["video", "longer text", "sound"]
    parts = [batch_of(names, capacity=160) for names in (first, second)]
    weight = sum(float(part.weights.sum()) for part in parts)
    tokens = sum(part.tokens for part in parts)
    parts = [
        batch_of(names, capacity=160, step_weight=weight, step_tokens=tokens)
        for names in (first, second)
    ]
    terms = {"objectives": [Answers(), Balance()], "weights": {"balance": 0.0, "z": 1e-2}}
    whole = copy.deepcopy(omni)
    optimizer = Optimizer(rate=1e-3, schedule="constant", warmup=0, eps=1e-3)
    trained(
        module_of(whole, EVERYTHING, optimizer=optimizer, **copy.deepcopy(terms)),
        [batch_of([*first, *second], capacity=160)],
    )
    trained(module_of(omni, EVERYTHING, optimizer=optimizer, **terms), parts, accumulate=2)
    for (name, one), other in zip(omni.state_dict().items(), whole.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5, msg=name)


class Noise(nn.Module, Objective):
    """An objective with a weight of its own."""

    keep, terms = (1,), ("noise",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def __call__(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        shift = torch.randn((), generator=rng)
        total = (forward.kept[1].float().mean() * self.scale + shift).square()
        return {"noise": Term(total, 1.0), "noise/shift": Term(shift, 1.0)}


def test_an_objective_may_have_weights(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    noise = Noise()
    module = module_of(
        omni,
        {"backbone.norm*": 1.0, "objectives.1.*": 0.1},
        objectives=[Answers(), noise],
        weights={},
    )
    trained(module, [batch_of(["text"])])
    assert float(noise.scale.detach()) == pytest.approx(1 - 1e-4, abs=1e-5) or float(
        noise.scale.detach()
    ) == pytest.approx(1 + 1e-4, abs=1e-5)


def test_the_state_holds_what_is_trained(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    train = {"backbone.layers.0.attention.*": 1.0}
    module = module_of(omni, train, average=0.5)
    trainer = trained(module, [batch_of(["text"])])
    state = trainer._checkpoint_connector.dump_checkpoint()
    assert any(name.endswith("expert_bias") for name in state["state_dict"])
    names = set(state["state_dict"]) - {name for name, _ in module.named_buffers()}
    assert names == {f"omni.{name}" for name in module.rates}
    assert names == set(state["average"])


def test_the_average_is_of_the_masters(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    """In bfloat16 most steps do not change a weight; the average still follows them."""
    name = "backbone.layers.0.attention.dense.weight"
    omni = omni.to(torch.bfloat16)
    optimizer = Optimizer(rate=1e-5, schedule="constant", warmup=0)
    module = module_of(
        omni, {name: 1.0}, 3, average=0.5, optimizer=optimizer, compute_dtype=torch.bfloat16
    )
    start = omni.get_parameter(name).detach().float().clone()
    batches = [batch_of([x], capacity=90) for x in ("text", "longer text", "text")]
    trainer = trained(module, batches)
    assert module.average is not None
    mean = module.average.values[f"omni.{name}"]
    assert mean.dtype == torch.float32
    master = trainer.optimizers[0].state[omni.get_parameter(name)]["master"]
    assert 0 < float((mean - start).abs().max()) < float((master - start).abs().max())
    now = omni.get_parameter(name).detach().clone()
    with module.averaged():
        assert torch.equal(omni.get_parameter(name), mean.to(torch.bfloat16))
    assert torch.equal(omni.get_parameter(name), now)


def test_resumed_average_goes_on(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    train, batch = {"backbone.norm*": 1.0}, batch_of(["text"])
    module = module_of(omni, train, average=0.9)
    state = trained(module, [batch])._checkpoint_connector.dump_checkpoint()
    other = module_of(omni, train, average=0.9)
    other.configure_model()
    other.on_load_checkpoint(state)
    other.on_fit_start()
    assert other.average is not None
    assert module.average is not None
    for name, value in module.average.values.items():
        assert torch.equal(other.average.values[name], value)


def test_muon_takes_hidden_matrices(omni: Omni) -> None:
    """Those of attention, experts, towers and projectors; 95 of nano's weights."""
    names = hidden_matrices(omni)
    kinds = {name.rsplit(".", 2)[-2 if name.endswith("weight") else -1] for name in names}
    assert {"query_key_value", "dense", "gate_up_proj", "down_proj", "qkv", "query"} <= kinds
    assert len(names) == 95
    for name in ("word_embeddings", "lm_head", "gate.weight", "patch_embed", "conv", "norm"):
        assert not any(name in found for found in names - {n for n in names if "gate_" in n})


def test_groups_decay_matrices_only(omni: Omni) -> None:
    settings = Optimizer(kind="muon", weight_decay=0.1)
    optimizer = make_optimizer(settings, [(omni, rates(omni, {"*": 1.0, "encoders.*": 0.5}))])
    names = {p: name for name, p in omni.named_parameters()}
    decaying = {names[p] for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert hidden_matrices(omni) < decaying
    assert all(omni.get_parameter(name).dim() > 1 for name in decaying)
    assert not any("embeddings" in n or n.endswith("gate.weight") for n in decaying)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(names)
    found = {g["lr"] for g in optimizer.param_groups}
    assert found == {0.01, 0.005, 1e-4, 5e-5}


def test_schedules() -> None:
    cosine = schedule("cosine", 100, warmup=0.1, end=0.1)
    assert [cosine(0), cosine(9)] == pytest.approx([0.1, 1 - 0.9 * (1 - 0.9801) / 1], abs=0.02)
    assert cosine(100) == pytest.approx(0.1)
    linear = schedule("linear", 100, warmup=5)
    assert [linear(4), linear(50), linear(100)] == pytest.approx([0.96, 0.5, 0.0])
    assert schedule("constant", 10)(9) == 1.0
    joined = [schedule("cosine", 40, before=60)(n) for n in (0, 20)]
    assert joined == pytest.approx([schedule("cosine", 100)(n) for n in (60, 80)])


def test_checkpointed_layers_give_the_same_gradients(
    omni: Omni, batch_of: Callable[..., Batch]
) -> None:
    batch, twice = batch_of(["both", "text"]), copy.deepcopy(omni)
    layers = len(omni.backbone.layers)
    assert checkpoint_layers(twice) > layers  # and those of both towers
    found = []
    for model in (omni, twice):
        forward = run(model, batch.omni, present=("image", "audio"))
        terms = [Answers(), Balance()]
        total = sum(
            (
                t.total
                for o in terms
                for n, t in o(model, forward, batch, torch.Generator()).items()
                if "/" not in n
            ),
            torch.zeros(()),
        )
        total.backward()
        found.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_clipping(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    norms = []
    for clip in (0.0, 0.01):
        module = module_of(copy.deepcopy(omni), EVERYTHING, optimizer=Optimizer(clip=clip))
        module.configure_model()
        for p in module.parameters():
            p.grad = torch.full_like(p, 0.1)
        module.configure_gradient_clipping(None)
        norms.append(
            float(
                nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
            )
        )
    assert norms[0] > 1
    assert norms[1] == pytest.approx(0.01, rel=1e-3)
