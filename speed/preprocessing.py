"""Pictures to patches: images per second against transformers' own processor.

    python speed/preprocessing.py [--seconds 4] [--json FILE]

Both take the same pictures in memory (noise), with the limits of Lite, and give the same patches:
Qwen2VLImageProcessorPil is the class of transformers whose numbers are those of the release. Ours
resizes twice, as the release does; both resize with Pillow, which bounds what can be gained for
large pictures. "mixed" is one call with all sizes.

Claim: ours is not slower at any size.
"""

from __future__ import annotations

import sys
from statistics import median

import numpy as np
import torch
from PIL import Image as pil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from _turns import Ratio, all_of, finish, in_turns, options
from ming_core.media import Image
from ming_vision.processing import ImageProcessor

SIZES = ((280, 280), (480, 640), (896, 896), (1080, 1920), (3000, 4000))
LIMITS = {"min_pixels": 78400, "max_pixels": 802816}


def main() -> int:
    parser = options(__doc__, seconds=4)
    args = parser.parse_args()
    torch.set_num_threads(1)

    ours = ImageProcessor.from_config({}, LIMITS)
    theirs = Qwen2VLImageProcessorPil(
        patch_size=ours.patch_size,
        merge_size=ours.merge_size,
        temporal_patch_size=ours.temporal_patch_size,
        size={"shortest_edge": ours.min_pixels, "longest_edge": ours.max_pixels},
        image_mean=list(ours.mean),
        image_std=list(ours.std),
    )
    random = np.random.default_rng(0)
    pictures = [
        pil.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES
    ]
    cases = {f"{h} x {w}": [picture] for (h, w), picture in zip(SIZES, pictures)}
    cases["mixed"] = pictures
    rows, ratios = [], []
    for name, images in cases.items():
        parts = [Image(image) for image in images]
        times = in_turns(
            {
                "ours": lambda parts=parts: ours(parts),
                "transformers": lambda images=images: theirs(images=images, return_tensors="pt"),
            },
            args.seconds,
        )
        rates = {f"{who} images/s": len(images) / median(took) for who, took in times.items()}
        ratios.append(Ratio.of(times["transformers"], times["ours"]))
        rows.append({"pictures": name, **rates, "ratio": ratios[-1]})
    claims = {"not slower at any size": all_of(ratio.at_least(1) for ratio in ratios)}
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
