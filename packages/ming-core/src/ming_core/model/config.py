"""The backbone's configuration; each release reads it from its own config.json.

Field names are the released ones. The generations differ in three fields only: the kind of rotary
positions, the kind of router, and whether queries and keys are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ming_core.errors import BadConfig

RopeKind = Literal["1d", "mrope", "video_rope"]
RouterKind = Literal["softmax", "grouped_sigmoid"]


GATES = ("gate", "image_gate", "audio_gate")
"""Released router names, indexed by modality id."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions. The first `rotary_dim` channels of each head rotate, the others do not."""

    kind: RopeKind
    theta: float
    rotary_dim: int

    @property
    def sections(self) -> tuple[int, int, int]:
        """Frequencies for time, height, width: 16/24/24 of 64 in 1.5, 8/12/12 of 32 in Flash."""
        half = self.rotary_dim // 2
        if self.kind == "1d":
            return half, 0, 0
        return half // 4, half * 3 // 8, half * 3 // 8


@dataclass(frozen=True)
class RouterConfig:
    """How the experts of a token are chosen. The kind "softmax" does not use the group fields."""

    kind: RouterKind
    top_k: int
    norm: bool = True
    n_group: int = 1
    topk_group: int = 1
    scaling: float = 1.0


@dataclass(frozen=True)
class BackboneConfig:
    """Everything the decoder needs. `ming_core.release.backbone_of` reads it from a config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_experts: int
    num_shared_experts: int
    moe_intermediate_size: int
    first_k_dense_replace: int
    rms_norm_eps: float
    max_position_embeddings: int
    rope: RopeConfig
    router: RouterConfig
    qk_norm: bool
    qkv_bias: bool
    dense_bias: bool
    multi_gate: bool
    pad_token_id: int
    eos_token_id: int
    image_patch_token: int | None = None
    video_patch_token: int | None = None
    image_start_token: int | None = None
    video_start_token: int | None = None
    use_interleaved_frame_timestamp: bool = False
    spatial_merge_size: int = 2

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise BadConfig(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        unit = 2 if self.rope.kind == "1d" else 16
        if self.rope.rotary_dim % unit or not 0 < self.rope.rotary_dim <= self.head_dim:
            raise BadConfig(
                f"{self.rope.kind} positions need a rotary width that is a multiple of {unit} and "
                f"at most head_dim {self.head_dim}, got {self.rope.rotary_dim}"
            )
        if self.router.top_k > self.num_experts:
            raise BadConfig(
                f"num_experts_per_tok {self.router.top_k} exceeds num_experts {self.num_experts}"
            )
        if self.router.kind == "grouped_sigmoid":
            self._check_groups()

    def _check_groups(self) -> None:
        groups, kept = self.router.n_group, self.router.topk_group
        if self.num_experts % groups:
            raise BadConfig(f"num_experts {self.num_experts} is no multiple of n_group {groups}")
        if kept > groups:
            raise BadConfig(f"topk_group {kept} exceeds n_group {groups}")
        reachable = self.num_experts // groups * kept
        if self.router.top_k > reachable:
            raise BadConfig(
                f"num_experts_per_tok {self.router.top_k} exceeds the {reachable} experts of "
                f"topk_group {kept} groups"
            )

    @property
    def gates(self) -> tuple[str, ...]:
        """Released names of the routers of a mixture layer, one per modality."""
        return GATES if self.multi_gate else GATES[:1]

    def is_moe_layer(self, layer: int) -> bool:
        return layer >= self.first_k_dense_replace
