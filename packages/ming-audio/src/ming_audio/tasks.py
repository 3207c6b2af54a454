"""Speech to text: `model.transcribe("talk.mp3")`, for sounds of any length in limited memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
    tagged,
)
from ming_audio.reading import audio_seconds, count_channels, stream_audio
from ming_audio.segments import Segment as Piece
from ming_audio.segments import SegmentRule, segments, shares
from ming_audio.transcripts import Segment, Transcript, joined, main_language
from ming_core.chat.prompt import build_prompt
from ming_core.engine.request import Request, sampling_of
from ming_core.errors import BadConfig, NotFinite
from ming_core.media import Audio, Channel, Media, Video, checked_channel, user
from ming_core.media.files import MediaFile, MediaSource
from ming_core.notes import collected_notes
from ming_core.tasks import NoTarget, Task

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_core.engine.sampling import Sampling, SamplingOptions

PIECE = 30.0
"""Seconds of sound that are heard at once, or fewer if the model cannot take so many."""

TOKENS = 512
"""Longest text of a piece unless asked otherwise, as in the demos of the releases."""

EMPTY = np.zeros(0, np.float32)

SILENT = "no speech was heard"


@dataclass
class _Heard:
    """What was read of one channel: its pieces without their samples, its length, its notes.

    twice: with and without a list of words. complete: there are no more pieces.
    """

    channel: Channel
    twice: bool
    pieces: list[Piece] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Transcribe(Task):
    """Write down what is said in a sound, with the times at which it is said.

    A sound of at most 30 s is heard as a whole. A longer sound is cut at pauses. So is every sound
    for a model that was trained on single sentences.

    Args:
        source: A path, a URI, bytes, an array at 16 kHz, a pair (array, samples per second), an
            `Audio` or a `Video`.
        language: A code such as "en". None lets the model recognise the language.
        context: Text that came before, or that the sound is about.
        hotwords: Names and terms that may occur.
        dialect: A dialect such as "上海".
        domain: The topic, such as "medicine".
        punctuated: Ask for punctuation.
        cut: True also cuts short sounds at pauses; False never does; None does what the model was
            trained for.
        unsure: Keep the text of sounds that the model does not take for speech that it knows.
        channel: "mix" for all channels together, the number of one channel from 0, or "each" to
            transcribe every channel by itself.
        batch: How many pieces are heard together.
        progress: Function of the seconds that are done and the seconds of the whole sound.
        sampling: Fields of `Sampling`.

    Raises MissingPlugin if the model cannot hear, BadMedia, UnknownName for an unknown language,
    and BadConfig, for example if hotwords and context do not fit.
    """

    source: Any
    language: str | None = None
    context: str | None = None
    hotwords: Sequence[str] = ()
    _: KW_ONLY
    dialect: str | None = None
    domain: str | None = None
    punctuated: bool = False
    cut: bool | None = None
    unsure: bool = False
    channel: Channel | Literal["each"] = "mix"

    pieces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("language", "context", "dialect", "domain"):
            _words(name, getattr(self, name))
        self._listed  # noqa: B018 - what is no list of words is an error now
        if self.channel != "each":
            checked_channel(self.channel)

    def requests(self, model: OmniModel) -> Iterator[Request]:
        """A question about each piece, and with a list of words perhaps a second one without it.

        The sound is read piece by piece, and only the pieces that have no answer are in memory.
        """
        prompts, heard = _prompts(model), self._heard
        self._check(prompts)
        longest, sound_tokens = _limits(model)
        sampling = self._settings(prompts)
        tag = self._tag(prompts)
        begin = "" if tag is None else tag + TAG_END

        def ask(words: Sequence[str]) -> str:
            return question(
                prompts,
                punctuated=self.punctuated,
                domain=_words("domain", self.domain),
                dialect=_words("dialect", self.dialect),
                context=_words("context", self.context),
                hotwords=words,
            )

        room = model.config.max_position_embeddings - sound_tokens
        room -= min(sampling.max_new_tokens, TOKENS)
        asked = [_fitting(model, ask, self._listed, begin, room, longest)]
        if self._twice(prompts):
            asked.append(ask(()))
        rule = _rule(longest, prompts.pause)
        cut = prompts.pause > 0 if self.cut is None else self.cut
        heard.clear()
        for channel in self._channels:
            heard.append(_Heard(channel, len(asked) > 1))
            for piece in _listen(self._found, heard[-1], rule, cut):
                sound = Audio(piece.samples, "transcribe")
                for text in asked:
                    yield Request([user(text, sound)], begin=begin, sampling=sampling)

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Transcript:
        """The text of all pieces. Raises NotFinite if none has an answer."""
        prompts = _prompts(model)
        errors = [answer.error for answer in answers if answer.error is not None]
        if errors and len(errors) == len(answers):
            raise NotFinite(errors[0])
        if self._twice(prompts):
            pairs = zip(answers[1::2], answers[::2], strict=True)
            answers = [as_listed(*pair, self._listed) for pair in pairs]
        left = iter(answers)
        budget = self._settings(prompts).max_new_tokens
        found = [
            _transcript(
                prompts,
                heard,
                [next(left) for _ in heard.pieces],
                self._tag(prompts),
                budget,
                self.unsure,
            )
            for heard in self._heard
        ]
        whole = found[0] if len(found) == 1 else joined(found)
        notes = chain(*(heard.notes for heard in self._heard), errors, whole.notes)
        return replace(whole, notes=tuple(dict.fromkeys(notes)))

    def target(
        self,
        model: OmniModel,
        wanted: str | Sequence[str] | Transcript,
        language: str | None = None,
    ) -> Sequence[str]:
        """The text of each piece, behind the tag of its language unless the question names that.

        wanted: the text of a single piece, or of each in order, or a transcript whose segments are
        the pieces. language: its code, that of a transcript unless given. Raises NoTarget without a
        language, or if there are other pieces.
        """
        prompts = _prompts(model)
        if isinstance(wanted, Transcript):
            language = language or wanted.language
            wanted = [segment.text for segment in wanted.segments]
        texts = [wanted] if isinstance(wanted, str) else list(wanted)
        count = sum(len(heard.pieces) for heard in self._heard)
        if count and count != len(texts):
            raise NoTarget(
                f"the sound has {count} pieces, and {len(texts)} texts are wanted; give one for "
                "each piece"
            )
        if self._tag(prompts) is None:
            tag = None if language is None else tag_of(prompts, language, None)
            if tag is None:
                raise NoTarget("the model writes the language before the text; say which it is")
            texts = [tagged(tag, text) for text in texts]
        times = 2 if self._twice(prompts) else 1
        return [text for text in texts for _ in range(times)]

    def done(self, answers: int) -> tuple[float, float | None]:
        """Seconds of sound that are done, of all channels one after the other, and of the whole."""
        whole = self._seconds and self._seconds * len(self._channels)
        left, before = answers // self._passes, 0.0
        for heard in self._heard:
            if left < len(heard.pieces) or not heard.complete:
                return before + (heard.pieces[left - 1].end if left else 0.0), whole
            left -= len(heard.pieces)
            before += heard.seconds
        return before, before

    @cached_property
    def _heard(self) -> list[_Heard]:
        """What `requests` has read."""
        return []

    @property
    def _passes(self) -> int:
        """Requests about each piece."""
        return 2 if self._heard and self._heard[0].twice else 1

    @cached_property
    def _listed(self) -> list[str]:
        """The hotwords, each once, in their order, blank ones left out."""
        words = self.hotwords
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise BadConfig(
                f"hotwords must be a list of words, as ['Ming', 'Ling'], not {words!r:.60}"
            )
        return list(dict.fromkeys(clean for word in words if (clean := " ".join(word.split()))))

    @cached_property
    def _found(self) -> Any:
        """What is read. A file is found once, as a pipe is read once."""
        source = self.source.source if isinstance(self.source, Media) else self.source
        return MediaFile.find(source, "sound") if isinstance(source, MediaSource) else source

    @cached_property
    def _channels(self) -> Sequence[Channel]:
        if self.channel == "each":
            return range(count_channels(self._found))
        own = self.source.channel if isinstance(self.source, Audio | Video) else "mix"
        return [own if self.channel == "mix" else self.channel]

    @cached_property
    def _seconds(self) -> float | None:
        """Length of the sound, if its file tells."""
        return audio_seconds(self._found)

    def _settings(self, prompts: AudioPrompts) -> Sampling:
        usual: SamplingOptions = {
            "max_new_tokens": TOKENS,
            "no_repeat_ngram": prompts.no_repeat_ngram,
        }
        return sampling_of(False, {**usual, **self.sampling})

    def _check(self, prompts: AudioPrompts) -> None:
        """Raises BadConfig for hints that this model does not take."""
        if self.punctuated and prompts.punctuated == prompts.transcribe:
            raise BadConfig(
                "punctuated has no effect: this model has one way to write down speech; leave it "
                "out"
            )
        both = _words("dialect", self.dialect) and _words("language", self.language)
        if both and not prompts.dialect:
            raise BadConfig(
                "language has no effect beside a dialect, which this model writes in its place; "
                "leave it out"
            )

    def _tag(self, prompts: AudioPrompts) -> str | None:
        """What the answers begin with; None if the model finds the language out."""
        return tag_of(prompts, _words("language", self.language), _words("dialect", self.dialect))

    def _twice(self, prompts: AudioPrompts) -> bool:
        """Whether each piece is heard with and without the list of words."""
        return prompts.compare_hotwords and bool(self._listed)


def _prompts(model: OmniModel) -> AudioPrompts:
    return prompts_of(model.wording("audio_tasks"))


def _listen(source: Any, heard: _Heard, rule: SegmentRule, cut: bool) -> Iterator[Piece]:
    """The pieces of a channel. What is read of it is noted in `heard` meanwhile."""
    blocks = _Counted(stream_audio(source, channel=heard.channel))
    pieces = _pieces(blocks, rule, cut)
    while True:
        with collected_notes() as notes:
            piece = next(pieces, None)
        heard.notes += notes
        heard.seconds = blocks.seconds
        if piece is None:
            heard.complete = True
            return
        heard.pieces.append(replace(piece, samples=EMPTY))  # the sound may be long
        yield piece


def as_listed(plain: Answer, listed: Answer, words: Sequence[str]) -> Answer:
    """The answer without a list of words, changed only where the list names what is written."""
    text = with_listed(plain.answer, listed.answer, words)
    return plain if text == plain.answer else replace(listed, text=text)


def _transcript(
    prompts: AudioPrompts,
    heard: _Heard,
    answers: Sequence[Answer],
    tag: str | None,
    budget: int,
    unsure: bool,
) -> Transcript:
    """What was heard and the answers to one text. tag: the one that the answers were begun with.

    Of a model that tells what it knows, only sure answers are speech. unsure: others are, too.
    """

    def known(answer: Answer) -> bool:
        return answer.error is None and (unsure or answer.sure is not False)

    pieces = heard.pieces
    notes = [] if pieces else [SILENT]
    unknown = [piece for piece, answer in zip(pieces, answers, strict=True) if not known(answer)]
    if unknown:
        places = ", ".join(f"{piece.start:.1f}-{piece.end:.1f}" for piece in unknown[:4])
        more = ", …" if len(unknown) > 4 else ""
        notes += [SILENT] if len(unknown) == len(pieces) else []
        notes.append(f"what sounds at {places}{more} s is no speech that the model knows")
    pieces = [piece for piece, answer in zip(pieces, answers, strict=True) if known(answer)]
    answers = list(filter(known, answers))
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
    return Transcript(text, main_language(found), found, heard.seconds, tuple(notes))


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
