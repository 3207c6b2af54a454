"""Settings of the nano perception recipe; a YAML file or `key=value` overrides them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NanoPerception:
    """Everything that determines a run. Steps are optimiser steps; shares are of one batch."""

    out: str = "runs/nano-perception"
    seed: int = 0
    processes: int = 2  # one thread each; two threads of one process gain nothing at this size
    sight_steps: int = 1400  # the tower alone, on dense labels
    sight_images: int = 64  # images per step and process
    language_steps: int = 1000  # the language model in front of the frozen tower
    joint_steps: int = 3000  # both
    recordings: int = 32000  # utterances, made by espeak-ng and flite before anything is heard
    hearing_steps: int = 2000  # the audio encoder alone, on what is said
    hearing_sounds: int = 32  # per step and process
    senses_steps: int = 4700  # everything together
    senses_images: int = 8  # rows of a picture or video, per step and process
    senses_sounds: int = 28  # utterances, per step and process, about two a row
    senses_spoken: int = 3  # of them questions, asked about their picture as well
    images: int = 20  # packed rows per step and process
    capacity: int = 208  # tokens of a packed row: a picture or video and its conversations
    easy_steps: int = 150  # language steps on scenes of one or two objects
    # Shares of the examples. Text is in more scenes than the world's 0.3: it is learnt late.
    sight_text: float = 0.8
    sight_video: float = 0.3
    language_text: float = 0.5
    language_video: float = 0.08
    language_dialogue: float = 0.1  # of the questions: asked after another one
    joint_text: float = 0.8
    joint_video: float = 0.2
    joint_dialogue: float = 0.4
    joint_think: float = 0.05
    senses_video: float = 0.3  # the other shares are as in "joint"
    # Multiples of the world's frequencies. First what binds words to objects: answers of many
    # digits, and those that nobody can give before that, would only be noise.
    language_focus: dict[str, float] = field(
        default_factory=lambda: {
            "relation": 0.3,
            "relation_side": 0.5,
            "text": 0.6,
            "locate": 0.4,
            "click": 0.15,
            "describe": 0.5,
            "color": 1.3,
            "position": 1.5,
        }
    )
    joint_focus: dict[str, float] = field(
        default_factory=lambda: {"text": 6.0, "position": 1.3, "locate": 1.5}
    )
    senses_focus: dict[str, float] = field(
        default_factory=lambda: {
            "text": 3.0,
            "position": 1.3,
            "locate": 1.5,
            "describe": 5.0,
            "relation_query": 2.5,
        }
    )
    # Sentences about people and numbers are few, and their words are what is misheard.
    senses_sentences: dict[str, float] = field(default_factory=lambda: {"name": 3.0, "number": 3.0})
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    tower_rate: float = 0.25  # of the learning rates, for the image tower beside the language model
    senses_rate: float = 0.5  # of the learning rates, at the start of the senses stage
    warmup: int = 50
    clip: float = 1.0
    dense_weight: float = 0.5
    align_weight: float = 0.3
    where_weight: float = 0.1  # of places, asked of early layers of the language model
    order_weight: float = 0.3  # of the word before, asked of sound tokens there
    name_weight: float = 1.0  # of whose name they say, asked there, too
    name_word_weight: float = 3.0  # of a name in an answer, in multiples of other words
    ctc_weight: float = 0.3
    balance_weight: float = 0.0001
    z_weight: float = 0.00001
    bias_rate: float = 0.001
    settle_steps: int = 150  # of the bias rule alone, after the last stage
    settle_rate: float = 0.002  # of the first of them
    save_every: int = 100
    validate_every: int = 1000
    validation_images: int = 256
    validation_sounds: int = 300
    test_images: int = 200  # of each slice, in the final score
