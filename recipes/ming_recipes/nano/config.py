"""Settings of the nano perception recipe; nano.yaml has the five stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ming_recipes.nano.world.batch import Mix
from ming_recipes.nano.world.language import KIND_WEIGHTS, VIDEO_WEIGHTS
from ming_recipes.nano.world.scene import MAX_OBJECTS, TEXT_PROBABILITY
from ming_recipes.nano.world.speech import KIND_WEIGHTS as SENTENCES
from ming_recipes.training.optimizers import Optimizer
from ming_recipes.training.ranges import Keys, Range

Count = Annotated[int, Range(1, 1_000_000)]
Some = Annotated[int, Range(0, 1_000_000)]  # or none
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1000)]
Multiple = Annotated[float, Range(0, 1000, above=True)]
QuestionWeights = Annotated[dict[str, Multiple], Keys((*KIND_WEIGHTS, *VIDEO_WEIGHTS))]
SentenceWeights = Annotated[dict[str, Multiple], Keys(tuple(SENTENCES))]
StageName = Literal["sight", "language", "joint", "hearing", "senses"]

STAGES: tuple[StageName, ...] = ("sight", "language", "joint", "hearing", "senses")


@dataclass
class Seen:
    """Pictures and videos of a stage, and what is asked about them; see `world.batch.Mix`. The
    shipped weights were taught without `more_phrases`, `framed` and `unknown`.

    easy_steps: the first steps show one or two objects. focus: multiples of the world's frequencies
    of the kinds of questions.
    """

    text: Share = TEXT_PROBABILITY
    video: Share = 0.0
    dialogue: Share = 0.0
    think: Share = 0.0
    questions: Some = 14
    still_clips: bool = False
    more_phrases: Share = 0.0
    framed: Share = 0.0
    unknown: Share = 0.0
    easy_steps: Some = 0
    focus: QuestionWeights = field(default_factory=dict)

    def mix(self, step: int) -> Mix:
        """What the examples of a training step are made of."""
        return Mix(
            questions=self.questions,
            max_objects=2 if step < self.easy_steps else MAX_OBJECTS,
            text=self.text,
            video=self.video,
            still_clips=self.still_clips,
            think=self.think,
            dialogue=self.dialogue,
            focus=self.focus,
            more_phrases=self.more_phrases,
            framed=self.framed,
            unknown=self.unknown,
        )


@dataclass
class Heard:
    """Sounds of a stage; shares as in `speech.Variety`.

    focus: multiples of the world's frequencies of the kinds of sentences, in rows of conversations.
    """

    joined: Share = 0.0
    wordless: Share = 0.0
    other_lists: Share = 0.0  # of the lists of words to listen for
    focus: SentenceWeights = field(default_factory=dict)


@dataclass
class Stage:
    """One part of the training. Numbers of media are those of a step and a process.

    Attributes:
        pictures: Rows of a picture or video each. Without any, only the audio encoder runs.
        sounds: Utterances, about two a row.
        spoken: Of them questions, asked about their picture as well.
        on_device: Pictures are drawn where the model is trained (`nano.on_device`), so that a GPU
            does not wait for them; for a stage that asks nothing.
        share: Of `minutes`, if the run has to end in time.
        capacity: Tokens of a packed row: a picture or video and its conversations.
        rate: Multiple of the learning rates.
        curve: Stages that share one curve of the learning rate; none: this one alone.
        start: What is done before the first step.
        train: Patterns of names of weights, and multiples of their learning rate.
        losses: Patterns of names of terms of the loss, and their weights. An objective is used if
            one of its terms has a weight.
    """

    steps: Count = 1
    pictures: Some = 0
    sounds: Some = 0
    spoken: Some = 0
    on_device: bool = False
    share: Share = 0.0
    capacity: Annotated[int, Range(96, 4096)] = 208
    rate: Multiple = 1.0
    curve: list[StageName] = field(default_factory=list)
    start: Literal["as it is", "hear as read"] = "as it is"
    train: dict[str, Multiple] = field(default_factory=dict)
    losses: dict[str, Weight] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    heard: Heard = field(default_factory=Heard)


def _optimizer() -> Optimizer:
    return Optimizer(kind="muon", rate=0.002, matrix_rate=0.01, beta2=0.98, warmup=50.0)


@dataclass
class NanoPerception:
    """Everything that determines a run."""

    out: str = "runs/nano-perception"
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    # One thread each; two threads of one process gain nothing at this size.
    processes: Annotated[int, Range(1, 1024)] = 2
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    workers: Annotated[int, Range(0, 1024)] = 0  # processes that make batches, for each process
    # From start to result, 0 for as many as it takes: a stage has fewer steps if they do not fit.
    minutes: Annotated[float, Range(0, 1_000_000)] = 0.0
    recordings: Count = 32000  # utterances, made by espeak-ng and flite before anything is heard
    speech: str | None = None  # a file of recordings in place of programs, see `nano/pack.py`
    free_words: Share = 0.0  # of the recordings: known words in any order
    optimizer: Optimizer = field(default_factory=_optimizer)
    sight: Stage = field(default_factory=Stage)
    language: Stage = field(default_factory=Stage)
    joint: Stage = field(default_factory=Stage)
    hearing: Stage = field(default_factory=Stage)
    senses: Stage = field(default_factory=Stage)
    name_weight: Weight = 3.0  # of a name in an answer, in multiples of other words
    bias_rate: Share = 0.001  # of the rule that evens out the experts, in each step
    settle_steps: Some = 150  # of this rule alone, after the last stage
    settle_rate: Share = 0.002  # of the first of them
    save_every: Count = 100
    log_every: Count = 20
    validate_every: Count = 1000
    validation_pictures: Count = 256
    validation_sounds: Count = 300
    test_pictures: Count = 200  # of each slice, in the final score

    def stage(self, name: StageName) -> Stage:
        return getattr(self, name)
