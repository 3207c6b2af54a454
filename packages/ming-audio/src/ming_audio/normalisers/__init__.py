"""Texts made comparable before their words or characters are counted.

Published error rates were counted with these rules. Other rules give other numbers.
"""

from __future__ import annotations

from ming_audio.normalisers.contextasr import Language, contextasr_text
from ming_audio.normalisers.english import english_text, english_tokens
from ming_audio.normalisers.mandarin import mandarin_tokens

__all__ = ["Language", "contextasr_text", "english_text", "english_tokens", "mandarin_tokens"]
