"""Conditions: what a generator is told, as named tensors that can be stored, sent and batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ming_core.errors import BadMedia
from ming_core.output import write_file

_HEAD = "head"


@dataclass(frozen=True)
class Condition:
    """One row for each medium that is to be made.

    It is what `Head.condition` made of the prompt, the references and the voice, before the layers
    that the generator itself begins with. So the null of guidance is zero here and takes the same
    way through those layers.

    tensors: named, each [rows, ...]. head: the registered name of the head that made it.
    """

    tensors: Mapping[str, Tensor]
    head: str = ""

    def __post_init__(self) -> None:
        sizes = {name: len(tensor) for name, tensor in self.tensors.items() if tensor.dim()}
        if len(sizes) < len(self.tensors) or len(set(sizes.values())) != 1:
            raise ValueError(f"a condition needs tensors with the same number of rows: {sizes}")

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def rows(self, start: int, stop: int) -> Condition:
        """Some of its rows."""
        return self._map({name: tensor[start:stop] for name, tensor in self.tensors.items()})

    def null(self, *names: str, rows: Tensor | None = None) -> Condition:
        """The condition with zeros in the named tensors, or in all. Guidance leads away from it.

        Tensors that hold no floating-point numbers, such as masks, keep their values. rows: bool
        [rows], where to put the zeros; None: everywhere. Training drops conditions with it.
        Raises ValueError for a name that the condition does not have.
        """
        unknown = set(names) - set(self.tensors)
        if unknown:
            raise ValueError(f"the condition has {sorted(self.tensors)} and no {sorted(unknown)}")

        def zero(tensor: Tensor) -> Tensor:
            if rows is None:
                return torch.zeros_like(tensor)
            return tensor.masked_fill(rows.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), 0)

        chosen = {
            name: zero(self.tensors[name])
            for name in names or self.tensors
            if self.tensors[name].is_floating_point()
        }
        return self._map({**self.tensors, **chosen})

    @staticmethod
    def stack(conditions: Sequence[Condition]) -> Condition:
        """Their rows, one condition below the other: requests, or the up to four of guidance.

        `stack([c.null(), c.null("reference"), c.null("text"), c])` goes through the generator at
        once; `chunk(4)` takes what comes out apart. Raises ValueError for conditions of different
        heads, names or shapes, and for none.
        """
        if not conditions:
            raise ValueError("there are no conditions to stack")
        first = conditions[0]
        for other in conditions[1:]:
            if other.head != first.head:
                raise ValueError(f"conditions of {first.head!r} and {other.head!r} do not mix")
            if _shapes(other) != _shapes(first):
                raise ValueError(
                    f"conditions of the shapes {_shapes(first)} and {_shapes(other)} do not mix"
                )
        return first._map(
            {name: torch.cat([c.tensors[name] for c in conditions]) for name in first.tensors}
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Condition:
        """Moved to `device`; floating-point tensors are cast to `dtype` if it is given."""
        return self._map(
            {
                name: tensor.to(device, dtype if tensor.is_floating_point() else None)
                for name, tensor in self.tensors.items()
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write it as a safetensors file, completely or not at all. Raises CannotWrite."""
        from safetensors.torch import save

        tensors = {n: t.detach().to("cpu").contiguous().clone() for n, t in self.tensors.items()}
        return write_file(path, save(tensors, {_HEAD: self.head}))

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Condition:
        """Read what `save` wrote. Raises BadMedia for another file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt", device=str(device)) as file:
                head = (file.metadata() or {}).get(_HEAD)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if head is None:
                raise ValueError("it does not say which head made it")
            return cls(tensors, head)
        except (OSError, SafetensorError, ValueError) as error:
            raise BadMedia(
                f"cannot read the condition {str(path)!r}: {error}; give a file that "
                "Condition.save wrote"
            ) from error

    def _map(self, tensors: Mapping[str, Tensor]) -> Condition:
        return replace(self, tensors=tensors)


def _shapes(condition: Condition) -> dict[str, list[int]]:
    return {name: list(tensor.shape[1:]) for name, tensor in sorted(condition.tensors.items())}
