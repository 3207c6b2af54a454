"""Any backbone of the timm library as an image encoder: `"model_type": "timm:resnet18"`.

The last feature map of the backbone becomes a grid of tokens. Some models keep this map as a
sequence with class tokens, which are dropped; others keep it as an image. docs/encoders.md explains
this file as an example of an encoder of your own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import numpy as np
import torch
from PIL import Image as pil
from torch import Tensor, nn
from torch.nn import functional as F

from ming_core import media
from ming_core.errors import BadConfig, BadMedia, UnknownName
from ming_core.fields import MERGE, Section
from ming_core.model.encoder import Features
from ming_vision.encoder import projector, unit_length, vision_sizes
from ming_vision.image import open_image
from ming_vision.timm_models import build, require_timm

SIDE = 4096
"""Most pixels of a side of the fixed size."""


@dataclass(frozen=True)
class FixedSizeProcessor:
    """Stretches every picture to the one size that its backbone was made for.

    Nothing is cropped away, and boxes in fractions of the sides stay right.

    size: height and width in pixels. tokens: rows and columns of tokens. unit: grid units of a
    token's side, what the backbone's position rule divides by.
    """

    size: tuple[int, int]
    tokens: tuple[int, int]
    unit: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: pil.Resampling

    def __call__(self, parts: Sequence[media.Media]) -> Features:
        """`pixel_values` [items, 3, height, width] float32. Raises BadMedia."""
        for part in parts:
            if not isinstance(part, media.Image):
                raise BadMedia(
                    f"this encoder reads still images, not {part.kind} input; "
                    "give single frames as images"
                )
        rows, columns = self.tokens
        return Features(
            modality="image",
            tensors={"pixel_values": torch.stack([self.pixels(part.source) for part in parts])},
            grid=torch.tensor(
                [[1, rows * self.unit, columns * self.unit]] * len(parts), device="cpu"
            ),
            tokens=[rows * columns] * len(parts),
        )

    def dummy(self, given: Features | None) -> Features | None:
        """One grey picture, if none is given."""
        if given is not None:
            return None
        grey = torch.zeros(1, 3, *self.size, dtype=torch.float32, device="cpu")
        rows, columns = (side * self.unit for side in self.tokens)
        grid = torch.tensor([[1, rows, columns]], device="cpu")
        return Features("image", {"pixel_values": grey}, grid, [self.tokens[0] * self.tokens[1]])

    def pixels(self, source: Any) -> Tensor:
        """One picture as [3, height, width] float32, normalised."""
        height, width = self.size
        picture = open_image(source).resize((width, height), self.resample)
        mean, std = (np.array(x, dtype=np.float32) for x in (self.mean, self.std))
        normal = (np.asarray(picture, dtype=np.float32) / 255 - mean) / std
        return torch.from_numpy(normal.transpose(2, 0, 1).copy())


class TimmEncoder(nn.Module):
    """A backbone of timm and a projector, tensors `vision.<timm's name>` and `linear_proj.*`."""

    modality = "image"

    def __init__(
        self,
        vision: nn.Module,
        width: int,
        merge: int,
        hidden_size: int,
        mlp_depth: int,
        processor: FixedSizeProcessor,
    ) -> None:
        """width: channels of the last map. merge: side of the squares that become one token."""
        super().__init__()
        self.processor = processor
        self.merge = merge
        self.vision: Any = vision
        self.linear_proj = projector(width * merge**2, hidden_size, mlp_depth)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """From a config.json whose `vision_config` has a `model_type` `timm:<model>`.

        Two optional keys: `image_size`, pixels of a square input instead of timm's own size, and
        `spatial_merge_size` (1), places of a side that become one token. `image_mean` and
        `image_std` of the preprocessor go before timm's own. Weights are never downloaded.
        Raises BadConfig, UnknownName or MissingPlugin.
        """
        section, hidden_size, mlp_depth = vision_sizes(config)
        kind = section.text("model_type")
        require_timm(f"the encoder {kind!r}")
        from timm.data.config import resolve_model_data_config

        side = section.whole("image_size", most=SIDE) if "image_size" in section else None
        vision = build(lambda: _backbone(kind, side))
        wants = resolve_model_data_config(vision)
        size = wants["input_size"][1:] if side is None else (side, side)
        last = vision.feature_info[-1]
        merge = section.whole("spatial_merge_size", 1, most=MERGE)
        token = last["reduction"] * merge
        if any(side % token for side in size):
            raise BadConfig(
                f"the {size[0]} x {size[1]} pixels that {kind!r} sees must be a multiple of the "
                f"{token} of a token; set vision_config.image_size or spatial_merge_size"
            )
        llm = Section(config["llm_config"], "llm_config")
        own = Section(preprocessor, "preprocessor_config.json")
        processor = FixedSizeProcessor(
            size=size,
            tokens=(size[0] // token, size[1] // token),
            unit=llm.whole("spatial_merge_size", 2, most=MERGE),
            mean=own.numbers("image_mean", wants["mean"], count=3, least=-1000, most=1000),
            std=own.numbers("image_std", wants["std"], count=3, least=1e-6, most=1000),
            resample=pil.Resampling[wants["interpolation"].upper()],
        )
        return cls(vision, last["num_chs"], merge, hidden_size, mlp_depth, processor)

    def forward(self, features: Features) -> Tensor:
        """`pixel_values` [items, 3, height, width] -> unit vectors [sum(tokens), hidden_size]."""
        (last,) = self.vision.forward_intermediates(
            features.tensors["pixel_values"],
            indices=1,
            norm=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        tokens = F.pixel_unshuffle(last, self.merge).flatten(2).transpose(1, 2).flatten(0, 1)
        return unit_length(self.linear_proj(tokens))


def _backbone(kind: str, size: int | None) -> Any:
    """The model that `timm:<name>` means, without its classifier, for a square of `size` pixels."""
    import timm

    name = kind.partition(":")[2]
    if not name:
        raise BadConfig("vision_config.model_type must name a model, as in 'timm:resnet18'")
    if not timm.is_model(name):  # also what timm would fetch from elsewhere, e.g. `hf-hub:...`
        near = get_close_matches(name, timm.list_models(), n=1)
        raise UnknownName("timm model", name, near, "timm.list_models() lists all of them")
    model: Any = timm.create_model(name, pretrained=False)
    if size is not None and hasattr(model, "set_input_size"):
        try:
            model.set_input_size(img_size=(size, size))
        except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as error:
            raise BadConfig(
                f"vision_config.image_size is {size}, which {kind!r} cannot take ({error})"
            ) from error
    model.prune_intermediate_layers(indices=1, prune_norm=False, prune_head=True)
    return model
