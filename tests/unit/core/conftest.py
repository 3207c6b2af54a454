"""Random backbones, a tiny tokenizer, the released configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from ming_core.chat import Tokenizer
from ming_core.model.config import BackboneConfig
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of

RELEASED = Path(__file__).parents[2] / "golden" / "released"

SPECIAL = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|role_end|>",
    "<role>",
    "</role>",
    "<imagePatch>",
    "<image>",
    "</image>",
    "<video>",
    "</video>",
    "<audioPatch>",
    "<audio>",
    "</audio>",
    "<framePatch>",
)


@pytest.fixture(scope="session")
def make_backbone() -> Callable[[dict[str, Any]], Backbone]:
    """Builds a random backbone in eval mode; norms and expert biases are no constants either."""

    def make(llm: dict[str, Any]) -> Backbone:
        backbone = Backbone(backbone_of({"llm_config": llm})).eval()
        with torch.no_grad():
            for name, tensor in backbone.state_dict().items():
                if "norm" in name:
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith("expert_bias"):
                    tensor.normal_(std=0.1)
        return backbone

    return make


@pytest.fixture
def backbone(llm: dict[str, Any], make_backbone: Callable[[dict[str, Any]], Backbone]) -> Backbone:
    """A random backbone of each generation in turn."""
    return make_backbone(llm)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    made = LibraryTokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(["HUMAN ASSISTANT SYSTEM role image\n\n 红色的圆"] * 5, trainer)
    # The last one is ordinary in the file: it must be as harmless in typed text as the others.
    made.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL[:-1]])
    made.add_tokens([AddedToken(SPECIAL[-1], normalized=False)])
    made.save(str(folder / "tokenizer.json"))
    added = made.get_added_tokens_decoder().items()
    config = {
        "eos_token": "<|role_end|>",
        "pad_token": {"content": "<|endoftext|>"},
        "added_tokens_decoder": {str(i): {"content": token.content} for i, token in added},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def released_config() -> Callable[[str], BackboneConfig]:
    """Reads the backbone configuration of a released model by its folder name."""

    def read(name: str) -> BackboneConfig:
        config = json.loads((RELEASED / name / "config.json").read_text("utf-8"))
        return backbone_of(config)

    return read
