"""Decoding with a whole backbone against the bytes that one token must read.

    python benchmarks/decode_bandwidth.py [--seconds 10] [--json FILE]

A step of batch 1 cannot be faster than reading, once, the weights that the token visits: attention,
norms, the router of its modality, its experts, the shared expert, the output matrix, and the keys
and values so far. The fraction is those bytes per second over the memory bandwidth, measured in the
same run as the fastest sum over a tensor that fits no cache. 1.0 cannot be reached; the rest is
the overhead of operators and of Python.
"""

from __future__ import annotations

import sys
import time

import torch

from _bench import finish, options
from ming_core.model.cache import Cache
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of

LLM = {
    "model_type": "bailing_moe",
    "vocab_size": 32768,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "num_shared_experts": 2,
    "moe_intermediate_size": 512,
    "multi_gate": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 600000,
    "rope_scaling": {"type": "3D"},
}
PROMPT = 64
GIGABYTE = 2**30


def bandwidth(seconds: float) -> float:
    """Bytes per second of reading memory with all threads."""
    block = torch.ones(GIGABYTE // 4)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return GIGABYTE / best


def bytes_per_step(backbone: Backbone, length: int) -> int:
    """Bytes a text token reads behind `length` others; one row of the embeddings is nothing."""
    config = backbone.config
    total = 0
    for name, tensor in backbone.named_parameters():
        if name.startswith("word_embeddings") or "image_gate" in name or "audio_gate" in name:
            continue
        share = config.router.top_k / config.num_experts if ".experts." in name else 1
        total += int(tensor.nbytes * share)
    itemsize = backbone.lm_head.weight.element_size()
    heads = config.num_key_value_heads * config.head_dim
    return total + 2 * config.num_hidden_layers * heads * length * itemsize


def decode_step(backbone: Backbone, seconds: float) -> float:
    """Shortest time of one greedy step, the cache growing from PROMPT to twice that and again."""
    best, end = float("inf"), time.perf_counter() + seconds
    prompt = torch.randint(backbone.config.vocab_size, (1, PROMPT))
    while time.perf_counter() < end:
        cache = Cache()
        positions = torch.arange(PROMPT)[None]
        hidden = backbone(backbone.embed(prompt), positions, cache=cache).hidden[:, -1]
        for position in range(PROMPT, 2 * PROMPT):
            start = time.perf_counter()
            token = backbone.lm_head(hidden).argmax(dim=-1)
            where = torch.full((1, 1), position)
            hidden = backbone(backbone.embed(token[None]), where, cache=cache).hidden[:, -1]
            best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="for each measurement")
    args = parser.parse_args()
    torch.manual_seed(0)
    peak = bandwidth(args.seconds / 2)
    backbone = Backbone(backbone_of({"llm_config": LLM})).eval()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone.to(dtype)
        with torch.inference_mode():
            step = decode_step(backbone, args.seconds)
        read = bytes_per_step(backbone, PROMPT)
        rows.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "MB per token": read / 1e6,
                "ms per token": 1e3 * step,
                "GB/s": read / step / 1e9,
                "memory GB/s": peak / 1e9,
                "fraction": read / step / peak,
            }
        )
    peak = max(peak, bandwidth(args.seconds / 2))
    return finish(rows, {}, args.json)


if __name__ == "__main__":
    sys.exit(main())
