"""Peak memory and time of loading a sharded checkpoint, against the obvious way.

    python speed/load_checkpoint.py [--gigabytes 1.0] [--json FILE]

Writes a float32 checkpoint of the Lite 1.5 kind in the released layout to a temporary folder and
loads it in fresh processes, into float32 and into bfloat16: once streamed by `load_module`, once by
`safetensors.torch.load_file` on every shard, stacking of the experts and `load_state_dict`. The
ratio is (peak resident memory - resident memory before loading) / model size in memory. Resident
memory counts pages of mapped files too. Claim: streamed stays at or below 1.10.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file

from _turns import Ratio, all_of, finish, options, take_turns
from ming_core.checkpoints.formats import open_checkpoint, read_config
from ming_core.checkpoints.keymap import backbone_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.checkpoints.writing import export
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of

CLAIM = 1.10
LLM = {
    "model_type": "bailing_moe",
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "num_experts": 16,
    "num_experts_per_tok": 6,
    "num_shared_experts": 2,
    "moe_intermediate_size": 704,
    "multi_gate": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 600000,
    "rope_scaling": {"type": "3D"},
}


def streamed(folder: Path, dtype: torch.dtype) -> Backbone:
    backbone = empty_backbone(folder)
    slots = backbone_slots(backbone.config)
    load_module(backbone, open_checkpoint(folder), slots, "cpu", dtype)
    return backbone


def load_file_every_shard(folder: Path, dtype: torch.dtype) -> Backbone:
    backbone = empty_backbone(folder).to(dtype).to_empty(device="cpu")
    released = {}
    for shard in sorted(folder.glob("*.safetensors")):
        released |= load_file(shard)
    state = {name: torch.empty_like(tensor) for name, tensor in backbone.state_dict().items()}
    for name, slot in backbone_slots(backbone.config).items():
        slot.of(state[slot.name]).copy_(released[name])
    backbone.load_state_dict(state)
    return backbone


METHODS: dict[str, Callable[[Path, torch.dtype], Backbone]] = {
    "streamed": streamed,
    "load_file + load_state_dict": load_file_every_shard,
}


def empty_backbone(folder: Path) -> Backbone:
    with on_meta():
        return Backbone(backbone_of(read_config(folder)))


def write_checkpoint(folder: Path, gigabytes: float) -> None:
    """About `gigabytes` in shards of an eighth of it; one random pattern repeated is enough."""

    def config(layers: int) -> dict:
        return LLM | {"num_hidden_layers": layers}

    def nbytes(layers: int) -> int:
        with on_meta():
            backbone = Backbone(backbone_of({"llm_config": config(layers)}))
        return sum(tensor.nbytes for tensor in backbone.state_dict().values())

    per_layer = nbytes(2) - nbytes(1)
    layers = max(1, 1 + round((gigabytes * 1e9 - nbytes(1)) / per_layer))
    with on_meta():
        backbone = Backbone(backbone_of({"llm_config": config(layers)}))
    backbone.to_empty(device="cpu")
    for tensor in backbone.state_dict().values():
        tensor.uniform_(-1, 1)
    parts = {"backbone": (backbone, backbone_slots(backbone.config))}
    shard = nbytes(layers) // 8
    export(parts, folder, {"llm_config": config(layers)}, max_shard_bytes=shard)


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(method: str, folder: Path, dtype: str) -> dict[str, float]:
    """Load once in this process; run in a fresh one."""
    before, start = resident("VmRSS"), time.perf_counter()
    backbone = METHODS[method](folder, getattr(torch, dtype))
    seconds, peak = time.perf_counter() - start, resident("VmHWM")
    size = sum(tensor.nbytes for tensor in backbone.state_dict().values())
    return {"model_bytes": size, "peak_bytes": peak - before, "seconds": seconds}


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        method, folder, dtype = args.measure
        print(json.dumps(measure(method, Path(folder), dtype)))
        return 0
    rows, kept = [], []
    with tempfile.TemporaryDirectory(prefix="ming-load-") as temporary:
        folder = Path(temporary) / "checkpoint"
        write_checkpoint(folder, args.gigabytes)
        for dtype in ("float32", "bfloat16"):
            seconds: dict[str, list[float]] = defaultdict(list)

            def load(method: str, dtype: str = dtype, seconds: Any = seconds) -> float:
                command = [sys.executable, __file__, "--measure", method, str(folder), dtype]
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(result.stdout)
                seconds[method].append(found["seconds"])
                return found["peak_bytes"] / found["model_bytes"]

            shares = take_turns({method: partial(load, method) for method in METHODS}, 0)
            streamed_time = seconds["streamed"]
            for method, found in shares.items():
                peak = Ratio.to(1, found)
                rows.append(
                    {
                        "into": dtype,
                        "method": method,
                        "peak / model": peak,
                        "seconds": median(seconds[method]),
                        "time / streamed": Ratio.of(seconds[method], streamed_time),
                    }
                )
                if method == "streamed":
                    kept.append(peak.at_most(CLAIM))
    claims = {f"streamed peaks at {CLAIM:.2f} of the model or less": all_of(kept)}
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
