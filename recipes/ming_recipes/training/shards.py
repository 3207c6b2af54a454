"""Which part of each tensor a process holds, and how parts are read from and written to files.

Data-parallel processes share the first dimension of every parameter. Before that, tensor
parallelism cuts some parameters by a `Cut`. Both are known before any weight is read. So a process
reads its own part of a checkpoint only, and who writes a tensor asks the others for their parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ming_core.checkpoints.components import Prepared
from ming_core.checkpoints.files import listing
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.reading import copied
from ming_core.checkpoints.writing import Entry
from ming_core.errors import BadCheckpoint
from ming_recipes.training.lora import name_before


@dataclass(frozen=True)
class Cut:
    """How tensor parallelism cuts a parameter: its dimension `dim` consists of `sections`, and each
    process holds an equal share of every section.

    A fused matrix has several sections: one for queries, one for keys and one for values.
    """

    dim: int
    sections: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a process stands: its number, and how many there are, in each kind of parallelism."""

    data: int = 0
    data_size: int = 1
    tensor: int = 0
    tensor_size: int = 1


def held(shape: Sequence[int], cut: Cut | None, place: Place) -> list[list[range]]:
    """For each dimension of a whole tensor, which ranges of it lie at `place`, in their order."""
    ranges = [[range(size)] for size in shape]
    if cut is not None:
        ranges[cut.dim], start = [], 0
        for size in cut.sections:
            share = size // place.tensor_size
            first = start + place.tensor * share
            ranges[cut.dim].append(range(first, first + share))
            start += size
    if ranges:
        ranges[0] = _share(ranges[0], place.data, place.data_size)
    return ranges


