"""What config.json says about the encoders of sounds, and which of them is for which purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Self

from ming_audio.lengths import convolved, whisper_frames
from ming_core.errors import BadConfig
from ming_core.fields import DEPTH, LAYERS, WIDTH, Section

KERNEL = 1024
"""Most frames that a convolution looks at or leaves out."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What the sections of both towers have; `from_dict` ignores keys that are no fields.

    feature: the name of the tower's input among the tensors of `Features`. section: where releases
    keep the sizes. most: the largest value of each field. Every section also has
    `bins`, the numbers in a frame of that input, `width`, the channels of a hidden state, and
    `hidden`, how many of those so many frames become.
    """

    feature: ClassVar[str]
    section: ClassVar[str]
    most: ClassVar[Mapping[str, int]]

    @classmethod
    def from_dict(cls, section: Mapping[str, Any] | Section) -> Self:
        """Raises BadConfig for a missing, misspelt or impossible size."""
        if not isinstance(section, Section):
            section = Section(section, cls.section)
        values = {}
        for field in fields(cls):
            default = {} if field.default is MISSING else {"default": field.default}
            least = 0 if field.name == "sanm_shfit" else 1
            values[field.name] = section.whole(
                field.name, **default, least=least, most=cls.most[field.name]
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class WhisperConfig(TowerConfig):
    """`whisper_encoder_config`: n_mels bins, n_ctx positions, n_state channels."""

    feature = "mel"
    section = "whisper_encoder_config"
    most = MappingProxyType(
        {"n_mels": 1024, "n_ctx": WIDTH, "n_state": WIDTH, "n_head": WIDTH, "n_layer": LAYERS}
    )
    n_mels: int
    n_ctx: int
    n_state: int
    n_head: int
    n_layer: int

    def __post_init__(self) -> None:
        if self.n_state % self.n_head or self.n_state % 2:
            raise BadConfig(
                f"whisper_encoder_config.n_state {self.n_state} must be even and a multiple of "
                f"n_head {self.n_head}"
            )

    @property
    def bins(self) -> int:
        return self.n_mels

    @property
    def width(self) -> int:
        return self.n_state

    @property
    def most_frames(self) -> int:
        """Frames for which there are positions."""
        return 2 * self.n_ctx

    def hidden(self, frames: int) -> int:
        return whisper_frames(frames)


@dataclass(frozen=True, kw_only=True)
class SanmConfig(TowerConfig):
    """`audio_encoder_config_sanm`: input_size and output_size are channels.

    num_blocks counts the first layer, which changes the width. sanm_shfit (sic): by how many frames
    the window of the memory is moved into the past.
    """

    feature = "fbank"
    section = "audio_encoder_config_sanm"
    most = MappingProxyType(
        {
            "input_size": WIDTH,
            "output_size": WIDTH,
            "attention_heads": WIDTH,
            "linear_units": WIDTH,
            "num_blocks": LAYERS,
            "kernel_size": KERNEL,
            "sanm_shfit": KERNEL,
        }
    )
    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    kernel_size: int = 11
    sanm_shfit: int = 0

    def __post_init__(self) -> None:
        if self.output_size % self.attention_heads or self.input_size % 2:
            raise BadConfig(
                f"audio_encoder_config_sanm.output_size {self.output_size} must be a multiple of "
                f"attention_heads {self.attention_heads}, and input_size {self.input_size} even"
            )
        if (self.kernel_size - 1) // 2 + self.sanm_shfit >= self.kernel_size:
            raise BadConfig(
                f"audio_encoder_config_sanm.sanm_shfit {self.sanm_shfit} moves the window of "
                f"{self.kernel_size} frames off the present one; use a smaller number"
            )

    @property
    def bins(self) -> int:
        return self.input_size

    @property
    def width(self) -> int:
        return self.output_size

    def hidden(self, frames: int) -> int:
        return frames


@dataclass(frozen=True)
class Ear:
    """One tower and its projector, tensors `{tower}.*` and `{projector}.*`.

    kernel, stride: those of the convolution that begins the projector.
    """

    tower: str
    projector: str
    config: WhisperConfig | SanmConfig
    kernel: int
    stride: int

    def tokens(self, frames: int) -> int:
        """Tokens that so many frames of its input become."""
        return convolved(self.config.hidden(frames), self.kernel, self.stride)


@dataclass(frozen=True)
class AudioConfig:
    """The settings of all encoders of a release.

    Attributes:
        listening: The encoder for questions and dialogue.
        transcribing: The encoder for transcription. Only in Lite 1.0 it is another one.
        hidden_size: Width of the backbone.
        mlp_depth: Number of layers of a projector, with its convolution.
        unit_length: Whether tokens are normalised to length 1.
    """

    listening: Ear
    transcribing: Ear
    hidden_size: int
    mlp_depth: int
    unit_length: bool

    @property
    def ears(self) -> tuple[Ear, ...]:
        """Each once."""
        return tuple(dict.fromkeys((self.listening, self.transcribing)))

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """From a whole config.json. Raises BadConfig."""
        whole = Section(config, "config.json")
        hidden = whole.section("llm_config").whole("hidden_size", most=WIDTH)
        audio = whole.section("audio_config")
        ears = _ears(audio, whole.section("whisper_config", {}))
        depth = whole.whole("mlp_depth", most=DEPTH)
        return cls(ears[0], ears[-1], hidden, depth, audio.flag("norm_query_embeds", True))


def _ears(audio: Section, second: Section) -> list[Ear]:
    """The ear for listening, and that for transcribing if it is another one.

    Three layouts are released: Flash has a Whisper in `audio_config`; Lite 1.0 has SANM there and a
    Whisper in `whisper_config`; Lite 1.5 has the layout of 1.0, but `audio_encoder_output_size`
    tells that the tensors `audio.*` are the Whisper of the second section. Raises BadConfig.
    """
    if WhisperConfig.section in audio:
        return [_ear("audio", "audio", WhisperConfig, audio, audio)]
    ears = []
    width = audio.whole("audio_encoder_output_size", 0, most=WIDTH, least=0)
    if SanmConfig.section in audio:
        sanm = audio.section(SanmConfig.section).whole("output_size", 0, least=0, most=WIDTH)
        if width in (0, sanm):
            ears.append(_ear("audio", "audio", SanmConfig, audio, audio))
    if WhisperConfig.section in second:
        ear = _ear("whisper_encoder", "whisper", WhisperConfig, second, second)
        if not ears and width == ear.config.width:
            return [_ear("audio", "audio", WhisperConfig, second, audio)]
        ears.append(ear)
    if not ears:
        raise BadConfig(
            "audio_config of config.json describes no encoder; it needs whisper_encoder_config, or "
            "audio_encoder_config_sanm whose output_size is audio_encoder_output_size"
        )
    return ears


def _ear(
    tower: str,
    projector: str,
    kind: type[WhisperConfig] | type[SanmConfig],
    holder: Section,
    strides: Section,
) -> Ear:
    """holder: has the section of the tower. strides: has the convolution of the projector."""
    return Ear(
        tower,
        f"linear_proj_{projector}",
        kind.from_dict(holder.section(kind.section)),
        kernel=strides.whole("ds_kernel_size", 1, most=KERNEL),
        stride=strides.whole("ds_stride", 1, most=KERNEL),
    )
