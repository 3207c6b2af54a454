"""Train the small byte-level BPE of shapes world, in the released file format.

The layout of the vocabulary is that of the released tokenizer: bytes and merges first, then the
added tokens. A pre-split keeps digits, vocabulary words and short runs of Chinese apart, so that a
colour-shape pair never becomes one token: an unseen pair is made of seen tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from ming_core.output import write_file
from ming_recipes.nano.world.corpus import sentences
from ming_recipes.nano.world.scene import generator
from ming_recipes.nano.world.vocabulary import chinese_words, english_words

VOCABULARY_SIZE = 1536
RESERVED = 32

SPECIAL_TOKENS: tuple[str, ...] = (
    "<|startoftext|>",
    "<|endoftext|>",
    "[CLS]",
    "[gMASK]",
    "<|role_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    *(f"<|reserved_token_{index}|>" for index in range(5, 5 + RESERVED)),
    "<role>",
    "</role>",
    "<|arithmetic_end|>",
    "<|number_end|>",
    "<|arithmetic_start|>",
    "<|number_start|>",
    "<imagePatch>",
    "<image>",
    "</image>",
    "<video>",
    "</video>",
    "<gen_imagePatch>",
    "<gen_image>",
    "</gen_image>",
    "<imageHere>",
    "<end_of_chunk>",
    "<end_of_audio>",
    "<audioPatch>",
    "<audio>",
    "</audio>",
    "<gen_audioPatch>",
    "<gen_audio>",
    "</gen_audio>",
    "<audioHere>",
    "<framePatch>",
    "<text>",
    "<asr>",
    "<tts>",
)
"""Names and order of the released omni tokenizer, with fewer reserved ones."""

PROMPT_PIECES: tuple[str, ...] = (
    "HUMAN",
    "ASSISTANT",
    "SYSTEM",
    "你是一个友好的AI助手。",
    "detailed thinking off",
    "detailed thinking on",
    "<think>",
    "</think>",
    " seconds>",
)
"""Text that every prompt repeats: ordinary vocabulary entries, one token each."""

_SCENES = 1500
_STREAM = 9  # apart from the streams of records
_EMPHASIS = 4000  # how often a word is shown that must become one token


def train_tokenizer(folder: Path | str, seed: int = 0) -> Tokenizer:
    """Write tokenizer.json and tokenizer_config.json to `folder` and return the tokenizer.

    The same seed gives the same bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_split_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(seed), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS]
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    config = json.dumps(_tokenizer_config(tokenizer), ensure_ascii=False, indent=2)
    write_file(folder / "tokenizer_config.json", config + "\n")
    return tokenizer


def _split_pattern() -> str:
    words = "|".join(chinese_words())
    pieces = "|".join(re.escape(piece) for piece in PROMPT_PIECES)
    cjk = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
    letter = r"(?!" + cjk + r")\p{L}"
    return "|".join(
        (
            pieces,
            words,
            r"\p{N}",
            r"[A-Z](?=[0-9])",
            r" (?=[A-Z][0-9])",
            rf"(?:(?!{words}){cjk}){{1,4}}",
            rf" ?(?:{letter})+",
            r" ?[^\s\p{L}\p{N}]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    )


def _training_text(seed: int) -> Iterator[str]:
    """About 25 k sentences, then what must be one token, many times over."""
    yield from sentences(generator(seed, _STREAM), _SCENES)
    words = [prefix + word for word in english_words() for prefix in ("", " ")]
    for word in (*words, *chinese_words(), *PROMPT_PIECES):
        for _ in range(_EMPHASIS):
            yield word


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, object]:
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(index): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
        },
        "additional_special_tokens": [
            token
            for token in SPECIAL_TOKENS
            if token not in ("<|startoftext|>", "[CLS]", "[gMASK]")
        ],
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": False,
        "cls_token": "[CLS]",
        "eos_token": "<|role_end|>",
        "fast_tokenizer": True,
        "gmask_token": "[gMASK]",
        "merges_file": None,
        "model_max_length": 1024,
        "pad_token": "<|role_end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "trust_remote_code": True,
    }
