"""Training attention on CPU: three plain operations against fused attention.

    python speed/attention_cpu.py [--seconds 2] [--json FILE]

Forward and backward of 2048 tokens in rows of growing length under a causal mask, 8 heads of 64,
once by `plain_attention` and once by torch's `scaled_dot_product_attention`.

Claim: `attend`, which trains up to PLAIN_UP_TO keys of a dtype the plain way, never takes a way
that is slower by more than 10 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from _turns import Ratio, all_of, finish, in_turns, middle, options
from ming_core.model.kernels.attention import PLAIN_UP_TO, plain_attention

TOKENS, HEADS, WIDTH = 2048, 8, 64
LENGTHS = (16, 64, 128, 256, 512, 1024, 2048)

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


def training_step(attention: Attention, dtype: torch.dtype, length: int) -> Callable[[], None]:
    shape = (TOKENS // length, HEADS, length, WIDTH)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, dtype=dtype)
    mask = torch.ones(length, length, dtype=torch.bool).tril().expand(shape[0], 1, -1, -1)

    def step() -> None:
        torch.autograd.grad(attention(q, k, v, mask), (q, k, v), gradient)

    return step


def main() -> int:
    parser = options(__doc__, seconds=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    ways: dict[str, Attention] = {"plain": plain_attention, "fused": fused_attention}
    rows, ratios = [], []
    for dtype in (torch.float32, torch.bfloat16):
        for length in LENGTHS:
            steps = {name: training_step(way, dtype, length) for name, way in ways.items()}
            times = in_turns(steps, args.seconds)
            plain = length <= PLAIN_UP_TO[dtype]
            taken, other = ("plain", "fused") if plain else ("fused", "plain")
            ratios.append(Ratio.of(times[other], times[taken]))
            rows.append(
                {
                    "dtype": str(dtype).removeprefix("torch."),
                    "length": length,
                    "plain ms": middle(times["plain"]),
                    "fused ms": middle(times["fused"]),
                    "attend": taken,
                    "other / attend": ratios[-1],
                }
            )
    right = all_of(ratio.at_least(1 / 1.1) for ratio in ratios)
    return finish(rows, {"attend takes the faster way, within 10 %": right}, args.json)


if __name__ == "__main__":
    sys.exit(main())
