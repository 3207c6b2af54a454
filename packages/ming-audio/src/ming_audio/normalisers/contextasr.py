"""The normaliser of ContextASR-Bench: its tokens are what WER, NE-WER and NE-FNR are counted in."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Literal

from ming_audio.normalisers.contractions import expand_contractions
from ming_audio.normalisers.scripts import CJK, LATIN

Language = Literal["English", "Mandarin"]

_PUNCTUATION = dict.fromkeys(
    map(
        ord,
        ',;(){}[]"|:!?.#$%&*+/<=>@\\^_`~'
        "，；､、丶｟｠《》（）｢｣［］｛｝「」『』【】〔〕〖〗〘〙〚〛〈〉｜：！？｡。＂＃＄％＆＇＊＋－／＜＝＞＠＼＾＿｀～"
        "〃〜〝〞〟〰〾〿‘’‛“”„‟…‧﹏·•・′″–—―-'",
    ),
    " ",
)
_LONE_O = re.compile(r"(?<!\S)([Oo])'(?!\S)")
_GLUED = re.compile(f"(?<=[{CJK}])(?=[{CJK}{LATIN}])|(?<=[{LATIN}])(?=[{CJK}])")


def contextasr_text(text: str, language: Language) -> str:
    """Tokens separated by single spaces: Latin words, and Chinese characters one by one.

    Letters spelled one by one become a word (`A C H` -> `ach`). Digits stay glued to what is
    beside them (`第3章`), and neither numbers nor traditional characters are changed.
    """
    if text.isupper():
        text = text.lower()
    if language == "English":
        text = expand_contractions(_LONE_O.sub(r"\1", text))
    tokens = _GLUED.sub(" ", text.translate(_PUNCTUATION)).split()
    runs = (("" if spelled else " ").join(run) for spelled, run in groupby(tokens, key=_is_letter))
    return " ".join(runs).lower()


def _is_letter(token: str) -> bool:
    """One letter, or a plural of one; `is` and `us` count, too, in the public scorer."""
    return token[1:] in ("", "s") and (token[0].isupper() or token[0].islower())
