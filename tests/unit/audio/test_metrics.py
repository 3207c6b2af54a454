"""Error rates by hand, their properties, and the normalisers against those of others."""

from __future__ import annotations

import json
import math
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ming_audio.metrics import Errors, Recall, cer, count_errors, entity_case, wer
from ming_audio.normalisers import benchmark_text, english_text, mandarin_tokens
from ming_audio.normalisers.contractions import expand_contractions
from ming_audio.normalisers.mandarin import read_number

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "a b c", (0, 0, 0, 3)),
        ("a b c", "a x c", (1, 0, 0, 3)),
        ("a b c", "a c", (0, 1, 0, 3)),
        ("a b c", "a b b c", (0, 0, 1, 3)),
        ("a b c", "x b", (1, 1, 0, 3)),
        ("a b", "b c", (2, 0, 0, 2)),  # and not one deletion and one insertion
        ("", "a b", (0, 0, 2, 0)),
        ("a b", "", (0, 2, 0, 2)),
        ("", "", (0, 0, 0, 0)),
    ],
)
def test_edits(reference: str, hypothesis: str, errors: tuple[int, ...]) -> None:
    assert count_errors(reference.split(), hypothesis.split()) == Errors(*errors)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_edits_are_fewest(reference: list[str], hypothesis: list[str]) -> None:
    errors = count_errors(reference, hypothesis)
    assert errors.total == slow_distance(tuple(reference), tuple(hypothesis))
    assert errors.length + errors.insertions - errors.deletions == len(hypothesis)
    assert count_errors(hypothesis, reference).total == errors.total


def slow_distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_a_text_has_no_errors_against_itself(texts: list[str]) -> None:
    assert wer(texts, texts).rate == 0
    assert cer(texts, texts).rate == 0


def test_insertions_exceed_a_hundred_percent() -> None:
    errors = wer(["yes"], ["oh yes i do"])
    assert errors == Errors(insertions=3, length=1)
    assert errors.rate == 3


def test_an_empty_reference() -> None:
    assert wer([""], [""]).rate == 0
    assert math.isinf(wer(["um"], ["hello"]).rate)  # a filler is no word
    assert wer(["", "good morning"], ["hello", "good morning"]).rate == 0.5


def test_corpora_are_added_up_and_not_averaged() -> None:
    assert wer(["no", "we saw the sea"], ["so", "we saw the sea"]).rate == 1 / 5
    with pytest.raises(ValueError, match="shorter"):
        wer(["a", "b"], ["a"])


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello, WORLD!", "hello world"),
        ("Mr. O'Neil can't pay $19.99", "mister 0 neil can not pay $19.99"),
        ("twenty-one colours and one oh one", "21 colors and 101"),
        ("[noise] um two and a half million (laughs)", "2500000"),
        ("the second of the 1960s, fifty percent", "the 2nd of the 1960s 50%"),
        ("a naïve façade.", "a naive facade"),
        ("one and ones", "one and ones"),
        ("", ""),
    ],
)
def test_english(text: str, normal: str) -> None:
    assert english_text(text) == normal


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_english_is_that_of_whisper(data: st.DataObject) -> None:
    normaliser = pytest.importorskip("transformers.models.whisper.english_normalizer")
    folder = files("ming_audio.normalisers")
    spelling = json.loads((folder / "spelling.json").read_text("utf-8"))
    whisper = normaliser.EnglishTextNormalizer(spelling)
    names = whisper.standardize_numbers.words | {"the", "colour", "O'Brien", "it's", "and a half"}
    marks = {
        "5",
        "19.99",
        "$3",
        "¢7",
        "1,000",
        "4th",
        "20%",
        "-",
        "[x]",
        "(y)",
        "x3",
        "Straße",
        "…",
    }
    words = data.draw(st.lists(st.sampled_from(sorted(names | marks)), max_size=8))
    assert english_text(" ".join(words)) == whisper(" ".join(words)).strip()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("你好，世界！", "你 好 世 界"),
        ("我 用Python写 代码", "我 用 python 写 代 码"),
        ("ＡＢＣ１２", "abc12"),
        ("２０２４年，花了１９．５％。", "二 零 二 四 年 花 了 百 分 之 十 九 点 五"),
        ("第3章有2个例子，-5度", "第 三 章 有 两 个 例 子 负 五 度"),
        ("電話13800138000", "电 话 一 三 八 零 零 一 三 八 零 零 零"),
        ("1,234本", "一 千 二 百 三 十 四 本"),
        ("e-mail don't MP3", "e mail dont mp3"),
    ],
)
def test_mandarin(text: str, tokens: str) -> None:
    assert mandarin_tokens(text) == tokens.split()


