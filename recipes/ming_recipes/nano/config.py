"""Settings of the nano perception recipe; a YAML file or `key=value` overrides them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ming_recipes.nano.world.language import KIND_WEIGHTS, VIDEO_WEIGHTS
from ming_recipes.nano.world.speech import KIND_WEIGHTS as SENTENCES
from ming_recipes.training.ranges import Keys, Range

Count = Annotated[int, Range(1, 1_000_000)]
Some = Annotated[int, Range(0, 1_000_000)]  # or none
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1, above=True)]
Weight = Annotated[float, Range(0, 1000)]
Multiple = Annotated[float, Range(0, 1000, above=True)]
QuestionWeights = Annotated[dict[str, Multiple], Keys((*KIND_WEIGHTS, *VIDEO_WEIGHTS))]
SentenceWeights = Annotated[dict[str, Multiple], Keys(tuple(SENTENCES))]


@dataclass
class NanoPerception:
    """Everything that determines a run. Steps are optimiser steps; shares are of one batch."""

    out: str = "runs/nano-perception"
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    # One thread each; two threads of one process gain nothing at this size.
    processes: Annotated[int, Range(1, 1024)] = 2
    sight_steps: Count = 1400  # the tower alone, on dense labels
    sight_images: Count = 64  # images per step and process
    language_steps: Count = 1000  # the language model in front of the frozen tower
    joint_steps: Count = 3000  # both
    recordings: Count = 32000  # utterances, made by espeak-ng and flite before anything is heard
    speech: str | None = None  # a file of recordings in place of programs, see `nano/pack.py`
    hearing_steps: Count = 2000  # the audio encoder alone, on what is said
    hearing_sounds: Count = 32  # per step and process
    senses_steps: Count = 4700  # everything together
    senses_images: Count = 8  # rows of a picture or video, per step and process
    senses_sounds: Count = 28  # utterances, per step and process, about two a row
    senses_spoken: Some = 3  # of them questions, asked about their picture as well
    images: Count = 20  # packed rows per step and process
    # Tokens of a packed row: a picture or video and its conversations.
    capacity: Annotated[int, Range(96, 4096)] = 208
    # The same in the senses stage, where sentences that are joined need more.
    senses_capacity: Annotated[int, Range(96, 4096)] = 208
    easy_steps: Some = 150  # language steps on scenes of one or two objects
    # Shares of the examples. Text is in more scenes than the world's 0.3: it is learnt late.
    sight_text: Share = 0.8
    sight_video: Share = 0.3
    language_text: Share = 0.5
    language_video: Share = 0.08
    language_dialogue: Share = 0.1  # of the questions: asked after another one
    joint_text: Share = 0.8
    joint_video: Share = 0.2
    joint_dialogue: Share = 0.4
    joint_think: Share = 0.05
    senses_video: Share = 0.3  # the other shares are as in "joint"
    # What the shipped weights were not taught, in "language", "joint" and "senses": other ways to
    # ask, wide and tall pictures, and what one cannot know. See `world.batch.Mix`.
    more_phrases: Share = 0.0
    framed: Share = 0.0
    unknown: Share = 0.0
    # Multiples of the world's frequencies. First what binds words to objects: answers of many
    # digits, and those that nobody can give before that, would only be noise.
    language_focus: QuestionWeights = field(
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
    joint_focus: QuestionWeights = field(
        default_factory=lambda: {"text": 6.0, "position": 1.3, "locate": 1.5}
    )
    senses_focus: QuestionWeights = field(
        default_factory=lambda: {
            "text": 3.0,
            "position": 1.3,
            "locate": 1.5,
            "describe": 5.0,
            "relation_query": 2.5,
        }
    )
    # Sentences about people and numbers are few, and their words are what is misheard.
    senses_sentences: SentenceWeights = field(default_factory=lambda: {"name": 3.0, "number": 3.0})
    # What some sounds are, see `speech.Variety`. The defaults are those of the shipped weights,
    # which were taught single sentences and lists of names; nano.yaml has those of the next run.
    free_words: Share = 0.0  # of the recordings: known words in any order
    joined_sounds: Share = 0.0
    wordless_sounds: Share = 0.0
    other_lists: Share = 0.0  # of the lists of words to listen for
    muon_lr: Rate = 0.01
    adam_lr: Rate = 0.002
    # Of the learning rates, for the image tower beside the language model.
    tower_rate: Multiple = 0.25
    senses_rate: Multiple = 0.5  # of the learning rates, at the start of the senses stage
    warmup: Count = 50
    clip: Weight = 1.0
    dense_weight: Weight = 0.5
    align_weight: Weight = 0.3
    where_weight: Weight = 0.1  # of places, asked of early layers of the language model
    order_weight: Weight = 0.3  # of the word before, asked of sound tokens there
    name_weight: Weight = 1.0  # of whose name they say, asked there, too
    name_word_weight: Weight = 3.0  # of a name in an answer, in multiples of other words
    ctc_weight: Weight = 0.3
    balance_weight: Weight = 0.0001
    z_weight: Weight = 0.00001
    bias_rate: Share = 0.001
    settle_steps: Some = 150  # of the bias rule alone, after the last stage
    settle_rate: Share = 0.002  # of the first of them
    save_every: Count = 100
    validate_every: Count = 1000
    validation_images: Count = 256
    validation_sounds: Count = 300
    test_images: Count = 200  # of each slice, in the final score