def _share(ranges: list[range], number: int, of: int) -> list[range]:
    """Share `number` of the concatenated ranges, in equal shares but for the last ones."""
    total = sum(map(len, ranges))
    each = -(-total // of)
    first, last = min(number * each, total), min((number + 1) * each, total)
    found, done = [], 0
    for whole in ranges:
        part = whole[max(first - done, 0) : max(last - done, 0)]
        if part:
            found.append(part)
        done += len(whole)
    return found


@dataclass(frozen=True)
class Piece:
    """A block at index `here` of a local tensor, and at slices `there` of a released one."""

    here: tuple[int | slice, ...]
    there: tuple[slice, ...]

    @property
    def shape(self) -> list[int]:
        return [cut.stop - cut.start for cut in self.there]


def pieces(slot: Slot, shape: Sequence[int], ranges: Sequence[Sequence[range]]) -> Iterator[Piece]:
    """What the local `ranges` of a parameter of `shape` have of the released tensor in a slot."""
    dims = []
    for dim, size in enumerate(shape):
        index = slot.index[dim] if dim < len(slot.index) else slice(None)
        first, last = (index, index + 1) if isinstance(index, int) else index.indices(size)[:2]
        found, done = [], 0
        for part in ranges[dim]:
            start, stop = max(part.start, first), min(part.stop, last)
            if start < stop:
                here = done + start - part.start
                place = here if isinstance(index, int) else slice(here, here + stop - start)
                found.append((place, slice(start - first, stop - first)))
            done += len(part)
        dims.append((isinstance(index, int), found))
    for chosen in product(*(found for _, found in dims)):
        there = [cut for (single, _), (_, cut) in zip(dims, chosen, strict=True) if not single]
        yield Piece(tuple(here for here, _ in chosen), tuple(there))


def tensors_of(module: nn.Module) -> dict[str, list[Tensor]]:
    """Its tensors by the names that they had before an adapter was put around its layers.

    What the adapter has added is left out. A layer that is trained whole has two tensors of one
    name: a frozen one, and its trained copy, which comes last.
    """
    found: dict[str, list[Tensor]] = {}
    for name, tensor in module.state_dict().items():
        if (before := name_before(name)) is not None:
            found.setdefault(before, []).append(tensor)
    return found


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def read_shards(
    prepared: Prepared, cuts: Mapping[str, Cut], place: Place, device: torch.device
) -> int:
    """Fill a sharded component from its files; each process reads its own part.

    The module is that of `prepared`, built on `meta` and sharded since; it is on `device`
    afterwards. What an adapter has added to it has memory and no values. cuts: by the name of a
    parameter in the module.

    Returns the number of bytes that were read. Raises BadCheckpoint for values that are not finite.
    """
    module = prepared.module
    module._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
    state, infos, match = tensors_of(module), prepared.part.tensors, prepared.match
    done, broken = 0, []
    for name in sorted(match, key=lambda name: (infos[name].file, infos[name].offset)):
        slot = match[name]
        for target in state[slot.name]:
            ranges = _ranges(target, cuts.get(slot.name), place)
            for piece in pieces(slot, target.shape, ranges):
                value = prepared.part.read_part(name, piece.there)
                done += value.nbytes
                if not copied(value, local(target)[piece.here]):
                    broken.append(name)
    if broken:
        raise BadCheckpoint(
            f"{prepared.part.source} holds values that are NaN, infinite or too large in "
            f"{listing(broken)}; copy it again"
        )
    return done


def _ranges(tensor: Tensor, cut: Cut | None, place: Place) -> list[list[range]]:
    return held(tensor.shape, cut, place if isinstance(tensor, DTensor) else Place())


_DONE, _FAILED = -1, -2


class Gathering:
    """One process writes released tensors, and the others send their pieces when it asks.

    parts: name -> sharded module and the slots of its released tensors. places: of every process,
    by its number in the whole group. dtype: of floating-point tensors, but for those with a dtype
    of their own; None keeps what the modules hold.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]],
        cuts: Mapping[str, Mapping[str, Cut]],
        places: Sequence[Place],
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        self.places, self.device, self.dtype = places, device, dtype
        self.rows: list[tuple[str, Slot, Tensor, Cut | None]] = []
        for part, (module, slots) in parts.items():
            state = tensors_of(module)
            for released, slot in slots.items():
                cut = cuts.get(part, {}).get(slot.name)
                self.rows.append((released, slot, state[slot.name][-1], cut))
        self.numbers = {released: number for number, (released, *_) in enumerate(self.rows)}

    def entries(self, slots: Mapping[str, Slot]) -> Iterator[Entry]:
        """What to write of these slots. Asked by the process with number 0 only."""
        for released in slots:
            number = self.numbers[released]
            _, slot, tensor, _ = self.rows[number]
            shape = slot.of(torch.empty(tensor.shape, device="meta")).shape
            yield Entry(released, shape, self._type(number), lambda n=number: self.whole(n))

    def whole(self, number: int) -> Tensor:
        """A released tensor in host memory; the process with number 0 asks the others for it."""
        self._tell(number)
        _, slot, tensor, _ = self.rows[number]
        shape = slot.of(torch.empty(tensor.shape, device="meta")).shape
        found = torch.empty(shape, dtype=self._type(number), device="cpu")
        for rank in self._holders(tensor):
            for piece in self._pieces(number, rank):
                if rank == 0:
                    block = local(tensor)[piece.here]
                else:
                    block = torch.empty(piece.shape, dtype=found.dtype, device=self.device)
                    dist.recv(block, src=rank)
                found[piece.there] = block.to("cpu", found.dtype)
        return found

    def serve(self) -> bool:
        """Send pieces until the process with number 0 has all; says whether it could write them."""
        rank = dist.get_rank()
        while (number := self._tell(0)) >= 0:
            tensor = self.rows[number][2]
            if rank in self._holders(tensor):
                for piece in self._pieces(number, rank):
                    block = local(tensor)[piece.here].detach()
                    dist.send(block.to(self.device, self._type(number)).contiguous(), dst=0)
        return number == _DONE

    def end(self, done: bool) -> None:
        """Tell the other processes that no more is asked for, and whether all went well."""
        self._tell(_DONE if done else _FAILED)

    def _tell(self, number: int) -> int:
        """The number that process 0 says."""
        if len(self.places) == 1:
            return number
        said = torch.tensor(number, device=self.device)
        dist.broadcast(said, src=0)
        return int(said)

    def _holders(self, tensor: Tensor) -> list[int]:
        """The processes that hold different pieces: all or, of what each has whole, the first."""
        return list(range(len(self.places))) if isinstance(tensor, DTensor) else [0]

    def _pieces(self, number: int, rank: int) -> list[Piece]:
        _, slot, tensor, cut = self.rows[number]
        place = self.places[rank]
        if cut is None and place.tensor:  # the same as in the first process of its group
            return []
        found = pieces(slot, tensor.shape, _ranges(tensor, cut, place))
        return [piece for piece in found if prod(piece.shape)]

    def _type(self, number: int) -> torch.dtype:
        _, slot, tensor, _ = self.rows[number]
        if not tensor.is_floating_point():
            return tensor.dtype
        return slot.dtype or self.dtype or tensor.dtype
