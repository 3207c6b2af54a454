"""nano before its training: its sizes, its words for the tasks, its tokenizer, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ming_audio.encoder import AudioEncoder
from ming_audio.whisper import WhisperTower
from ming_core.chat.tokenizer import Tokenizer
from ming_core.model.omni import Omni
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_recipes.nano.talk import PROMPTS
from ming_recipes.nano.world.tokenizer import train_tokenizer
from ming_recipes.nano.world.vocabulary import CANVAS
from ming_vision.encoder import QwenVisionEncoder

LLM: dict[str, Any] = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    # Few wide heads: on CPU attention over short rows costs by the number of scores.
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "partial_rotary_factor": 1.0,
    "use_qk_norm": True,
    "num_experts": 8,
    "num_shared_experts": 2,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 2,
    "norm_topk_prob": True,
    "moe_router_topk_scaling_factor": 1.0,
    "use_expert_bias": True,
    "router_type": "MultiRouter",
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 0,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "video_rope", "factor": None},
    "max_position_embeddings": 4096,
    "use_interleaved_frame_timestamp": True,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "use_bias": False,
}
VISION: dict[str, Any] = {
    "model_type": "qwen2_5_vit",
    "depth": 6,
    "hidden_size": 192,
    "num_heads": 6,
    "intermediate_size": 512,
    "out_hidden_size": 384,
    "in_channels": 3,
    "patch_size": 8,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "window_size": 32,
    "fullatt_block_indexes": [1, 3, 5],
    "tokens_per_second": 2,
    "hidden_act": "silu",
}
HEARING: dict[str, Any] = {
    "model_type": "whisper",
    "whisper_encoder_config": {
        "n_mels": 80,
        "n_ctx": 400,  # 8 s at once
        "n_state": 192,
        "n_head": 3,
        "n_layer": 4,
    },
    # 25 tokens a second.
    "ds_kernel_size": 3,
    "ds_stride": 2,
}
PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "BailingMM2ImageProcessor",
    # Every picture is brought to about 64 x 64 px: 16 tokens.
    "min_pixels": 4096,
    "max_pixels": 4096,
    "patch_size": 8,
    "temporal_patch_size": 2,
    "merge_size": 2,
    # Training shows squares only: others become square, half by stretching, half by filling up.
    "square_stretch": 0.5,
    "use_interleaved_frame_timestamp": True,
    # Videos: the same size, 2 frames per second, 4 to 8 of them in training.
    "video_min_pixels": 4096,
    "video_max_pixels": 4096,
    "video_fps": 2.0,
    "video_max_frames": 8,
}
TASKS: dict[str, Any] = {
    "describe": {"en": "describe the picture.", "zh": "描述这张图。"},
    "describe_video": {"en": "what moves?", "zh": "什么在移动？"},
    "read": {"en": "read the text.", "zh": "读出文字。"},
    "ground": {"en": "locate the {name}.", "zh": "定位{name}。"},
    "click": {"en": "click the {name}.", "zh": "点击{name}。"},
    "box_scale": CANVAS,
    "box_style": "plain",
}
"""How nano's training worded the tasks of ming-vision, in place of the releases' sentences."""

SPEECH_TASKS: dict[str, Any] = {
    "hotwords": PROMPTS.hotwords,
    "hotword_separator": PROMPTS.hotword_separator,
    "languages": dict(PROMPTS.languages),
    "pause": 0.3,  # it was taught single sentences
    "compare_hotwords": True,  # and with lists of names only
}
"""How nano's training worded the tasks of ming-audio, where not as the releases."""

IDENTITY = (
    "attention.dense.weight",
    "down_proj",
    "down_proj.weight",
    "attn.out.weight",
    "mlp.2.weight",
)
"""Last matrices of the branches of a layer."""

TOKEN_FIELDS = {
    "pad_token_id": "<|endoftext|>",
    "eos_token_id": "<|role_end|>",
    "image_patch_token": "<imagePatch>",
    "video_patch_token": "<framePatch>",
    "image_start_token": "<image>",
    "video_start_token": "<video>",
}


def released_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of the whole model, in the released form."""
    vocabulary = -(-tokenizer.vocab_size // 64) * 64  # padding rows, as in the releases
    ids = {field: tokenizer.id(token) for field, token in TOKEN_FIELDS.items()}
    return {
        "architectures": ["BailingMM2NativeForConditionalGeneration"],
        "model_type": "bailingmm_moe_v2_lite",
        "torch_dtype": "bfloat16",
        "mlp_depth": 2,
        "llm_config": {**LLM, "vocab_size": vocabulary, **ids},
        "vision_config": VISION,
        "vision_tasks": TASKS,
        "audio_config": HEARING,
        "audio_tasks": SPEECH_TASKS,
    }


def build(config: dict[str, Any], seed: int) -> Omni:
    """A freshly initialised model in bf16."""
    torch.manual_seed(seed)
    backbone = Backbone(backbone_of(config))
    eyes = QwenVisionEncoder.from_config(config, PREPROCESSOR)
    ears = AudioEncoder.from_config(config, PREPROCESSOR)
    width = config["llm_config"]["hidden_size"]
    with torch.no_grad():
        # Image tokens have length 1: word embeddings start at the same scale.
        backbone.word_embeddings.weight.normal_(std=width**-0.5)
        backbone.lm_head.weight.normal_(std=0.5 * width**-0.5)
        # Layers start as identities: at random their outputs would drown those short vectors, and
        # with them what an image token says. So it is with the states of sounds, which the table of
        # positions would drown as well.
        for name, parameter in (*backbone.named_parameters(), *ears.named_parameters()):
            if name.endswith(IDENTITY):
                parameter.zero_()
        for tower in ears.modules():
            if isinstance(tower, WhisperTower):
                tower.positional_embedding.mul_(0.1)
                for conv in (tower.conv1, tower.conv2):
                    conv.weight.mul_(2)
    return Omni(backbone, {"image": eyes, "audio": ears}).to(torch.bfloat16)


def tokenizer_files(folder: Path, seed: int) -> list[Path]:
    """The two files of the tokenizer, which are made where they are missing."""
    files = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    if not all(file.exists() for file in files):
        train_tokenizer(folder, seed=seed)
    return files
