"""Heads make pictures and speech from the hidden states of the backbone, or from text alone."""

from ming_core.heads.condition import Condition
from ming_core.heads.protocols import Head, HeadProcessor, Painter, Row, Speaker, Speech
from ming_core.heads.saving import save_head
from ming_core.heads.speaking import speak
from ming_core.heads.states import States, states_of
from ming_core.model.queries import Queries

__all__ = [
    "Condition",
    "Head",
    "HeadProcessor",
    "Painter",
    "Queries",
    "Row",
    "Speaker",
    "Speech",
    "States",
    "save_head",
    "speak",
    "states_of",
]
