"""Decoding with a whole backbone against the bytes that one token must read.

    python speed/decode_bandwidth.py [--seconds 10] [--json FILE]

A step of batch 1 cannot be faster than reading, once, the weights that the token visits: attention,
norms, the router of its modality, its experts, the shared expert, the output matrix, and the keys
and values so far. The fraction is those bytes per second over the memory bandwidth, measured in the
same turns as a sum over a tensor that fits no cache. 1.0 cannot be reached; the rest is the
overhead of operators and of Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from _turns import Ratio, finish, middle, options, take_turns, timed
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
STEPS = 16
GIGABYTE = 2**30


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


def decoding(backbone: Backbone) -> Callable[[], None]:
    """STEPS greedy steps behind a prompt, always the same ones."""
    prompt = torch.randint(backbone.config.vocab_size, (1, PROMPT))
    cache, positions = Cache(), torch.arange(PROMPT)[None]
    first = backbone(backbone.embed(prompt), positions, cache=cache).hidden[:, -1]

    def decode() -> None:
        cache.crop(PROMPT)
        hidden = first
        for position in range(PROMPT, PROMPT + STEPS):
            token = backbone.lm_head(hidden).argmax(dim=-1)
            where = torch.full((1, 1), position)
            hidden = backbone(backbone.embed(token[None]), where, cache=cache).hidden[:, -1]

    return decode


def main() -> int:
    parser = options(__doc__, seconds=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    block = torch.ones(GIGABYTE // 4)
    backbone = Backbone(backbone_of({"llm_config": LLM})).eval()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone.to(dtype)
        read = bytes_per_step(backbone, PROMPT + STEPS // 2)
        with torch.inference_mode():
            decode = decoding(backbone)
            decode()
            times = take_turns(
                {
                    "step": lambda decode=decode: timed(decode) / STEPS,
                    "memory": lambda read=read: timed(block.sum) * read / GIGABYTE,
                },
                args.seconds,
            )
        step = middle(times["step"])
        rows.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "MB per token": read / 1e6,
                "ms per token": step,
                "GB/s": read / step / 1e6,
                "memory GB/s": read / middle(times["memory"]) / 1e6,
                "fraction": Ratio.of(times["memory"], times["step"]),
            }
        )
    return finish(rows, {}, args.json)


if __name__ == "__main__":
    sys.exit(main())
