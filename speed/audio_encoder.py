"""The Whisper tower on sounds of mixed lengths, packed against padded to the longest.

    python speed/audio_encoder.py [--layers 1] [--seconds 60] [--json FILE]

Released geometry (128 mel bins, width 1280, 20 heads) with random weights and fewer layers; each of
the 32 costs the same, so ratios carry over. Six sounds of 1 to 10 s, 22.5 s in all, are encoded

    packed      one batch without padding, as the toolkit does;
    padded      zero-padded to the longest, as released code does (another result: nothing masks);
    masked      padded, with a mask in attention that hides the padding: the same result as packed;
    one by one  the sounds one after another: the same result, and what batching has to beat.

rtf: seconds of computing for each second of sound. The last line is the packed batch at 32 layers,
from the times of `layers` and of one more.

Claims: packed takes at most 0.6 times as long as masked, and is no more than 5 % slower than one by
one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from _turns import Ratio, finish, in_turns, options
from ming_audio.config import WhisperConfig
from ming_audio.whisper import Attention, Block, WhisperTower

SECONDS = [10.0, 1.0, 5.0, 2.0, 3.0, 1.5]
RELEASED_LAYERS = 32


def make(layers: int) -> WhisperTower:
    config = WhisperConfig(n_mels=128, n_ctx=1500, n_state=1280, n_head=20, n_layer=layers)
    return WhisperTower(config).eval()


def masked(tower: WhisperTower, mel: Tensor, lengths: list[int]) -> Tensor:
    """mel [B, T, n_mels], zeros behind each length -> hidden states of all sounds, packed."""
    states = torch.tensor([tower.config.hidden(length) for length in lengths])
    seen = torch.arange(mel.shape[1]) < torch.tensor(lengths)[:, None]
    kept = torch.arange(int(states.max())) < states[:, None]
    x = F.gelu(tower.conv1(mel.mT)) * seen[:, None]
    x = F.gelu(tower.conv2(x)).mT + tower.positional_embedding[: kept.shape[1]]
    for block in tower.blocks:
        assert isinstance(block, Block)
        x = x + masked_attention(block.attn, block.attn_ln(x), kept)
        x = x + block.mlp(block.mlp_ln(x))
    return tower.ln_post(x[kept])


def masked_attention(attn: Attention, x: Tensor, kept: Tensor) -> Tensor:
    q, k, v = (
        layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for layer in (attn.query, attn.key, attn.value)
    )
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=kept[:, None, None])
    return attn.out(y.transpose(1, 2).flatten(2))


def ways(tower: WhisperTower, sounds: list[Tensor]) -> dict[str, Callable[[], Tensor]]:
    lengths = [len(sound) for sound in sounds]
    packed, padded = torch.cat(sounds), pad_sequence(sounds, batch_first=True)
    count, longest, _ = padded.shape
    return {
        "packed": lambda: tower(packed, lengths),
        "padded": lambda: tower(padded.flatten(0, 1), [longest] * count),
        "masked": lambda: masked(tower, padded, lengths),
        "one by one": lambda: torch.cat([tower(x, [len(x)]) for x in sounds]),
    }


@torch.inference_mode()
def main() -> int:
    parser = options(__doc__, seconds=60)
    parser.add_argument("--layers", type=int, default=1, help="layers of the tower")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    sounds = [torch.randn(int(100 * seconds), 128) for seconds in SECONDS]
    calls = ways(make(chosen.layers), sounds)
    expected = calls["packed"]()
    for name in ("masked", "one by one"):
        torch.testing.assert_close(calls[name](), expected, rtol=1e-4, atol=1e-4)
    deeper = ways(make(chosen.layers + 1), sounds)["packed"]
    times = in_turns({**calls, "one layer more": deeper}, chosen.seconds)

    packed, more = times["packed"], RELEASED_LAYERS - chosen.layers
    pairs = zip(packed, times.pop("one layer more"), strict=True)
    times["packed, 32 layers"] = [few + more * (deep - few) for few, deep in pairs]
    rows = [
        {
            "batch": name,
            "seconds": median(took),
            "of packed": Ratio.of(took, packed),
            "rtf": median(took) / sum(SECONDS),
        }
        for name, took in times.items()
    ]
    claims = {
        "packed takes at most 0.6 of masked": Ratio.of(packed, times["masked"]).at_most(0.6),
        "packed takes at most 1.05 of one by one": Ratio.of(packed, times["one by one"]).at_most(
            1.05
        ),
    }
    return finish(rows, claims, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
