"""Streamed, strict loading of one module from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ming_core.checkpoints.files import listing
from ming_core.checkpoints.formats import Weights
from ming_core.checkpoints.keymap import Slot
from ming_core.errors import BadCheckpoint
from ming_core.fields import plain

Match = Mapping[str, Slot]
"""Slots by the names that one checkpoint uses, among aliases."""

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes to read) after each tensor."""

_FACTORIES = (torch.empty, torch.zeros, torch.ones)


class _NoRandomInit(TorchFunctionMode):
    """Random fills return their tensor as it is, and no more than `most` tensors are made.

    On `meta` random fills would compute nothing, yet make torch import its symbolic shape
    machinery: 2.8 s and 160 MB.
    """

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        initialiser = getattr(func, "__module__", "") == "torch.nn.init"
        if initialiser or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        if func in _FACTORIES:
            self.made += 1
            if self.most is not None and self.made > self.most:
                raise BadCheckpoint(
                    "config.json describes a part with far more tensors than the checkpoint holds; "
                    "use the weights and the config.json of one release"
                )
        return func(*args, **kwargs)


@contextmanager
def on_meta(most: int | None = None) -> Iterator[None]:
    """Build modules inside to have shapes and no memory, ready for `load_module`.

    most: how many tensors may be made before BadCheckpoint is raised, so that an absurd number of
    layers is refused before they are built.
    """
    with torch.device("meta"), _NoRandomInit(most):
        yield


def load_module(
    module: nn.Module,
    checkpoint: Weights,
    slots: Mapping[str, Slot],
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> None:
    """Fill `module`, built inside `on_meta()`, from the tensors that `slots` names and no others.

    Parameters and persistent buffers are materialised on `device`, floating-point ones as `dtype`
    or their slot's own; then each tensor is read, checked and copied, so that host memory peaks at
    the model plus one tensor. Non-persistent buffers are left alone.

    Raises BadCheckpoint, before anything is read, for missing and unexpected names and for wrong
    shapes and types; afterwards for values that are NaN, infinite or too large for `dtype`. The
    module is then unusable. Names are unexpected if they share their first component with one of
    `slots`: other parts of the checkpoint are nobody's business here.
    """
    fill(module, checkpoint, slots, match(module, checkpoint, slots), device, dtype, progress)


def fill(
    module: nn.Module,
    checkpoint: Weights,
    slots: Mapping[str, Slot],
    names: Match,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> None:
    """The second half of `load_module`: read what `match` found. Raises BadCheckpoint."""
    _materialise(module, slots, torch.device(device), dtype)
    state = module.state_dict()
    infos = checkpoint.tensors
    # In file order, so that the disk is read forward.
    order = sorted(names, key=lambda name: (infos[name].file, infos[name].offset))
    total, done = sum(infos[name].nbytes for name in order), 0
    broken = []
    for name in order:
        # No name for what was read: it would keep one tensor alive while the next one is read.
        if not copied(checkpoint.read(name), names[name].of(state[names[name].name])):
            broken.append(name)
        done += infos[name].nbytes
        if progress is not None:
            progress(done, total)
    if broken:
        raise BadCheckpoint(
            f"{checkpoint.source} holds values that are NaN, infinite or too large for {dtype} in "
            f"{listing(broken)}; copy it again or take another dtype"
        )


def module_tensors(module: nn.Module, slots: Mapping[str, Slot]) -> dict[str, Tensor]:
    """The module's state_dict, after checking that `slots` accounts for all of its elements.

    Raises ValueError otherwise: the table and the module do not belong together.
    """
    state = module.state_dict()
    covered = dict.fromkeys(state, 0)
    for released, slot in slots.items():
        if slot.name not in state:
            raise ValueError(f"{released} maps to {slot.name}, which the module does not have")
        covered[slot.name] += slot.of(state[slot.name]).numel()
    wrong = [name for name, count in covered.items() if count != state[name].numel()]
    if wrong:
        raise ValueError(f"the key map does not account for {listing(wrong)}")
    return state


def match(
    module: nn.Module,
    checkpoint: Weights,
    slots: Mapping[str, Slot],
    spare: tuple[str, ...] = (),
    whole: bool = False,
) -> Match:
    """The first half of `load_module`: compare names, shapes and types; reads headers alone.

    spare: how unexpected names begin that may be there. whole: the checkpoint holds nothing but
    this module, so that every other name is unexpected, not only those that share their first
    component with one of `slots`. Raises one BadCheckpoint with all that is wrong.
    """
    state = module_tensors(module, slots)
    infos = checkpoint.tensors
    found, missing, misfits = {}, [], []
    for released, slot in slots.items():
        name = next((n for n in (released, *slot.aliases) if n in infos), None)
        if name is None:
            missing.append(released)
            continue
        found[name] = slot
        target, info = slot.of(state[slot.name]), infos[name]
        if info.shape != tuple(target.shape):
            misfits.append(f"{plain(name)} is {list(info.shape)}, expected {list(target.shape)}")
        elif info.dtype.is_floating_point != target.dtype.is_floating_point:
            misfits.append(f"{plain(name)} is {info.dtype}, expected {target.dtype}")
    owned = {name.split(".", 1)[0] for name in slots}
    unexpected = [
        name
        for name in infos
        if name not in found
        and (whole or name.split(".", 1)[0] in owned)
        and not name.startswith(spare)
    ]
    if not (missing or misfits or unexpected):
        return found
    parts = []
    if missing:
        near = [_with_nearest(name, unexpected) for name in missing[:3]]
        parts.append(f"{len(missing)} missing ({listing(near + missing[3:], 3)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({listing(unexpected, 3)})")
    if misfits:
        parts.append(f"{len(misfits)} of the wrong shape or type ({listing(misfits, 3)})")
    raise BadCheckpoint(
        f"the tensors in {checkpoint.source} do not fit its config.json: {'; '.join(parts)}; "
        "use the weights and the config.json of one release"
    )


def _with_nearest(name: str, candidates: list[str]) -> str:
    near = get_close_matches(name, candidates, n=1)
    return f"{plain(name)}, nearest is {plain(near[0])}" if near else name


def _materialise(
    module: nn.Module, slots: Mapping[str, Slot], device: torch.device, dtype: torch.dtype
) -> None:
    islands = {slot.name: slot.dtype for slot in slots.values() if slot.dtype is not None}
    for name, old in module.state_dict(keep_vars=True).items():
        wanted = islands.get(name, dtype) if old.is_floating_point() else old.dtype
        new = torch.empty(old.shape, dtype=wanted, device=device)
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if isinstance(old, nn.Parameter):
            owner.register_parameter(leaf, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            owner.register_buffer(leaf, new)


def copied(tensor: Tensor, target: Tensor) -> bool:
    """Copy and cast, unless a value is not finite in the target's type; says whether it was done.

    aminmax needs no temporary tensor, as isfinite would.
    """
    if tensor.is_floating_point() and tensor.numel():
        low, high = (float(bound) for bound in tensor.aminmax())
        largest = torch.finfo(target.dtype).max
        if not (-largest <= low and high <= largest):  # NaN makes the comparisons false
            return False
    target.copy_(tensor)
    return True
