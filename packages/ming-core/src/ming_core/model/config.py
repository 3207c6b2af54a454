"""The backbone's configuration, read from the `llm_config` section of a released config.json.

Field names are the released ones. What differs between the generations is not a version number
but three small pieces of data: the rotary kind, the router kind and whether q and k are normed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ming_core.errors import BadConfig
from ming_core.fields import EXPERTS, LAYERS, MERGE, WIDTH, Section, shown

RopeKind = Literal["1d", "mrope", "video_rope"]
RouterKind = Literal["softmax", "grouped_sigmoid"]


GATES = ("gate", "image_gate", "audio_gate")
"""Released router names, indexed by modality id."""

# Values that would change the mathematics and that no released model uses.
_FIXED = {
    "use_sliding_window": False,
    "norm_head": False,
    "norm_softmax": False,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
_FIXED_IN_FLASH = {"use_qk_norm": True, "use_expert_bias": True}


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions. `rotary_dim` channels of each head rotate, the rest pass through."""

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
    """How a token's experts are chosen; the group fields matter to `grouped_sigmoid` only."""

    kind: RouterKind
    top_k: int
    norm: bool = True
    n_group: int = 1
    topk_group: int = 1
    scaling: float = 1.0


@dataclass(frozen=True)
class BackboneConfig:
    """Everything the decoder needs. Build it with `from_dict` from a released `llm_config`."""

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

    @classmethod
    def from_dict(cls, llm: Mapping[str, Any]) -> BackboneConfig:
        """Read a released `llm_config`.

        A null counts as absent. Raises BadConfig for another architecture, a missing field, a
        value of the wrong type or out of range, or a setting that no released model uses (sliding
        window, tied embeddings, another activation).
        """
        section = Section(llm, "llm_config")
        kind = section.raw("model_type", None)
        if kind not in ("bailing_moe", "bailing_moe_v2"):
            raise BadConfig(
                f"unknown language model {shown(kind)} in llm_config.model_type; "
                "expected bailing_moe (Lite 1.0, 1.5) or bailing_moe_v2 (Flash)"
            )
        flash = kind == "bailing_moe_v2"
        for key, value in (_FIXED | _FIXED_IN_FLASH if flash else _FIXED).items():
            section.fixed(key, value)
        return cls._from_section(section, flash)

    @classmethod
    def _from_section(cls, llm: Section, flash: bool) -> BackboneConfig:
        width = llm.whole("hidden_size", most=WIDTH)
        heads = llm.whole("num_attention_heads", most=WIDTH)
        vocabulary = llm.whole("vocab_size", most=2**24)
        head_dim = llm.whole("head_dim", max(1, width // heads), most=2**16)
        rotary = llm.number("partial_rotary_factor", 1.0, least=0, most=100) if flash else 1.0
        rope = RopeConfig(
            kind=_rope_kind(llm),
            theta=llm.number("rope_theta", least=1, most=1e15),
            rotary_dim=int(head_dim * rotary),
        )
        chosen = llm.whole("num_experts_per_tok", most=EXPERTS)
        if flash:
            # `norm_topk_prob` is not read by the reference: Flash always normalises. The factor
            # 2.5 exists only as its class default; the released key is a synonym of it.
            key = "routed_scaling_factor"
            if key not in llm:
                key = "moe_router_topk_scaling_factor"
            router = RouterConfig(
                kind="grouped_sigmoid",
                top_k=chosen,
                n_group=llm.whole("n_group", most=EXPERTS),
                topk_group=llm.whole("topk_group", most=EXPERTS),
                scaling=llm.number(key, 2.5, least=1e-6, most=1e6),
            )
        else:
            router = RouterConfig(
                kind="softmax", top_k=chosen, norm=llm.flag("norm_topk_prob", True)
            )

        def token(key: str) -> int | None:
            return llm.whole(key, least=0, most=vocabulary - 1) if key in llm else None

        pad = token("pad_token_id") or 0
        eos = token("eos_token_id")
        return cls(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=llm.whole("intermediate_size", most=WIDTH),
            num_hidden_layers=llm.whole("num_hidden_layers", most=LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=llm.whole("num_key_value_heads", most=WIDTH),
            head_dim=head_dim,
            num_experts=llm.whole("num_experts", most=EXPERTS),
            num_shared_experts=llm.whole("num_shared_experts", 0, least=0, most=EXPERTS),
            moe_intermediate_size=llm.whole("moe_intermediate_size", most=WIDTH),
            first_k_dense_replace=llm.whole("first_k_dense_replace", 0, least=0, most=LAYERS),
            # Below, it would vanish in float32 and a row of zeros would become NaN.
            rms_norm_eps=llm.number("rms_norm_eps", least=1e-30, most=1),
            max_position_embeddings=llm.whole("max_position_embeddings", 32768),
            rope=rope,
            router=router,
            qk_norm=flash,
            qkv_bias=llm.flag("use_qkv_bias", False),
            dense_bias=llm.flag("use_bias", False),
            multi_gate=llm.text("router_type", "") == "MultiRouter"
            if flash
            else llm.flag("multi_gate", False),
            pad_token_id=pad,
            eos_token_id=pad if eos is None else eos,
            image_patch_token=token("image_patch_token"),
            video_patch_token=token("video_patch_token"),
            image_start_token=token("image_start_token"),
            video_start_token=token("video_start_token"),
            use_interleaved_frame_timestamp=llm.flag("use_interleaved_frame_timestamp", False),
            spatial_merge_size=llm.whole("spatial_merge_size", 2, most=MERGE),
        )


def _rope_kind(llm: Section) -> RopeKind:
    if "rope_scaling" not in llm:
        return "1d"
    kinds: dict[str, RopeKind] = {"3D": "mrope", "video_rope": "video_rope"}
    scaling = llm.section("rope_scaling")
    kind = scaling.raw("type", None)
    if kind is None:
        return "1d"
    if not isinstance(kind, str) or kind not in kinds:
        raise BadConfig(
            f"unknown rope_scaling type {shown(kind)}; expected null, '3D' or 'video_rope'"
        )
    return kinds[kind]
