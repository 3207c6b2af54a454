"""Tiny random models of every generation, and a count of what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from ming_core import OmniModel
from ming_core.chat import Tokenizer
from ming_core.chat.formats import with_media_tokens
from ming_core.loading import Sources
from ming_core.model.omni import Omni
from ming_core.model.transformer import Backbone
from ming_core.release import release_of
from ming_vision.encoder import QwenVisionEncoder

_TINY = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "num_shared_experts": 1,
    "moe_intermediate_size": 12,
    "rms_norm_eps": 1e-6,
    "rope_theta": 100.0,  # low, so that every frequency matters at short length
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_LITE = _TINY | {"model_type": "bailing_moe", "head_dim": 16, "multi_gate": True}
TINY: dict[str, dict[str, Any]] = {
    "lite-1.0": _LITE | {"rope_scaling": None, "norm_topk_prob": True},
    "lite-1.5": _LITE | {"rope_scaling": {"type": "3D"}, "norm_topk_prob": True},
    "flash": _TINY
    | {
        "model_type": "bailing_moe_v2",
        "head_dim": 32,
        "partial_rotary_factor": 0.5,
        "num_hidden_layers": 3,
        "first_k_dense_replace": 1,
        "rope_scaling": {"type": "video_rope"},
        "n_group": 4,
        "topk_group": 2,
        "router_type": "MultiRouter",
    },
}
"""An `llm_config` per generation: small, with every feature of the released one."""

VISION = {
    "model_type": "qwen2_5_vit",
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 64,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}
PREPROCESSOR = {
    "image_processor_type": "BailingMM2ImageProcessor",
    "min_pixels": 256,
    "max_pixels": 1024,
    "video_min_pixels": 256,
    "video_max_pixels": 256,
    "patch_size": 4,
    "temporal_patch_size": 2,
    "merge_size": 2,
}


@pytest.fixture(params=TINY)
def llm(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The tiny `llm_config` of each generation in turn."""
    return dict(TINY[request.param])


@pytest.fixture(scope="session")
def tiny_llm() -> Callable[[str], dict[str, Any]]:
    """The tiny `llm_config` of one generation: lite-1.0, lite-1.5 or flash."""
    return lambda name: dict(TINY[name])


@pytest.fixture(scope="session")
def make_model(tiny_llm: Callable[[str], dict[str, Any]]) -> Callable[..., OmniModel]:
    """Builds a random model that answers each question otherwise and hardly ever ends by itself.

    family: of `tiny_llm`; llm: other values of its config. encoders: the least vision tower unless
    given, which makes 4 tokens of 16 x 16 pixels.
    """

    def make(
        family: str,
        tokenizer: Tokenizer,
        encoders: dict[str, nn.Module] | None = None,
        **llm: Any,
    ) -> OmniModel:
        released = {"use_interleaved_frame_timestamp": family == "flash"}
        llm = tiny_llm(family) | {"vocab_size": tokenizer.vocab_size} | released | llm
        whole = {"vision_config": VISION, "llm_config": llm, "mlp_depth": 2}
        release = release_of(whole)
        config = release.backbone(whole)
        config = with_media_tokens(config, release.chat(config), tokenizer)
        torch.manual_seed(0)
        backbone = Backbone(config)
        encoders = encoders or {"image": QwenVisionEncoder.from_config(whole, PREPROCESSOR)}
        with torch.no_grad():  # words of length 1, as image tokens are; a wide spread of logits
            backbone.word_embeddings.weight.mul_(config.hidden_size**-0.5)
            backbone.lm_head.weight.normal_()
            for encoder in encoders.values():  # pictures that differ look different
                for name, parameter in encoder.named_parameters():
                    if name.endswith("weight") and parameter.ndim > 1:
                        parameter.mul_(2)
        device = torch.device("cpu")
        dtype = torch.float32
        sources = Sources(release, whole, PREPROCESSOR, (), lambda: tokenizer, device, dtype)
        return OmniModel(family, Omni(backbone, encoders).eval(), sources)

    return make


@dataclass
class Work:
    """What a model computed.

    encoded: temporal patches of each medium that its image encoder was given. passes: tokens of
    each pass of the backbone.
    """

    encoded: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def prefill(self) -> int:
        """Tokens of the first pass since the last look."""
        first = self.passes[0]
        self.passes.clear()
        return first


@pytest.fixture
def work(model: OmniModel) -> Iterator[Work]:
    """Counts for the fixture `model` of the test's own module."""
    counted = Work()
    encoder = model.encoder("image")
    assert isinstance(encoder, nn.Module)
    hooks = [
        encoder.register_forward_pre_hook(
            lambda _, inputs: counted.encoded.extend(inputs[0].grid[:, 0].tolist())
        ),
        model.omni.backbone.register_forward_pre_hook(
            lambda _, inputs: counted.passes.append(inputs[0].shape[1])
        ),
    ]
    yield counted
    for hook in hooks:
        hook.remove()
