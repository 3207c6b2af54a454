"""The backbone's configuration, read from the `llm_config` section of a released config.json.

Field names are the released ones. What differs between the generations is not a version number
but three small pieces of data: the rotary kind, the router kind and whether q and k are normed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ming_core.errors import BadConfig

RopeKind = Literal["1d", "mrope", "video_rope"]
RouterKind = Literal["softmax", "grouped_sigmoid"]

TEXT, IMAGE, AUDIO = 0, 1, 2
"""Modality ids of tokens; video patches are IMAGE (they use the image router)."""

GATES = ("gate", "image_gate", "audio_gate")
"""Released router names, indexed by modality id."""

_SIZES = {
    "vocab_size": 1,
    "hidden_size": 1,
    "intermediate_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 1,
    "num_experts": 1,
    "num_shared_experts": 0,
    "moe_intermediate_size": 1,
    "first_k_dense_replace": 0,
    "max_position_embeddings": 1,
    "pad_token_id": 0,
    "eos_token_id": 0,
    "spatial_merge_size": 1,
}
"""Whole numbers of a configuration and the least value of each."""

# Values that would change the mathematics and that no released model uses.
_FIXED = {
    "use_sliding_window": False,
    "norm_head": False,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


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
        self._check_sizes()
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

    def _check_sizes(self) -> None:
        sizes = {name: getattr(self, name) for name in _SIZES}
        sizes |= {
            "num_experts_per_tok": self.router.top_k,
            "n_group": self.router.n_group,
            "topk_group": self.router.topk_group,
        }
        for name, value in sizes.items():
            least = _SIZES.get(name, 1)
            if type(value) is not int or value < least:
                raise BadConfig(
                    f"llm_config.{name} is {value!r}; it must be a whole number of at least {least}"
                )

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
        value of the wrong type, or a setting that no released model uses (sliding window, tied
        embeddings, another activation).
        """
        llm = {key: value for key, value in llm.items() if value is not None}
        kind = llm.get("model_type")
        if kind not in ("bailing_moe", "bailing_moe_v2"):
            raise BadConfig(
                f"unknown language model {kind!r} in llm_config.model_type; "
                "expected bailing_moe (Lite 1.0, 1.5) or bailing_moe_v2 (Flash)"
            )
        for key, value in _FIXED.items():
            if key in llm and llm[key] != value:
                raise BadConfig(f"llm_config.{key} is {llm[key]!r}; only {value!r} is supported")
        try:
            return cls._from_checked(llm, flash=kind == "bailing_moe_v2")
        except KeyError as error:
            raise BadConfig(f"llm_config lacks the field {error.args[0]!r}") from None
        except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
            raise BadConfig(f"llm_config holds a value that cannot be used: {error}") from None

    @classmethod
    def _from_checked(cls, llm: Mapping[str, Any], flash: bool) -> BackboneConfig:
        heads = llm["num_attention_heads"]
        head_dim = llm["head_dim"] if "head_dim" in llm else llm["hidden_size"] // heads
        scaling = llm.get("rope_scaling", {}).get("type")
        kinds: dict[str | None, RopeKind] = {None: "1d", "3D": "mrope", "video_rope": "video_rope"}
        if scaling not in kinds:
            raise BadConfig(
                f"unknown rope_scaling type {scaling!r}; expected null, '3D' or 'video_rope'"
            )
        rope = RopeConfig(
            kind=kinds[scaling],
            theta=float(llm["rope_theta"]),
            rotary_dim=int(head_dim * llm.get("partial_rotary_factor", 1.0)) if flash else head_dim,
        )
        if flash:
            # `norm_topk_prob` is not read by the reference: Flash always normalises. The factor
            # 2.5 exists only as its class default; the released key is a synonym of it.
            router = RouterConfig(
                kind="grouped_sigmoid",
                top_k=llm["num_experts_per_tok"],
                n_group=llm["n_group"],
                topk_group=llm["topk_group"],
                scaling=float(
                    llm.get("routed_scaling_factor", llm.get("moe_router_topk_scaling_factor", 2.5))
                ),
            )
        else:
            router = RouterConfig(
                kind="softmax",
                top_k=llm["num_experts_per_tok"],
                norm=llm.get("norm_topk_prob", True),
            )
        return cls(
            vocab_size=llm["vocab_size"],
            hidden_size=llm["hidden_size"],
            intermediate_size=llm["intermediate_size"],
            num_hidden_layers=llm["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=llm["num_key_value_heads"],
            head_dim=head_dim,
            num_experts=llm["num_experts"],
            num_shared_experts=llm.get("num_shared_experts", 0),
            moe_intermediate_size=llm["moe_intermediate_size"],
            first_k_dense_replace=llm.get("first_k_dense_replace", 0),
            rms_norm_eps=float(llm["rms_norm_eps"]),
            max_position_embeddings=llm.get("max_position_embeddings", 32768),
            rope=rope,
            router=router,
            qk_norm=flash,
            qkv_bias=llm.get("use_qkv_bias", False),
            dense_bias=llm.get("use_bias", False),
            multi_gate=llm.get("router_type") == "MultiRouter"
            if flash
            else llm.get("multi_gate", False),
            pad_token_id=llm.get("pad_token_id", 0),
            eos_token_id=llm.get("eos_token_id", llm.get("pad_token_id", 0)),
            image_patch_token=llm.get("image_patch_token"),
            video_patch_token=llm.get("video_patch_token"),
            image_start_token=llm.get("image_start_token"),
            video_start_token=llm.get("video_start_token"),
            use_interleaved_frame_timestamp=llm.get("use_interleaved_frame_timestamp", False),
            spatial_merge_size=llm.get("spatial_merge_size", 2),
        )
