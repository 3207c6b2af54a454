"""What config.json says about hearing, and which encoder of a release serves which task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from ming_audio.lengths import convolved, whisper_frames
from ming_core.errors import BadConfig


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What the sections of both towers have; `from_dict` ignores keys that are no fields.

    feature: the name of the tower's input among the tensors of `Features`. Every section also has
    `bins`, the numbers in a frame of that input, `width`, the channels of a hidden state, and
    `hidden`, how many of those so many frames become.
    """

    feature: ClassVar[str]

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """Raises BadConfig for a missing, misspelt or impossible size."""
        values = {}
        for field in fields(cls):
            if field.name in section:
                values[field.name] = section[field.name]
            elif field.default is MISSING:
                raise BadConfig(f"the audio encoder's config has no {field.name!r}; it needs one")
        for name, value in values.items():
            least = 0 if name == "sanm_shfit" else 1
            if not isinstance(value, int) or value < least:
                raise BadConfig(
                    f"the audio encoder's config says {name} {value!r}; it must be a whole number "
                    f"from {least} on"
                )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class WhisperConfig(TowerConfig):
    """`whisper_encoder_config`: n_mels bins, n_ctx positions, n_state channels."""

    feature = "mel"
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
    """listening: the ear for questions and dialogue. transcribing: the ear for writing down.

    They are the same one in every release but Lite 1.0. hidden_size: channels of the backbone.
    mlp_depth: linear layers of a projector, its convolution counted. unit_length: whether tokens
    are normalised.
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
        try:
            audio, hidden = config["audio_config"], config["llm_config"]["hidden_size"]
            depth = config["mlp_depth"]
        except KeyError as error:
            raise BadConfig(f"config.json has no {error}; an audio encoder needs it") from error
        ears = _ears(audio, config.get("whisper_config") or {})
        return cls(ears[0], ears[-1], hidden, depth, bool(audio.get("norm_query_embeds", True)))


def _ears(audio: Mapping[str, Any], second: Mapping[str, Any]) -> list[Ear]:
    """The ear for listening, and that for transcribing if it is another one.

    Three layouts are released: Flash has a Whisper in `audio_config`; Lite 1.0 has SANM there and a
    Whisper in `whisper_config`; Lite 1.5 has the layout of 1.0, but `audio_encoder_output_size`
    tells that the tensors `audio.*` are the Whisper of the second section. Raises BadConfig.
    """
    whisper = second.get("whisper_encoder_config")
    sanm = audio.get("audio_encoder_config_sanm")
    width = audio.get("audio_encoder_output_size")
    if "whisper_encoder_config" in audio:
        return [_ear("audio", "audio", WhisperConfig, audio["whisper_encoder_config"], audio)]
    ears = []
    if sanm and width in (None, sanm.get("output_size")):
        ears.append(_ear("audio", "audio", SanmConfig, sanm, audio))
    elif whisper and width == whisper.get("n_state"):
        return [_ear("audio", "audio", WhisperConfig, whisper, audio)]
    if whisper:
        ears.append(_ear("whisper_encoder", "whisper", WhisperConfig, whisper, second))
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
    section: Mapping[str, Any],
    strides: Mapping[str, Any],
) -> Ear:
    kernel, stride = strides.get("ds_kernel_size", 1), strides.get("ds_stride", 1)
    for name, value in (("ds_kernel_size", kernel), ("ds_stride", stride)):
        if not isinstance(value, int) or value < 1:
            raise BadConfig(f"{name} of the audio encoder is {value!r}; it must be at least 1")
    return Ear(tower, f"linear_proj_{projector}", kind.from_dict(section), kernel, stride)
