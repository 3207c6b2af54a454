"""Error rates by hand, their properties, and the normalisers against those of others."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ming_audio.metrics import Errors, Recall, cer, count_errors, entity_case, wer
from ming_audio.normalisers import contextasr_text, english_text, mandarin_tokens
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


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_edits_among_equally_few(reference: list[str], hypothesis: list[str]) -> None:
    errors = count_errors(reference, hypothesis)
    wanted = edits_of_the_table(reference, hypothesis)
    assert (errors.substitutions, errors.deletions, errors.insertions) == wanted


def edits_of_the_table(a: list[str], b: list[str]) -> tuple[int, int, int]:
    """From the end of the whole table: a substitution before a deletion before an insertion."""
    table = [[max(i, j) for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            around = table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y)
            table[i][j] = min(around)
    i, j, found = len(a), len(b), [0, 0, 0]
    while i or j:
        differ = i > 0 and j > 0 and a[i - 1] != b[j - 1]
        if i and j and table[i][j] == table[i - 1][j - 1] + differ:
            step, kind = (1, 1), 0
        elif i and table[i][j] == table[i - 1][j] + 1:
            step, kind, differ = (1, 0), 1, True
        else:
            step, kind, differ = (0, 1), 2, True
        i, j = i - step[0], j - step[1]
        found[kind] += differ
    return found[0], found[1], found[2]


@pytest.mark.parametrize("vocabulary", [40, 4000])
def test_a_book_is_compared_in_megabytes(vocabulary: int) -> None:
    """The whole table would have 400 million cells."""
    chance = random.Random(0)
    book = [chance.randrange(vocabulary) for _ in range(20_000)]
    heard = [-1 if i % 50 == 7 else word for i, word in enumerate(book) if i % 100 != 3]
    tracemalloc.start()
    try:
        errors = count_errors(book, [*heard, -1, -1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert errors.total == 400 + 200 + 2
    assert (errors.deletions - errors.insertions, errors.length) == (198, 20_000)
    assert peak < 20e6


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
    ("written", "digits"),
    [
        ("两万", "2万"),
        ("两千", "2千"),
        ("两百", "200"),
        ("二百", "2百"),
        ("两点半", "2点半"),
        ("两点二五", "2.25"),
        ("两千两百二十二", "2,222"),
        ("一万二千", "12000"),
        ("一万两千", "1万2千"),
        ("两亿", "200000000"),
        ("百分之两百", "200%"),
        ("百分之零点二", "0.2%"),
        ("千分之二", "2‰"),
        ("负两百度", "-200度"),
        ("二〇二二年", "2022年"),
        ("廿四日", "24日"),
        ("卅二岁", "32岁"),
        ("幺三八零零幺三八零零零", "13800138000"),
        ("第二个", "第2个"),
        ("两个", "2个"),
        ("两分钟", "2分钟"),
        ("二月", "2月"),
        ("八两", "8两"),
    ],
)
def test_numbers_are_the_same_in_words_and_in_digits(written: str, digits: str) -> None:
    assert cer([written], [digits]).total == 0
    assert cer([digits], [written]).total == 0


@pytest.mark.parametrize("text", ["两边", "半斤八两", "两口子", "幺妹", "五卅运动", "二胡", "两"])
def test_words_that_are_no_numbers_stay(text: str) -> None:
    assert mandarin_tokens(text) == list(text)
    assert cer(["两边"], ["二边"]).total == 1


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
    assert contextasr_text(text, "English") == normal


def test_benchmark_separates_chinese_from_latin_but_not_from_digits() -> None:
    assert contextasr_text("第3章讲“OpenAI”。", "Mandarin") == "第3章 讲 openai"
    assert contextasr_text("it's", "Mandarin") == "it s"


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
