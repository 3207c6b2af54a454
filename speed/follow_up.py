"""A second question about the same picture: time to its first token against that of the first one.

    python speed/follow_up.py [--seconds 20] [--depth 4] [--json FILE]

`chat` keeps what it computed: a follow-up opens and encodes no picture again and reads its own
tokens only. Beside the first question it is compared with the obvious alternative, the same
follow-up sent whole with a picture that nobody has seen, as a server without memory would. Two
models: nano as it is, and nano's backbone behind a random tower of the geometry of Lite 1.5
(`--depth` of its 32 blocks), which sees 560 x 560 pixels. Claims: a follow-up takes at most LIMITS
of the first question.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from _turns import LEAST, Ratio, finish, middle, options
from ming_core import Image, OmniModel, Session, assistant, load, user
from ming_core.media import Message
from ming_core.notes import collected_notes
from ming_vision.encoder import QwenVisionEncoder

LIMITS = {"nano": 0.75, "Lite 1.5 tower": 0.1}
VISION = {
    "model_type": "qwen2_5_vit",
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3456,
    "out_hidden_size": 2048,
    "patch_size": 14,
    "window_size": 112,
}
SIDES = {"nano": 64, "Lite 1.5 tower": 560}


def released_tower(depth: int) -> OmniModel:
    """nano with random eyes of the released size, `depth` blocks instead of 32."""
    model = load("nano", device="cpu")
    vision = VISION | {"depth": depth, "fullatt_block_indexes": [depth - 1]}
    llm = {"hidden_size": model.config.hidden_size}
    config = {"vision_config": vision, "llm_config": llm, "mlp_depth": 2}
    model.omni.encoders["image"] = QwenVisionEncoder.from_config(config, {}).eval()
    return model


def first_token(session: Session, talk: Sequence[Message]) -> tuple[float, str]:
    """Seconds until the first token of the answer is there, and its text."""
    start = time.perf_counter()
    with collected_notes():  # that nano is not sure of noise
        answer = session.chat(talk, max_new_tokens=1)
    return time.perf_counter() - start, answer.text


def turns(model: OmniModel, pixels: np.ndarray) -> tuple[float, float, float]:
    """Seconds of the first question, of a follow-up, and of the follow-up without memory."""
    asked = "How many shapes are there?", "What colour is the largest one?"
    # New sessions: to a session, a picture that looks the same is known in any object.
    session, talk = model.session(), [user(Image(pixels), asked[0])]
    first, said = first_token(session, talk)
    more = [assistant(said), user(asked[1])]
    second, _ = first_token(session, [*talk, *more])
    unseen, _ = first_token(model.session(), [user(Image(pixels), asked[0]), *more])
    return first, second, unseen


def main() -> int:
    parser = options(__doc__, seconds=20)
    parser.add_argument("--depth", type=int, default=4, help="blocks of the released tower")
    args = parser.parse_args()
    torch.manual_seed(0)
    models = {"nano": load("nano", device="cpu"), "Lite 1.5 tower": released_tower(args.depth)}
    rows, claims = [], {}
    for name, model in models.items():
        side = SIDES[name]
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        turns(model, pixels)
        found, end = [], time.perf_counter() + args.seconds
        while len(found) < LEAST or time.perf_counter() < end:
            found.append(turns(model, pixels))
        first, second, unseen = zip(*found, strict=True)
        share = Ratio.of(second, first)
        rows.append(
            {
                "model": name,
                "picture": f"{side} x {side}",
                "first ms": middle(first),
                "follow-up ms": middle(second),
                "without memory ms": middle(unseen),
                "follow-up / first": share,
                "follow-up / without memory": Ratio.of(second, unseen),
            }
        )
        words = f"{name}: a follow-up takes at most {LIMITS[name]} of the first question"
        claims[words] = share.at_most(LIMITS[name])
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
