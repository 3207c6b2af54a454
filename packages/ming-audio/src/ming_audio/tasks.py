"""Speech to text: `model.transcribe("talk.mp3")`, for sounds of any length in limited memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from ming_audio.config import Ear, WhisperConfig
from ming_audio.hotwords import with_listed
from ming_audio.lengths import RATE, fbank_frames, mel_frames, stacked_frames
from ming_audio.processing import AudioProcessor
from ming_audio.prompts import (
    TAG_END,
    AudioPrompts,
    language_of,
    parse,
    prompts_of,
    question,
    tag_of,
)
from ming_audio.reading import audio_seconds, count_channels, stream_audio
from ming_audio.segments import Segment as Piece
from ming_audio.segments import SegmentRule, segments, shares
from ming_audio.transcripts import Segment, Transcript, joined, main_language
from ming_core.chat.prompt import build_prompt
from ming_core.errors import BadConfig
from ming_core.media import Audio, Channel, Media, Video, checked_channel, user
from ming_core.media.files import MediaFile, MediaSource
from ming_core.notes import collected_notes

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_core.engine.sampling import SamplingOptions

PIECE = 30.0
"""Seconds of sound that are heard at once, or fewer if the model cannot take so many."""

BATCH = 8
"""Pieces that are heard together."""

TOKENS = 512
"""Longest text of a piece unless asked otherwise, as in the demos of the releases."""

EMPTY = np.zeros(0, np.float32)

SILENT = "no speech was heard"

Progress = Callable[[float, float | None], None]
"""Called with the seconds that are done, and those of the whole sound if its file tells."""


def transcribe(
    model: OmniModel,
    source: Any,
    language: str | None = None,
    context: str | None = None,
    hotwords: Sequence[str] = (),
    *,
    dialect: str | None = None,
    domain: str | None = None,
    punctuated: bool = False,
    cut: bool = False,
    channel: Channel | Literal["each"] = "mix",
    batch: int = BATCH,
    progress: Progress | None = None,
    **sampling: Unpack[SamplingOptions],
) -> Transcript:
    """Write down what is said in a sound, with the times at which it is said.

    A sound of at most 30 s is heard as a whole. A longer sound is cut at pauses. So is every sound
    with `cut`, and every sound for a model that was trained on single sentences.

    Args:
        source: A path, a URI, bytes, an array at 16 kHz, a pair (array, samples per second), an
            `Audio` or a `Video`.
        language: A code such as "en". None lets the model recognise the language.
        context: Text that came before, or that the sound is about.
        hotwords: Names and terms that may occur.
        dialect: A dialect such as "上海".
        domain: The topic, such as "medicine".
        punctuated: Ask for punctuation.
        cut: Cut short sounds at pauses, too.
        channel: "mix" for all channels together, the number of one channel from 0, or "each" to
            transcribe every channel by itself.
        batch: Number of pieces that are heard together.
        progress: Function of the seconds that are done and the seconds of the whole sound.
        sampling: Fields of `Sampling`.

    Raises MissingPlugin if the model cannot hear, BadMedia, UnknownName for an unknown language,
    and BadConfig, for example if hotwords and context do not fit.
    """
    prompts = prompts_of(model.wording("audio_tasks"))
    longest, sound_tokens = _limits(model)
    if batch < 1:
        raise BadConfig(f"batch is {batch}; it must be at least 1")
    dialect, domain = _words("dialect", dialect), _words("domain", domain)
    about = {"dialect": dialect, "domain": domain, "context": _words("context", context)}
    words = _hotwords(hotwords)
    tag = tag_of(prompts, _words("language", language), dialect)
    begin = "" if tag is None else tag + TAG_END
    sampling = {
        "max_new_tokens": TOKENS,
        "no_repeat_ngram": prompts.no_repeat_ngram,
        **sampling,
    }

    def ask(hotwords: Sequence[str]) -> str:
        return question(prompts, punctuated=punctuated, hotwords=hotwords, **about)

    room = model.config.max_position_embeddings - sound_tokens
    room -= min(sampling["max_new_tokens"], TOKENS)
    asked = _fitting(model, ask, words, begin, room, longest)

    def answers_to(group: Sequence[Piece]) -> list[Answer]:
        sounds = [Audio(piece.samples, "transcribe") for piece in group]

        def hear_for(asked: str) -> list[Answer]:
            talks = [[user(asked, sound)] for sound in sounds]
            return model.answer_batch(talks, begin=begin, **sampling)

        listed = hear_for(asked)
        if not words or not prompts.compare_hotwords:
            return listed
        plain = hear_for(ask(()))
        return [as_listed(*pair, words) for pair in zip(plain, listed, strict=True)]

    rule = _rule(longest, prompts.pause)

    def hear(source: Any, channel: Channel, progress: Progress | None) -> Transcript:
        total = audio_seconds(source) if progress else None
        heard = _Counted(stream_audio(source, channel=channel))
        pieces: list[Piece] = []
        answers: list[Answer] = []
        for group in _groups(_pieces(heard, rule, cut or prompts.pause > 0), batch):
            answers += answers_to(group)
            pieces += [replace(piece, samples=EMPTY) for piece in group]  # the sound may be long
            if progress:
                progress(group[-1].end, total)
        if progress:
            progress(heard.seconds, heard.seconds)
        return _transcript(prompts, pieces, answers, tag, heard.seconds, sampling["max_new_tokens"])

    if isinstance(source, Media):
        if channel == "mix" and isinstance(source, Audio | Video):
            channel = source.channel
        source = source.source
    if isinstance(source, MediaSource):  # found once, as a pipe is read once
        source = MediaFile.find(source, "sound")
    with collected_notes() as notes:
        if channel == "each":
            found = _each_channel(source, hear, progress)
        else:
            found = hear(source, checked_channel(channel), progress)
    return replace(found, notes=(*notes, *found.notes))


def _each_channel(
    source: Any,
    hear: Callable[[Any, Channel, Progress | None], Transcript],
    progress: Progress | None,
) -> Transcript:
    """What is said in each channel, in order of time. That of a single channel is as always."""
    count = count_channels(source)
    if count == 1:
        return hear(source, 0, progress)

    def heard(channel: int) -> Transcript:
        def tell(done: float, total: float | None) -> None:
            if progress:
                before = channel * (total or 0)
                progress(before + done, None if total is None else total * count)

        return hear(source, channel, tell if progress else None)

    return joined([heard(channel) for channel in range(count)])


def as_listed(plain: Answer, listed: Answer, words: Sequence[str]) -> Answer:
    """The answer without a list of words, changed only where the list names what is written."""
    text = with_listed(plain.answer, listed.answer, words)
    return plain if text == plain.answer else replace(listed, text=text)


def _transcript(
    prompts: AudioPrompts,
    pieces: Sequence[Piece],
    answers: Sequence[Answer],
    tag: str | None,
    seconds: float,
    budget: int,
) -> Transcript:
    """Pieces and answers to one text. tag: the one that the answers were begun with.

    Of a model that tells what it knows, only sure answers are speech.
    """
    notes = [] if pieces else [SILENT]
    unknown = [piece for piece, answer in zip(pieces, answers, strict=True) if not _known(answer)]
    if unknown:
        places = ", ".join(f"{piece.start:.1f}-{piece.end:.1f}" for piece in unknown[:4])
        more = ", …" if len(unknown) > 4 else ""
        notes += [SILENT] if len(unknown) == len(pieces) else []
        notes.append(f"what sounds at {places}{more} s is no speech that the model knows")
    pieces = [piece for piece, answer in zip(pieces, answers, strict=True) if _known(answer)]
    answers = list(filter(_known, answers))
    parsed = [
        parse(prompts, answer.answer) if tag is None else (tag, answer.answer.strip())
        for answer in answers
    ]
    texts = shares([text for _, text in parsed], [piece.overlap for piece in pieces])
    found = tuple(
        Segment(
            piece.start + piece.overlap,
            piece.end,
            text.strip(),
            None if own is None else language_of(prompts, own),
            confidence=answer.confidence,
        )
        for piece, answer, (own, _), text in zip(pieces, answers, parsed, texts, strict=True)
    )
    looped = sum(answer.repeated for answer in answers)
    if looped:
        notes.append(
            f"the text of {looped} of {len(answers)} pieces was cut off because it said the same "
            "thing over and over"
        )
    torn = sum(not answer.stopped and not answer.repeated for answer in answers)
    if torn:
        notes.append(
            f"the text of {torn} of {len(answers)} pieces was cut off; allow more than "
            f"max_new_tokens {budget}"
        )
    text = "".join(texts).strip()
    return Transcript(text, main_language(found), found, seconds, tuple(notes))


def _known(answer: Answer) -> bool:
    return answer.sure is not False and answer.error is None


class _Counted:
    """Blocks of samples that counts the seconds given out."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._samples = 0

    @property
    def seconds(self) -> float:
        return self._samples / RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        block = next(self._blocks)
        self._samples += len(block)
        return block


