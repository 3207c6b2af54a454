"""Chat formats of the releases, as data.

A conversation consists of role markers, text and blocks for media. The releases differ in the
strings below, which are from the processors and the tokenizer_config.json of each release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ming_core.chat.tokenizer import Tokenizer
from ming_core.errors import BadCheckpoint
from ming_core.media import Role
from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.config import BackboneConfig

ROLE_NAMES: Mapping[Role, str] = MappingProxyType(
    {"system": "SYSTEM", "user": "HUMAN", "assistant": "ASSISTANT"}
)


@dataclass(frozen=True)
class MediaBlock:
    """How one medium stands in a prompt: start + patches + end + `after`, which is plain text.

    Attributes:
        start, patch, end: Special tokens.
        placeholder: What the released processors write for the medium before they expand it.
        modality: Modality id of the patches.
        frame: Start and end token around each temporal patch of a video. A timestamp, which is
            plain text, stands before each of them. None if all patches are one block.
    """

    start: str
    patch: str
    end: str
    placeholder: str
    modality: int
    after: str = ""
    frame: tuple[str, str] | None = None
    timestamp: str = "<{:.1f} seconds>"


@dataclass(frozen=True)
class ChatFormat:
    """Everything that a release writes around texts and media.

    A turn is role_start + name of the role + role_end + content + turn_end + after_turn. The names
    in `roles` and `after_turn` are plain text, the others are special tokens. `role_end` may be
    None. The model ends an answer with `stop`. If `turn_end` is None (Lite), an answer in a history
    has no end token.
    `thinking` holds two texts for the end of the system text: thinking off, and on. `think_prefix`
    stands before the text of the last question if thinking is on.
    """

    name: str
    stop: str
    image: MediaBlock
    video: MediaBlock
    audio: MediaBlock
    turn_end: str | None = None
    default_system: str | None = None
    thinking: tuple[str, str] | None = None
    think_prefix: str = ""
    role_start: str = "<role>"
    role_end: str | None = "</role>"
    roles: Mapping[Role, str] = field(default_factory=lambda: dict(ROLE_NAMES), hash=False)
    after_turn: str = ""

    @property
    def shared_patches(self) -> bool:
        """Whether images and videos have the same patch token and cannot share a prompt."""
        return self.image.patch == self.video.patch


LITE_1_5 = ChatFormat(
    name="lite-1.5",
    stop="<|endoftext|>",
    image=MediaBlock("<image>", "<imagePatch>", "</image>", "<IMAGE>", IMAGE, after="\n"),
    video=MediaBlock("<video>", "<imagePatch>", "</video>", "<VIDEO>", IMAGE, after="\n"),
    audio=MediaBlock("<audio>", "<audioPatch>", "</audio>", "<AUDIO>", AUDIO),
    # Published in the README of the releases as a part of the user's text.
    think_prefix=(
        "SYSTEM: You are a helpful assistant. When the user asks a question, your response must "
        "include two parts: first, the reasoning process enclosed in <thinking>...</thinking> "
        "tags, then the final answer enclosed in <answer>...</answer> tags. The critical answer "
        "or key result should be placed within \\boxed{}.\n"
    ),
)

# The same prompts; only its processor's placeholders look like the start tokens.
LITE_1_0 = replace(
    LITE_1_5,
    name="lite-1.0",
    image=replace(LITE_1_5.image, placeholder="<image>"),
    video=replace(LITE_1_5.video, placeholder="<video>"),
    audio=replace(LITE_1_5.audio, placeholder="<audio>"),
)

FLASH = ChatFormat(
    name="flash",
    stop="<|role_end|>",
    turn_end="<|role_end|>",
    default_system="你是一个友好的AI助手。",
    thinking=("\n\ndetailed thinking off", "\n\ndetailed thinking on"),
    image=LITE_1_5.image,
    video=MediaBlock(
        "<video>", "<framePatch>", "</video>", "<VIDEO>", IMAGE, frame=("<image>", "</image>")
    ),
    audio=LITE_1_5.audio,
)


def with_media_tokens(
    config: BackboneConfig, format: ChatFormat, tokenizer: Tokenizer
) -> BackboneConfig:
    """The configuration with the media token ids of the tokenizer.

    The released config of Flash has the id of `</image>` as `video_start_token`. That is wrong, so
    it is replaced. Raises BadCheckpoint if any other id differs from the tokenizer.
    """
    texts = {
        "image_patch_token": format.image.patch,
        "image_start_token": format.image.start,
        "video_patch_token": format.video.patch,
        "video_start_token": format.video.start,
    }
    ids = {key: tokenizer.find(text) for key, text in texts.items()}
    for key, text in texts.items():
        configured = getattr(config, key)
        if key != "video_start_token" and configured not in (None, ids[key]):
            raise BadCheckpoint(
                f"llm_config.{key} is {configured}, but {text!r} is token {ids[key]} of the "
                "tokenizer; take config.json and tokenizer.json from the same release"
            )
    return replace(config, **ids)
