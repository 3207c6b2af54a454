"""Conversations about speech: write it down, answer what it asks, say what it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ming_audio.prompts import AudioPrompts, question, tagged
from ming_core.media import Audio, assistant, user
from ming_core.training.packing import plan_packing
from ming_recipes.nano.data import Conversation, Packer, Row, row_of
from ming_recipes.nano.speech import Listening, Sounds
from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.nano.world.hotwords import other_words
from ming_recipes.nano.world.language import Question
from ming_recipes.nano.world.scene import TEXT_PROBABILITY, generator, seed_of
from ming_recipes.nano.world.speech import Utterance, context_of, heard_question

PROMPTS: AudioPrompts = replace(
    AudioPrompts(),
    # As published, but with spaces: a name is one entry of the tokenizer only behind a space.
    hotwords=" This audio may contains the following words or phrases: {hotwords}.",
    hotword_separator=", ",
    languages={"en": "English", "zh": "Chinese"},
)
"""How nano is asked to write down speech."""

TALK_STREAM = 7
CHOICE_STREAM = 9
LIST_STREAM = 11
WINDOW = 4
WEIGHT = 0.7  # of each token of a transcript in the loss: more than of a description
_SOUND = Audio(None)  # stands for an utterance in a prompt


def speech_rows(
    packer: Packer, listening: Listening, uses: Sequence[int], spoken: int
) -> list[Row]:
    """Rows of the utterances of some uses of the recordings, as few as hold them.

    Up to `spoken` of those that ask about a picture are put to it instead of written down. What is
    longer than a row is left out.
    """
    sounds = {use: listening(use) for use in uses}
    asking = [use for use in sounds if sounds[use].utterances[0].question is not None][:spoken]
    rows = [spoken_row(listening, use, sounds[use]) for use in asking]
    split = listening.recordings.split
    others = listening.variety.other_lists
    talks = [conversation(split, use, sounds[use], others) for use in sounds if use not in asking]
    sizes = [packer.tokens(talk) for talk in talks]
    fitting = [i for i, size in enumerate(sizes) if size <= packer.capacity]
    plan = plan_packing([sizes[i] for i in fitting], packer.capacity)
    packed: dict[int, list[Conversation]] = {}
    for i, place in zip(fitting, plan, strict=True):
        packed.setdefault(place.row, []).append(talks[i])
    return rows + [Row(together) for together in packed.values()]


def chosen(listening: Listening, first: int, count: int, focus: Mapping[str, float]) -> list[int]:
    """`count` of the `WINDOW * count` uses of the recordings from `first` on, without repetition.

    focus: multiples of the frequencies of the kinds of sentences.
    """
    rng = generator(seed_of(listening.recordings.split, first), CHOICE_STREAM)
    window = range(first, first + WINDOW * count)
    kinds = [listening.recordings.utterance(use).kind for use in window]
    # A weighted draw (Efraimidis and Spirakis 2006).
    ranks = {
        use: rng.random() ** (1 / focus.get(kind, 1.0))
        for use, kind in zip(window, kinds, strict=True)
    }
    return sorted(sorted(window, key=ranks.__getitem__)[-count:])


def spoken_row(listening: Listening, use: int, sound: Sounds) -> Row:
    """The picture that an utterance asks about, with the question aloud and others in writing."""
    index = listening.recordings.index(use)
    mix = Mix(questions=10, text=TEXT_PROBABILITY)
    row = row_of(training_example(index, mix, listening.recordings.split))
    assert row.medium is not None
    (said,) = sound.utterances
    assert said.question is not None
    turns = [user(row.medium, _SOUND), assistant(said.question.answer)]
    aloud = Conversation(turns, (replace(said.question, kind="spoken"),), (sound,))
    return replace(row, conversations=[aloud, *row.conversations])


def conversation(split: str, use: int, sound: Sounds, other_lists: float = 0.0) -> Conversation:
    """What is asked about an utterance: mostly its text, with or without names to listen for.

    other_lists: the share of lists that hold other words instead (`world.hotwords`).
    """
    (said,) = sound.utterances
    rng = generator(seed_of(split, use), TALK_STREAM)
    asked = heard_question(said, rng) if rng.random() < 0.2 else None
    if asked is not None:
        turns = [user(_SOUND, asked.question), assistant(asked.answer)]
        return Conversation(turns, (asked,), (sound,))
    listed = rng.random() < (0.8 if said.names else 0.3)
    context = context_of(said.names, said.lang, rng) if listed else ()
    lists = generator(seed_of(split, use), LIST_STREAM)
    if listed and lists.random() < other_lists:
        context = other_words(said.names, said.lang, lists)
    asked = transcription(said, context)
    turns = [user(asked.question, _SOUND), assistant(asked.answer)]
    return Conversation(turns, (asked,), (sound,), WEIGHT)


def transcription(said: Utterance, context: tuple[str, ...]) -> Question:
    """The request to write down an utterance, and its answer with the tag of the language."""
    tag = PROMPTS.languages[said.lang]
    asked = question(PROMPTS, hotwords=context)
    kind = "transcribe" if not said.names else "name in context" if context else "name"
    return Question(kind, said.lang, asked, tagged(tag, said.text), 0, ())