def _pieces(blocks: Iterator[np.ndarray], rule: SegmentRule, cut: bool) -> Iterator[Piece]:
    """What the model hears at once: all of a short sound, or what lies between pauses.

    cut: a short sound with pauses is cut, too. One without is heard as a whole all the same.
    """
    head: list[np.ndarray] = []
    most = round(rule.longest * RATE)
    while sum(map(len, head)) <= most:
        block = next(blocks, None)
        if block is None:
            whole = np.concatenate(head)
            spoken = list(segments([whole], rule))
            if cut and len(spoken) > 1:
                yield from spoken
            elif spoken:
                yield Piece(spoken[0].start, spoken[-1].end, whole)
            return
        head.append(block)
    yield from segments(chain(head, blocks), rule)


def _groups(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    while group := list(islice(pieces, size)):
        yield group


def _rule(longest: float, pause: float) -> SegmentRule:
    """How sounds are cut; pauses and overlaps shrink with very short pieces. pause: 0 is usual."""
    usual = SegmentRule()
    return replace(
        usual,
        longest=longest,
        silence=min(pause or usual.silence, longest / 8),
        overlap=min(usual.overlap, longest / 8),
    )


def _limits(model: OmniModel) -> tuple[float, int]:
    """Seconds of the longest piece, and its tokens. An encoder of other makers tells neither."""
    processor = model.encoder("audio").processor
    if not isinstance(processor, AudioProcessor):
        return PIECE, 0
    ear = processor.config.transcribing
    longest = PIECE
    if isinstance(ear.config, WhisperConfig):
        longest = min(PIECE, ear.config.most_frames / mel_frames(RATE))
    return longest, _tokens(ear, round(longest * RATE))


def _tokens(ear: Ear, samples: int) -> int:
    whisper = isinstance(ear.config, WhisperConfig)
    return ear.tokens(mel_frames(samples) if whisper else stacked_frames(fbank_frames(samples)))


def _words(name: str, value: str | None) -> str | None:
    """None for blank ones. Raises BadConfig for what is no text."""
    if value is not None and not isinstance(value, str):
        raise BadConfig(
            f"{name} of transcribe is {value!r}; it must be a text, and words to listen for are "
            "given as hotwords"
        )
    return " ".join((value or "").split()) or None


def _hotwords(words: Sequence[str]) -> list[str]:
    """Each once, in their order, blank ones left out."""
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise BadConfig(f"hotwords must be a list of words, as ['Ming', 'Ling'], not {words!r:.60}")
    return list(dict.fromkeys(clean for word in words if (clean := " ".join(word.split()))))


def _fitting(
    model: OmniModel,
    ask: Callable[[Sequence[str]], str],
    words: Sequence[str],
    begin: str,
    room: int,
    longest: float,
) -> str:
    """The question with all hotwords. Raises BadConfig if it has more than `room` tokens."""

    def size(count: int) -> int:
        messages = [user(ask(words[:count]))]
        prompt = build_prompt(messages, model.format, model.tokenizer, begin=begin)
        return len(prompt.input_ids) + 2  # start and end of the sound

    if size(len(words)) <= room:
        return ask(words)
    fits, beyond = -1, len(words)  # so many fit, so many do not
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if size(middle) <= room else (fits, middle)
    way_out = (
        f"the first {fits} of the {len(words)} hotwords fit, so give fewer"
        if fits > 0
        else "shorten the context"
    )
    raise BadConfig(
        f"the question has {size(len(words)):,} tokens, and beside {longest:g} s of sound the "
        f"context of {model.name} has room for {max(room, 0):,}; {way_out}"
    )
