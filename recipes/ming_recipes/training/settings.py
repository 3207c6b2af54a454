"""Settings that every fine-tuning has, put together from those of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ming_core.errors import BadConfig
from ming_recipes.training.data import DataSet
from ming_recipes.training.lora import Lora
from ming_recipes.training.optimizers import Optimizer
from ming_recipes.training.ranges import Range
from ming_recipes.training.runs.fit import RunSettings
from ming_recipes.training.strategies import Strategy

Multiple = Annotated[float, Range(0, 1000)]


@dataclass
class Regression:
    """When a run stops because the model answers worse than before: see `ming compare`.

    Attributes:
        every: Steps between two comparisons with the base, each of some minutes; 0 is none.
        points: How many percentage points a share of right answers may fall.
    """

    every: Annotated[int, Range(0, 10_000_000)] = 0
    points: Annotated[float, Range(0, 100)] = 1.0


@dataclass
class FineTuning(RunSettings):
    """Everything that determines a run. When it is saved and what is logged is in `RunSettings`.

    Attributes:
        out: The folder of the run.
        model: A preset or a folder in the released layout.
        data: What is trained on.
        validation: What the loss is measured on besides. Without it, a share of `data` is held out.
        hold_out: That share of the rows.
        seed: Of the order of the rows and of everything that is random.
        steps: Of the optimiser; null: as many as `epochs` are.
        epochs: How often each row is seen.
        capacity: Tokens of a packed row. A longer conversation is left out.
        rows: Packed rows that each device computes together.
        accumulate: How many times `rows` make up a step of the optimiser.
        train: Which weights are trained and how fast: patterns of names, with multiples of the
            learning rate. What no pattern names is frozen; with LoRA, nothing else is needed.
        lora: Small matrices that are trained in place of the weights.
        losses: Weights of the terms of the loss, by name; 1 for the others.
        bias_rate: How fast the selection biases of the routers move; 0 leaves them as they are.
        checkpointing: Compute layers twice, which saves memory and takes a third more time.
        average: Decay of a moving average of the weights, such as 0.999; 0 is none.
        precision: In which type is computed; "auto" is bfloat16 on a GPU and float32 on a CPU.
        samples: How many validation rows are answered at each validation.
        regression: Stop when the model has lost too much of what it could do before.
        strategy: Devices, and how they share the model.
    """

    out: str = "runs/fine-tuning"
    model: str = "nano"
    data: list[DataSet] = field(default_factory=list)
    validation: list[DataSet] = field(default_factory=list)
    hold_out: Annotated[float, Range(0, 0.9)] = 0.05
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    steps: Annotated[int, Range(1, 10_000_000)] | None = None  # type: ignore[assignment]
    epochs: Annotated[float, Range(0, 10_000, above=True)] = 3.0
    capacity: Annotated[int, Range(16, 1_000_000)] = 4096
    rows: Annotated[int, Range(1, 4096)] = 1
    accumulate: Annotated[int, Range(1, 65_536)] = 1
    train: dict[str, Multiple] = field(default_factory=dict)
    lora: Lora = field(default_factory=Lora)
    optimizer: Optimizer = field(default_factory=Optimizer)
    losses: dict[str, Multiple] = field(default_factory=lambda: {"balance": 1e-3, "z": 1e-5})
    bias_rate: Annotated[float, Range(0, 1)] = 0.0
    checkpointing: bool = False
    average: Annotated[float, Range(0, 0.999999)] = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    samples: Annotated[int, Range(0, 1000)] = 4
    regression: Regression = field(default_factory=Regression)
    strategy: Strategy = field(default_factory=Strategy)

    def patterns(self) -> dict[str, float]:
        """What is trained, with the matrices of LoRA. Raises BadConfig if nothing is."""
        found: dict[str, float] = {}
        if self.lora.rank:
            found["*.lora_*"] = 1.0
            if self.lora.whole:
                found["*.modules_to_save.*"] = 1.0
        found |= self.train  # of several patterns the last one counts
        if not any(found.values()):
            raise BadConfig(
                "nothing is trained: set lora.rank, or name weights, as train={'backbone.*': 1}"
            )
        return found
