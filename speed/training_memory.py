"""Memory of a training step with layers that are computed twice, against layers that keep all.

    python speed/training_memory.py [--layers 12] [--tokens 2048] [--json FILE]

A language model of middle size (width 512, 16 experts of width 256, top 4) in float32, and one row
of tokens, forward and backward. Each way runs in a fresh process. Memory is the peak resident size
above that of the process with the model and its gradients. Claim: at most half with layers that are
computed twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from _turns import Ratio, finish, options, take_turns
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_core.training.losses import next_token_loss
from ming_recipes.training.checkpointing import checkpoint_layers

CLAIM = 0.5


def backbone(layers: int) -> Backbone:
    config = {
        "model_type": "bailing_moe_v2",
        "vocab_size": 4096,
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "rope_scaling": {"type": "video_rope"},
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "num_shared_experts": 1,
        "moe_intermediate_size": 256,
        "first_k_dense_replace": 1,
        "n_group": 4,
        "topk_group": 2,
        "router_type": "MultiRouter",
    }
    return Backbone(backbone_of({"llm_config": config}))


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(twice: bool, layers: int, tokens: int) -> dict[str, float]:
    """One step in this process; run in a fresh one."""
    torch.manual_seed(0)
    model = backbone(layers)
    if twice:
        checkpoint_layers(model)

    def step(tokens: int) -> None:
        ids = torch.randint(4096, (1, tokens))
        out = model(model.embed(ids), torch.arange(tokens)[None])
        next_token_loss(model.lm_head(out.hidden), ids).backward()

    step(64)  # makes the gradients, and loads what a first step loads
    before, start = resident("VmRSS"), time.perf_counter()
    step(tokens)
    seconds = time.perf_counter() - start
    return {"megabytes": (resident("VmHWM") - before) / 1e6, "seconds": seconds}


def main() -> int:
    parser = options(__doc__, seconds=0)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--one", choices=("kept", "twice"), help="measure one way, in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one == "twice", args.layers, args.tokens)))
        return 0
    seconds: dict[str, list[float]] = {"kept": [], "twice": []}

    def run(way: str) -> float:
        sizes = ["--layers", str(args.layers), "--tokens", str(args.tokens)]
        command = [sys.executable, __file__, "--one", way, *sizes]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        seconds[way].append(found["seconds"])
        return found["megabytes"]

    found = take_turns({way: lambda way=way: run(way) for way in seconds}, args.seconds)
    rows = [
        {
            "layers": way,
            "megabytes": sorted(found[way])[len(found[way]) // 2],
            "seconds": sorted(seconds[way])[len(seconds[way]) // 2],
        }
        for way in found
    ]
    ratio = Ratio.of(found["twice"], found["kept"])
    print(f"twice / kept: memory {ratio}, time {Ratio.of(seconds['twice'], seconds['kept'])}")
    return finish(rows, {"at most half the memory": ratio.at_most(CLAIM)}, args.json)


if __name__ == "__main__":
    sys.exit(main())
