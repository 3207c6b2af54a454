"""The one LightningModule: it runs the model once in a step and hands the result to objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn

from ming_core.errors import BadConfig
from ming_core.model.encoder import Encoder, Fills
from ming_core.model.omni import Omni
from ming_recipes.training.batch import Batch
from ming_recipes.training.checkpointing import checkpoint_layers
from ming_recipes.training.ema import Average
from ming_recipes.training.forward import Forward, run, trainable
from ming_recipes.training.norms import clip_gradients
from ming_recipes.training.objectives import Objective, Term, weighted
from ming_recipes.training.optimizers import Optimizer, make_optimizer
from ming_recipes.training.patterns import freeze_others, rates
from ming_recipes.training.runs.guard import refuse_frozen
from ming_recipes.training.schedules import schedule
from ming_recipes.training.strategies import Ranks, ranks


class OmniModule(LightningModule):
    """A model in training: `Omni`, objectives, an optimiser.

    The model is built in `configure_model`, so that it can be built without memory and sharded.
    Its state holds what is trained, and buffers; frozen weights come from where they came from.

    Args:
        build: Makes the model, on `meta` if it is sharded.
        objectives: Give the terms of the loss. Those with weights of their own are `nn.Module`s;
            their weights are trained if they ask for gradients.
        weights: Of terms in the loss, by name; 1 for the others.
        optimizer: Its settings.
        steps: Of the optimiser, in the whole training.
        train: Patterns of names in `Omni` and multiples of the learning rate, see `patterns`.
            "objectives.*" are the weights of objectives.
        inject: Adds weights to the model that was built, such as those of LoRA.
        shard: Shards this module.
        fill: Fills the model with weights, if `build` did not.
        checkpointing: Whether layers are computed twice to save memory.
        average: Decay of a moving average of the weights; 0 is none.
        compute_dtype: In which the model computes.
        before, after: Steps of other trainings that share the curve of the learning rate.
    """

    def __init__(
        self,
        build: Callable[[], Omni],
        objectives: Sequence[Objective],
        weights: Mapping[str, float],
        optimizer: Optimizer,
        steps: int,
        train: Mapping[str, float],
        *,
        inject: Callable[[Omni], None] | None = None,
        shard: Callable[[OmniModule], None] | None = None,
        fill: Callable[[Omni], None] | None = None,
        checkpointing: bool = False,
        average: float = 0.0,
        compute_dtype: torch.dtype = torch.float32,
        before: int = 0,
        after: int = 0,
    ) -> None:
        super().__init__()
        self.build, self.inject, self.shard, self.fill = build, inject, shard, fill
        self.objectives, self.weights = list(objectives), dict(weights)
        self.own = nn.ModuleDict(
            {str(i): o for i, o in enumerate(objectives) if isinstance(o, nn.Module)}
        )
        self.settings, self.steps, self.train_patterns = optimizer, steps, dict(train)
        self.checkpointing, self.decay = checkpointing, average
        self.compute_dtype = compute_dtype
        self.before, self.after = before, after
        self.omni: Omni | None = None
        self.average: Average | None = None
        self.strict_loading = False  # frozen weights are in no state
        self.register_state_dict_post_hook(_without_frozen)
        optimizer.check()
        self._check_weights()

    def _check_weights(self) -> None:
        known = [name for objective in self.objectives for name in objective.terms]
        for name in self.weights:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise BadConfig(f"no objective has a term {name!r}; {hint}")

    def configure_model(self) -> None:
        """Build the model; a second call does nothing.

        Raises BadConfig if a pattern names nothing, or if nothing is trained.
        """
        if self.omni is not None:
            return
        omni = self.build()
        if self.inject is not None:
            self.inject(omni)
        own = {k: v for k, v in self.train_patterns.items() if k.startswith(_OWN)}
        patterns = {k: v for k, v in self.train_patterns.items() if k not in own}
        self.rates = rates(omni, patterns)
        self.own_rates = dict.fromkeys((name for name, _ in self.own.named_parameters()), 1.0)
        self.own_rates |= rates(self.own, {k.removeprefix(_OWN): v for k, v in own.items()})
        freeze_others(omni, self.rates)
        refuse_frozen([*omni.parameters(), *self.own.parameters()])
        if self.checkpointing:
            checkpoint_layers(omni)
        self.omni = omni
        self.present = [
            modality
            for modality, encoder in omni.encoders.items()
            # Where weights are sharded, every process must run every layer.
            if trainable(encoder) or self.shard is not None
        ]
        if self.shard is not None:
            self.shard(self)
        if self.fill is not None:
            self.fill(omni)

    @property
    def model(self) -> Omni:
        """The model, once it is built."""
        assert self.omni is not None, "configure_model has not been called"
        return self.omni

    def on_fit_start(self) -> None:
        for modality in self.present:
            filled = isinstance(cast(Encoder, self.model.encoders[modality]).processor, Fills)
            if self.trainer.world_size > 1 and not filled:
                raise BadConfig(
                    f"the {modality} encoder cannot be trained by several processes: its processor "
                    "has no method `dummy` (docs/encoders.md); use one process"
                )
        if self.decay and self.average is None:
            self.average = Average(self._trained(), self.decay)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(
            self.settings, [(self.model, self.rates), (self.own, self.own_rates)]
        )
        curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._multiple(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curve, "interval": "step"}}

    def _multiple(self, step: int) -> float:
        """Of the learning rate. `steps` may change while the training runs, if it has to end in
        time."""
        settings, around = self.settings, (self.before, self.after)
        curve = schedule(settings.schedule, self.steps, settings.warmup, settings.end, *around)
        return curve(step)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device, self.compute_dtype)

    def training_step(self, batch: Batch, index: int) -> dict[str, Any]:
        """{"loss", "terms": name -> (total, count, weight)}, the totals those of this process."""
        terms = self._terms(batch)
        factors = weighted(terms, self.weights)
        parts = {name: term for name, term in terms.items() if factors[name]}
        counts = [part.count if part.of_step is None else part.of_step for part in parts.values()]
        loss = torch.zeros((), device=self.device)
        if parts:
            stacked = torch.stack([_scalar(count, self.device) for count in counts])
            everywhere = self._ranks.sum(stacked).clamp(min=torch.finfo(torch.float32).tiny)
            for (name, part), count in zip(parts.items(), everywhere, strict=True):
                # Processes take the mean of their gradients, and Lightning that of micro-batches.
                scale = factors[name] * self._ranks.size
                if part.of_step is not None:
                    scale *= self.trainer.accumulate_grad_batches
                loss = loss + part.total * scale / count
        return {"loss": loss, "terms": _found(terms, factors)}

    def validation_step(self, batch: Batch, index: int) -> dict[str, Any]:
        """{"terms"} as in `training_step`."""
        terms = self._terms(batch)
        return {"terms": _found(terms, weighted(terms, self.weights))}

    def _terms(self, batch: Batch) -> dict[str, Term]:
        rng = torch.Generator().manual_seed(torch.initial_seed())
        forward = self._forward(batch)
        terms: dict[str, Term] = {}
        for objective in self.objectives:
            terms |= objective(self.model, forward, batch, rng)
        return terms

    def _forward(self, batch: Batch) -> Forward:
        asked = [objective.keep for objective in self.objectives if objective.keep is not None]
        return run(
            self.model,
            batch.omni,
            {layer for keep in asked for layer in keep} if asked else None,
            present=self.present,
            watch=[name for objective in self.objectives for name in objective.watch],
            dtype=self.compute_dtype,
            over_ranks=self._ranks.sum,
        )

    @property
    def _ranks(self) -> Ranks:
        return ranks(self.trainer)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Scale all gradients down together. The biases of routers have none."""
        if self.settings.clip:
            clip_gradients(self.parameters(), self.settings.clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step and then what objectives do, before any state is written."""
        super().optimizer_step(*args, **kwargs)
        for objective in self.objectives:
            objective.after_step(self.model, self._ranks.sum)
        if self.average is not None:
            optimizer = self.optimizers(use_pl_optimizer=False)
            self.average.update(cast(torch.optim.Optimizer, optimizer))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the moving average as its weights while the block runs, if there is one."""
        if self.average is None:
            yield
            return
        with self.average.used():
            yield

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.average is not None:
            checkpoint["average"] = self.average.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.decay and "average" in checkpoint:
            self.average = Average(self._trained(), self.decay)
            self.average.load(checkpoint["average"])


_OWN = "objectives."
"""How patterns begin that name the weights of objectives."""


def _without_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Leaves frozen weights out of a state."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            state.pop(prefix + name, None)


def _scalar(value: Tensor | float, device: torch.device) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=device).detach()


def _found(
    terms: Mapping[str, Term], factors: Mapping[str, float]
) -> dict[str, tuple[Tensor, Tensor, float]]:
    return {
        name: (
            term.total.detach().float(),
            _scalar(term.count, term.total.device),
            factors[name],
        )
        for name, term in terms.items()
    }
