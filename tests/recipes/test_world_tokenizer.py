"""The tokenizer of the shapes world: any text round trips, its words are whole tokens."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.nano.world.tokenizer import (
    PROMPT_PIECES,
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    train_tokenizer,
)
from ming_recipes.nano.world.vocabulary import COLORS, SHAPES, SIZES, chinese_words, english_words


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))


def test_tokenizer_is_deterministic(tokenizer_folder: Path, tmp_path: Path) -> None:
    train_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tokenizer_folder / name).read_bytes()


def _back(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert _back(tokenizer, tokenizer.encode(text).ids) == text


def test_tokenizer_layout(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE == 1536
    assert sorted(tokenizer.get_vocab().values()) == list(range(1536))
    added = tokenizer.get_added_tokens_decoder()
    assert [added[index].content for index in sorted(added)] == list(SPECIAL_TOKENS)
    assert all(token.special for token in added.values())
    for token in SPECIAL_TOKENS:
        ids = tokenizer.encode(f"a{token}b").ids
        assert len(ids) == 3
        assert tokenizer.decode(ids) == "ab"


def test_vocabulary_words_are_whole_tokens(tokenizer: Tokenizer) -> None:
    for word in english_words():
        assert len(tokenizer.encode(word).ids) == 1, word
        assert len(tokenizer.encode(" " + word).ids) == 1, word
    for word in (*chinese_words(), *PROMPT_PIECES):
        assert len(tokenizer.encode(word).ids) == 1, word


def test_names_split_into_words(tokenizer: Tokenizer) -> None:
    for (c, color), (s, shape), size in product(COLORS.items(), SHAPES.items(), SIZES.values()):
        chinese = tokenizer.encode(f"说出{size.zh}{color.zh}{shape.zh}的位置。")
        assert [_back(tokenizer, [i]) for i in chinese.ids][1:4] == [size.zh, color.zh, shape.zh]
        english = tokenizer.encode(f"the {size.en} {c} {s} is")
        assert [_back(tokenizer, [i]) for i in english.ids][1:4] == [
            f" {size.en}",
            f" {c}",
            f" {s}",
        ]


def test_digits_and_written_text_are_single_tokens(tokenizer: Tokenizer) -> None:
    pieces = [_back(tokenizer, [i]) for i in tokenizer.encode("08 12 30 44").ids]
    assert pieces == ["0", "8", " ", "1", "2", " ", "3", "0", " ", "4", "4"]
    pieces = [_back(tokenizer, [i]) for i in tokenizer.encode("text A7 here, 图中A7").ids]
    assert pieces[-2:] == ["A", "7"]
    assert pieces[pieces.index("A") + 1] == "7"


def test_prompt_of_a_turn_is_short(tokenizer: Tokenizer) -> None:
    system = "<role>SYSTEM</role>你是一个友好的AI助手。\n\ndetailed thinking off<|role_end|>"
    ids = tokenizer.encode(system).ids
    assert len(ids) == 8
    assert _back(tokenizer, ids) == system
    assert tokenizer.decode(ids) == "SYSTEM你是一个友好的AI助手。\n\ndetailed thinking off"
    assert len(tokenizer.encode("<role>HUMAN</role>").ids) == 3
    assert _back(tokenizer, tokenizer.encode("HUMANITY, SYSTEMS").ids) == "HUMANITY, SYSTEMS"
    lengths = [
        len(tokenizer.encode(q.question + q.answer).ids)
        for index in range(100)
        for turns in training_example(index, Mix()).dialogues
        for q in turns
    ]
    assert np.mean(lengths) < 12


def test_the_stock_class_loads_the_files(tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside transformers at import
        transformers = pytest.importorskip("transformers")
        stock = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    text = (
        "<role>HUMAN</role><image><imagePatch></image>\n红色星星在哪里？ where is A7?<|role_end|>"
    )
    ids = stock(text)["input_ids"]
    assert ids == tokenizer.encode(text).ids
    assert stock.decode(ids, skip_special_tokens=False) == text
    assert stock.eos_token == stock.pad_token == "<|role_end|>"
    assert stock.bos_token == "<|startoftext|>"
    assert len(stock) == 1536
