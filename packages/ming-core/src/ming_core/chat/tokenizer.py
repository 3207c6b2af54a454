"""The tokenizer of a checkpoint folder, and incremental decoding for streamed answers.

Wraps `tokenizers` (tokenizer.json, byte-level BPE). Text is never searched for special tokens
unless the caller asks for it, so nothing a user types can turn into a role or an image.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import SupportsInt

import tokenizers
from tokenizers import AddedToken

from ming_core.checkpoints.files import inside, read_bytes
from ming_core.errors import BadCheckpoint, BadConfig, MingError
from ming_core.fields import Section, plain, shown
from ming_core.text import valid


def _byte_alphabet() -> dict[str, int]:
    """Byte of each printable stand-in character of byte-level BPE (as in GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = (byte for byte in range(256) if byte not in printable)
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()


class Tokenizer:
    """Text to token ids and back.

    folder: holds tokenizer.json and, for the end and padding tokens, tokenizer_config.json.
    Raises BadCheckpoint if a file is missing or damaged, if the tokenizer is not byte-level, or if
    the two files disagree about an id.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder = Path(folder)
        self._tokenizer = _load(_file(folder, "tokenizer.json"))
        config = _load_config(_file(folder, "tokenizer_config.json"))
        self._add_tokens(config, folder)
        special = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(special)
        """Ids of role markers, media tokens and the like."""
        # Longest first, so that no token hides a longer one that begins with it.
        names = sorted((token.content for token in special.values()), key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, names)) + ")" if names else "(?!)")
        self.limit: int | None = None
        """Most tokens of a text, where there is a context that it must fit into."""
        self.eos_id = self._configured_id(config, "eos_token")
        self.pad_id = self._configured_id(config, "pad_token")

    @property
    def vocab_size(self) -> int:
        """Number of known tokens; the embedding table may have more rows."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def largest_id(self) -> int:
        """The largest id of a token; the embedding table must have a row for it."""
        return max(self._vocabulary.values(), default=-1)

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token that is made from text."""
        texts = (t for t, i in self._vocabulary.items() if i not in self.special_ids)
        return max(map(len, texts), default=1)  # a character of a byte-level token is a byte

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def fewest(self, text: str) -> int:
        """A lower bound of the number of tokens of a text, found without encoding it."""
        size = len(text.encode(errors="replace"))  # each half of a character as one byte
        if self._tokenizer.normalizer is not None:
            size //= 3  # composing characters shortens a text to a third at the most
        return size // self._longest

    def id(self, token: str) -> int:
        """Id of one token given by its text. Raises BadCheckpoint if there is none."""
        found = self.find(token)
        if found is None:
            raise BadCheckpoint(
                f"the tokenizer has no token {shown(token)}, which its chat format needs; "
                "take tokenizer.json from the same release as the weights"
            )
        return found

    def find(self, token: str) -> int | None:
        """Id of one token given by its text, or None."""
        return self._tokenizer.token_to_id(token)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids; nothing is put before or after them.

        With `special`, special tokens in `text` become their ids. Use this only for text that you
        wrote yourself. Without it, they are ordinary characters. A lone surrogate becomes U+FFFD.
        Raises BadConfig for a text that cannot fit into `limit`, before it is encoded, and for a
        text that the library cannot encode.
        """
        if not special:
            if self.limit is not None and (least := self.fewest(text)) > self.limit:
                raise BadConfig(
                    f"the text has at least {least} tokens and the context of the model holds "
                    f"{self.limit}; shorten it"
                )
            text = valid(text)
            with _no_panic(BadConfig, f"a text of {len(text):,} characters cannot be tokenized"):
                return self._tokenizer.encode(text, add_special_tokens=False).ids
        ids: list[int] = []
        for i, piece in enumerate(self._special.split(text)):
            ids += [self.id(piece)] if i % 2 else self.encode(piece)
        return ids

    def decode(self, ids: Iterable[SupportsInt], special: bool = False) -> str:
        """Text of token ids; special tokens are left out unless asked for."""
        pieces = (
            self.token_bytes(i) for i in map(int, ids) if special or i not in self.special_ids
        )
        return b"".join(pieces).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one token, possibly a part of a character; empty for unknown ids."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # a padding row of the embedding table
            return b""
        if token_id in self.special_ids or not _BYTE_OF.keys() >= set(token):
            return token.encode()
        return bytes(_BYTE_OF[character] for character in token)

    def _add_tokens(self, config: Section, folder: Path) -> None:
        """Register the configured tokens and make every added token special.

        `encode_special_tokens` protects against special tokens only, hence "every".
        """
        added = config.section("added_tokens_decoder", {})
        configured = {_token_id(key): added.section(key).text("content") for key in added}
        missing = (text for _, text in sorted(configured.items()) if self.find(text) is None)
        known = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
        self._tokenizer.add_special_tokens(
            [AddedToken(text, normalized=False, special=True) for text in (*known, *missing)]
        )
        self._tokenizer.encode_special_tokens = True
        for token_id, text in configured.items():
            if self.find(text) != token_id:
                raise BadCheckpoint(
                    f"{folder}: {shown(text)} is token {self.find(text)} in tokenizer.json but "
                    f"{token_id} in tokenizer_config.json; take both from the same release"
                )

    def _configured_id(self, config: Section, key: str) -> int | None:
        """Id of a token that is given by its text or as an object with its text."""
        token = config.raw(key, None)
        if token is None:
            return None
        inner = isinstance(token, Mapping)
        return self.id(config.section(key).text("content") if inner else config.text(key))


class StreamDecoder:
    """Decodes an answer token by token. A piece of text never ends inside of a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes. It is empty inside of a character, and for a special
        token.
        """
        if token_id in self._tokenizer.special_ids:
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def extend(self, token_ids: Sequence[int]) -> str:
        """`push` of several tokens at once."""
        return "".join(map(self.push, token_ids))

    def flush(self) -> str:
        """The end of the answer: a character cut off by it becomes U+FFFD."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


@contextmanager
def _no_panic(error_class: type[MingError], what: str) -> Iterator[None]:
    """Turn all that the library raises into an error of ours.

    It raises bare Exceptions, and for a fault of its own a panic, which is no Exception.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise error_class(f"{what}: {plain(str(error))}") from None


def _file(folder: Path, name: str) -> Path:
    path = inside(folder, name)
    if not path.is_file():
        raise BadCheckpoint(f"{folder} has no {name}; copy it from the release")
    return path


def _load(path: Path) -> tokenizers.Tokenizer:
    data = read_bytes(path)
    with _no_panic(BadCheckpoint, f"{path} is no valid tokenizer file"):
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        decoder = None if tokenizer.decoder is None else tokenizer.decoder.__getstate__()
    if decoder is None or b'"ByteLevel"' not in decoder:
        raise BadCheckpoint(f"{path} is no byte-level tokenizer, as all Ming releases have")
    return tokenizer


def _load_config(path: Path) -> Section:
    try:
        return Section(json.loads(read_bytes(path)), path.name)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path} is no valid JSON: {error}") from None


def _token_id(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise BadConfig(
            f"added_tokens_decoder of tokenizer_config.json has the key {shown(key)}; it must be "
            "the id of a token, as '5'"
        )
    return int(key)
