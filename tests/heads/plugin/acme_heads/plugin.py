"""Everything this package adds."""

from __future__ import annotations

from typing import Any

from ming_core import hookimpl


@hookimpl
def ming_register_heads(register: Any) -> None:
    register("acme_painter", "acme_heads.painter:Painter", gives="image", section="painter_config")
    register("acme_talker", "acme_heads.talker:Talker", gives="audio", section="talker_config")
    register("acme_reader", "acme_heads.reader:Reader", gives="audio", section="reader_config")
