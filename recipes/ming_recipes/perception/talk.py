"""Conversations about speech: write it down, answer what it asks, say what it names."""

from __future__ import annotations

from dataclasses import replace


from ming_audio.prompts import FLASH, TAG_END, AudioPrompts, question
from ming_core.media import Audio, assistant, user
from ming_recipes.perception.data import Conversation, Row, row_of
from ming_recipes.perception.speech import Listening, Sounds
from ming_recipes.world.batch import Mix, training_example
from ming_recipes.world.language import Question
from ming_recipes.world.scene import TEXT_PROBABILITY, generator, seed_of
from ming_recipes.world.speech import Utterance, context_of, heard_question

PROMPTS: AudioPrompts = replace(
    FLASH,
    # As published, but with spaces: a name is one entry of the tokenizer only behind a space.
    hotwords=" This audio may contains the following words or phrases: {hotwords}.",
    hotword_separator=", ",
    languages={"en": "English", "zh": "Chinese"},
)
"""How nano is asked to write down speech."""

TALK_STREAM = 7
_SOUND = Audio(None)  # stands for an utterance in a prompt


def speech_rows(listening: Listening, first: int, count: int, spoken: int) -> list[Row]:
    """Rows of `count` uses of the recordings from `first` on. Up to `spoken` of those that ask
    about a picture are put to it; of the others, a long one and a short one share a row."""
    uses = range(first, first + count)
    sounds = [listening(use) for use in uses]
    asking = [i for i in range(count) if sounds[i].utterances[0].question is not None][:spoken]
    rows = [spoken_row(listening, uses[i], sounds[i]) for i in asking]
    others = [(uses[i], sounds[i]) for i in range(count) if i not in asking]
    others.sort(key=lambda pair: pair[1].features.tokens[0])
    talks = [conversation(listening.recordings.split, use, sound) for use, sound in others]
    half = len(talks) // 2
    rows += [Row([long, short]) for short, long in zip(talks[:half], talks[::-1], strict=False)]
    return rows + [Row([talk]) for talk in talks[half : len(talks) - half]]


def spoken_row(listening: Listening, use: int, sound: Sounds) -> Row:
    """The picture of an utterance that asks about it, that question aloud, and others in writing."""
    index = use % listening.recordings.count
    mix = Mix(questions=10, text=TEXT_PROBABILITY)
    row = row_of(training_example(index, mix, listening.recordings.split))
    assert row.medium is not None
    (said,) = sound.utterances
    assert said.question is not None
    turns = [user(row.medium, _SOUND), assistant(said.question.answer)]
    aloud = Conversation(turns, (replace(said.question, kind="spoken"),), (sound,))
    return replace(row, conversations=[aloud, *row.conversations])


def conversation(split: str, use: int, sound: Sounds) -> Conversation:
    """What is asked about an utterance: mostly its text, with or without names to listen for."""
    (said,) = sound.utterances
    rng = generator(seed_of(split, use), TALK_STREAM)
    asked = heard_question(said, rng) if rng.random() < 0.2 else None
    if asked is not None:
        turns = [user(_SOUND, asked.question), assistant(asked.answer)]
    else:
        listed = rng.random() < (0.6 if said.names else 0.3)
        asked = transcription(said, context_of(said.names, said.lang, rng) if listed else ())
        turns = [user(asked.question, _SOUND), assistant(asked.answer)]
    return Conversation(turns, (asked,), (sound,))


def transcription(said: Utterance, context: tuple[str, ...]) -> Question:
    """The request to write down an utterance, and its answer with the tag of the language."""
    tag = PROMPTS.languages[said.lang]
    asked = question(PROMPTS, hotwords=context)
    kind = "transcribe" if not said.names else "name in context" if context else "name"
    return Question(kind, said.lang, asked, f"{tag}{TAG_END}{said.text}", 0, ())
