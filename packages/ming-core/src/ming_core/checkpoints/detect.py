"""Which release a checkpoint belongs to, told from its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ming_core.errors import BadCheckpoint
from ming_core.fields import shown

# (llm_config.model_type, llm_config.rope_scaling.type) of each family
_FAMILIES: dict[tuple[str, str | None], str] = {
    ("bailing_moe", None): "lite-1.0",
    ("bailing_moe", "3D"): "lite-1.5",
    ("bailing_moe_v2", "video_rope"): "flash",
}


def detect_family(config: Mapping[str, Any]) -> str | None:
    """ "lite-1.0", "lite-1.5", "flash", or None when config.json describes something else."""
    llm = config.get("llm_config")
    if not isinstance(llm, Mapping):
        return None
    model_type, rope = llm.get("model_type"), _rope_type(llm)
    if not isinstance(model_type, str) or not isinstance(rope, str | None):
        return None
    return _FAMILIES.get((model_type, rope))


def unknown_family(config: Mapping[str, Any]) -> BadCheckpoint:
    """The error for a config that no installed plugin recognises."""
    llm = config.get("llm_config")
    if isinstance(llm, Mapping):
        found = (
            f"a {shown(llm.get('model_type'))} language model "
            f"with rope_scaling {shown(_rope_type(llm))}"
        )
    else:
        found = f"model_type {shown(config.get('model_type'))} without an llm_config section"
    known = "; ".join(
        f"{family}: {model_type!r} with {rope!r}"
        for (model_type, rope), family in _FAMILIES.items()
    )
    return BadCheckpoint(
        f"unknown checkpoint: config.json describes {found}; the core knows {known}. "
        "Use one of these releases or install the package that registers this one"
    )


def _rope_type(llm: Mapping[str, Any]) -> Any:
    scaling = llm.get("rope_scaling")
    return scaling.get("type") if isinstance(scaling, Mapping) else scaling