@pytest.mark.parametrize(
    ("digits", "read"),
    [
        ("0", "零"),
        ("10", "十"),
        ("12", "十二"),
        ("105", "一百零五"),
        ("110", "一百一十"),
        ("200", "二百"),
        ("2000", "两千"),
        ("10010", "一万零一十"),
        ("120000", "十二万"),
        ("100000001", "一亿零一"),
        ("007", "零零七"),
    ],
)
def test_numbers_are_read(digits: str, read: str) -> None:
    assert read_number(digits) == read


def test_cer_counts_characters() -> None:
    assert cer(["今天天气很好。"], ["今天天汽好"]) == Errors(1, 1, 0, 6)
    assert cer(["我用Python"], ["我用 python"]).total == 0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("My A C H limit at the F D I C is low.", "my ach limit at the fdicis low"),
        ("TURN LEFT", "turn left"),
        ("It's five o'clock, O' Brien!", "it is five of the clock o brien"),
        ("state-of-the-art", "state of the art"),
    ],
)
def test_benchmark(text: str, normal: str) -> None:
    assert benchmark_text(text, "English") == normal


def test_benchmark_separates_chinese_from_latin_but_not_from_digits() -> None:
    assert benchmark_text("第3章讲“OpenAI”。", "Mandarin") == "第3章 讲 openai"
    assert benchmark_text("it's", "Mandarin") == "it s"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("It's Priya's", "It is Priya's"),
        ("CAN'T won’t I'd've", "CANNOT will not I would have"),
        ("Jan. 5", "January 5"),
        ("gonnab", "gonnab"),
    ],
)
def test_contractions(text: str, expanded: str) -> None:
    assert expand_contractions(text) == expanded


def test_entities() -> None:
    case = entity_case(
        "We visited the Museum of Modern Folk Art in Kyoto.",
        "we visited the museum of modern fork art in kyoto",
        ["Museum of Modern Folk Art", "Kyoto"],
        "English",
    )
    assert case is not None
    assert case.exact == ("kyoto",)
    assert case.wer == Errors(1, 0, 0, 10)
    assert case.ne_wer.rate == pytest.approx(1 / 3)
    assert case.ne_fnr == Recall(1, 2)
    assert case.ne_fnr.false_negative_rate == 0.5


@pytest.mark.parametrize("entities", [["Paris"], ["part"], [], ["!"]])
def test_utterances_without_their_entities_are_dropped(entities: list[str]) -> None:
    assert entity_case("A party in Rome.", "a party in rome", entities, "English") is None


@settings(deadline=None)
@given(WORDS, WORDS, st.lists(st.sampled_from(["a b", "b", "c c d", "a"]), max_size=3))
def test_entity_counts_are_consistent(
    reference: list[str], hypothesis: list[str], entities: list[str]
) -> None:
    said, heard, *names = (
        " ".join(f"{letter}x" for letter in words)
        for words in (reference, hypothesis, *(name.split() for name in entities))
    )
    case = entity_case(said, heard, names, "English")
    if case is None:
        assert not names or not all(name in said for name in names)
        return
    assert 0 <= case.ne_fnr.hits <= case.ne_fnr.total
    assert case.wer == count_errors(said.split(), heard.split())
    perfect = entity_case(said, said, names, "English")
    assert perfect is not None
    assert perfect.ne_fnr.false_negative_rate == 0
