"""Ming-Lite-Omni 1.0 and 1.5: a mixture of experts with softmax routers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ming_core.chat.formats import LITE_1_0 as CHAT_1_0
from ming_core.chat.formats import LITE_1_5 as CHAT_1_5
from ming_core.fields import EXPERTS
from ming_core.model.config import BackboneConfig, RopeKind, RouterConfig
from ming_core.release import Place, Release
from ming_core.releases.backbone import (
    BACKBONE,
    GENERATOR,
    IMAGE,
    kind_of,
    read_backbone,
    rope_of,
    section_of,
)

# The report of 1.5 names domain and dialect in its instructions; the run of the release forbids
# that ten tokens come again.
AUDIO_TASKS = {
    "dialect": "This is an audio in the dialect {dialect}.",
    "no_repeat_ngram": 10,
}

_SHARED = (
    BACKBONE,
    IMAGE,
    Place(
        "audio",
        section="audio_config",
        prefixes=("audio.", "linear_proj_audio.", "whisper_encoder.", "linear_proj_whisper."),
    ),
    # Its tensors lie among those of the backbone, all else in a folder.
    Place("talker", section="talker_config", prefixes=("talker.",)),
    Place("queries", "mlp"),
    *GENERATOR,
)
_TALKER = ("config.json", "s3_bpe/char_mapping.txt", "s3_bpe/tokenizer.json")


def read(config: Mapping[str, Any], rope: RopeKind) -> BackboneConfig:
    """The backbone of a Lite; rope: its kind of positions. Raises BadConfig."""
    llm = section_of(config)
    chosen = llm.whole("num_experts_per_tok", most=EXPERTS)
    return read_backbone(
        llm,
        rope=rope_of(llm, rope),
        router=RouterConfig(kind="softmax", top_k=chosen, norm=llm.flag("norm_topk_prob", True)),
        qk_norm=False,
        multi_gate=llm.flag("multi_gate", False),
    )


LITE_1_0 = Release(
    name="lite-1.0",
    recognises=lambda config: kind_of(config) == ("bailing_moe", None),
    backbone=partial(read, rope="1d"),
    chat=lambda config: CHAT_1_0,
    wording={"audio_tasks": AUDIO_TASKS},
    components=(
        *_SHARED,
        Place(
            "codec",
            "talker",
            files=(*_TALKER, "audio_detokenizer.yaml", "flow.pt", "hift.pt"),
        ),
    ),
)

LITE_1_5 = Release(
    name="lite-1.5",
    recognises=lambda config: kind_of(config) == ("bailing_moe", "3D"),
    backbone=partial(read, rope="mrope"),
    chat=lambda config: CHAT_1_5,
    wording={"audio_tasks": AUDIO_TASKS},
    components=(
        *_SHARED,
        Place(
            "codec",
            "talker",
            files=(*_TALKER, "audio_detokenizer_stream.yaml", "flow_stream.pt", "hift_v2.pt"),
        ),
    ),
)
