"""Recordings cut at pauses: where, how long, the same for every block size; and texts joined."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ming_audio.segments import Segment, SegmentRule, segments, shares, stitch
from ming_core.errors import BadConfig

RATE = 16_000
LEVEL = 0.1


def recording(*parts: tuple[float, float], noise: float = 1e-3) -> np.ndarray:
    """Four syllables a second of (seconds, amplitude) each over a steady background."""
    random = np.random.default_rng(0)
    loud = np.concatenate([np.full(round(s * RATE), a) for s, a in parts])
    syllables = 0.05 + np.abs(np.cos(2 * np.pi * 2 * np.arange(len(loud)) / RATE))
    return (random.normal(0, 1, len(loud)) * np.hypot(loud * syllables, noise)).astype(np.float32)


def cut(samples: np.ndarray, rule: SegmentRule | None = None, block: int = RATE) -> list[Segment]:
    return list(segments((samples[i : i + block] for i in range(0, len(samples), block)), rule))


def test_speech_is_found_between_pauses() -> None:
    samples = recording((4, 0), (2, LEVEL), (1.5, 0), (3, LEVEL), (2, 0))
    found = cut(samples)
    times = [(segment.start, segment.end) for segment in found][-2:]
    assert np.allclose(times, [(3.8, 6.2), (7.3, 10.7)], atol=0.05)
    for segment in found:
        first = round(segment.start * RATE)
        assert np.array_equal(segment.samples, samples[first : first + len(segment.samples)])
        assert segment.overlap == 0


def test_speech_from_the_first_sample_to_the_last() -> None:
    samples = recording((5, LEVEL))
    (segment,) = cut(samples)
    assert (segment.start, segment.end) == (0, 5)
    assert np.array_equal(segment.samples, samples)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 3e-3])
def test_the_noise_is_learned(noise: float) -> None:
    samples = recording((20, 0), (2, LEVEL), (5, 0), (1, LEVEL), (3, 0), noise=noise)
    late = [segment for segment in cut(samples) if segment.start > 15]
    assert np.allclose([(s.start, s.end) for s in late], [(19.8, 22.2), (26.8, 28.2)], atol=0.05)


@pytest.mark.parametrize("level", [0.003, 0.9])
def test_loud_and_quiet_speech(level: float) -> None:
    samples = recording((1, 0), (2, level), (1, 0), noise=1e-5)
    (segment,) = cut(samples)
    assert (segment.start, segment.end) == pytest.approx((0.8, 3.2), abs=0.05)


def test_silence_clicks_and_offsets_are_no_speech() -> None:
    assert cut(np.zeros(10 * RATE, np.float32)) == []
    assert cut(np.full(10 * RATE, 0.5, np.float32)) == []
    click = np.zeros(10 * RATE, np.float32)
    click[5 * RATE : 5 * RATE + 100] = 0.9
    assert cut(click) == []
    assert cut(np.zeros(0, np.float32)) == []


def test_short_gaps_do_not_cut_words() -> None:
    samples = recording((1, 0), (1, LEVEL), (0.3, 0), (1, LEVEL), (1, 0), noise=0)
    (segment,) = cut(samples)
    assert segment.end - segment.start == pytest.approx(2.7, abs=0.05)


@pytest.mark.parametrize("block", [777, 16_000, 480_000])
def test_block_sizes_make_no_difference(block: int) -> None:
    samples = recording((3, 0), (2, LEVEL), (1, 0), (45, LEVEL), (0.2, 0), (9, LEVEL), (1, 0))
    ours, whole = cut(samples, block=block), cut(samples, block=len(samples))
    assert [(s.start, s.end, s.overlap) for s in ours] == [
        (s.start, s.end, s.overlap) for s in whole
    ]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(ours, whole))


def test_long_speech_is_cut_at_its_quietest_moment() -> None:
    samples = recording((25, LEVEL), (0.3, LEVEL / 8), (20, LEVEL), noise=0)
    first, second = cut(samples)
    assert 25 < first.end < 25.3
    assert second.end == pytest.approx(45.3)


def test_a_cut_through_speech_is_heard_twice() -> None:
    first, second = cut(recording((45, LEVEL), noise=0))
    assert 20 < first.end < 30
    assert (first.overlap, second.overlap) == (0, 1)
    assert second.start == pytest.approx(first.end - 1)
    shared = round(first.end * RATE) - round(second.start * RATE)
    assert np.array_equal(first.samples[-shared:], second.samples[:shared])


def test_a_pause_inside_long_speech_needs_no_overlap() -> None:
    samples = recording((25, LEVEL), (0.3, 0), (20, LEVEL), noise=1e-4)
    first, second = cut(samples)
    assert 25 < first.end < 25.3
    assert second.overlap == 0
    assert second.start == first.end


def test_nothing_lasts_longer_than_it_may_and_nothing_is_lost() -> None:
    rule = SegmentRule(longest=12.0, overlap=0.5)
    samples = recording((100, LEVEL))
    found = cut(samples, rule)
    assert max(s.end - s.start for s in found) <= 12.0
    assert all(b.start <= a.end for a, b in pairwise(found))
    assert (found[0].start, found[-1].end) == (0, 100)
    assert all(len(s.samples) == round((s.end - s.start) * RATE) for s in found)


def test_speech_that_ends_just_before_the_limit_leaves_no_empty_piece() -> None:
    for pause in (0.1, 0.3, 0.45):
        found = cut(recording((1, 0), (29.8 - pause, LEVEL), (3, 0), (2, LEVEL), noise=0))
        assert all(s.end - s.start > 1 for s in found)
        assert found[-1].end == pytest.approx(1 + 29.8 - pause + 5)


def test_rules_that_contradict_themselves() -> None:
    with pytest.raises(BadConfig, match=r"release .* is 20\.0; it must be 0 to onset=12\.0"):
        SegmentRule(release=20.0)
    with pytest.raises(BadConfig, match="overlap of a segment rule is 6"):
        SegmentRule(overlap=6.0)
    with pytest.raises(BadConfig, match="longest of a segment rule is 0"):
        SegmentRule(longest=0)


@pytest.mark.parametrize(
    ("texts", "overlaps", "wanted"),
    [
        (["Hello there.", "How are you?"], [0, 0], "Hello there. How are you?"),
        (["the cat sat on the", "on the mat today"], [0, 1], "the cat sat on the mat today"),
        (["the cat sat on th", "sat on the mat"], [0, 1], "the cat sat on the mat"),
        (["The cat sat, on", "Sat on. The mat"], [0, 1], "The cat sat, on The mat"),
        (["no overlap here", "other words"], [0, 1], "no overlap here other words"),
        (["said it again", "said it again"], [0, 0], "said it again said it again"),
        (["今天天气很好我", "很好我们去公园"], [0, 1], "今天天气很好我们去公园"),
        (["今天天气很好。", "我们去公园。"], [0, 0], "今天天气很好。我们去公园。"),
        (["我用 Python 写", "写代码"], [0, 1], "我用 Python 写代码"),
        (["", "only", ""], [0, 1, 1], "only"),
        (["the a b c d e", "f g h the i j"], [0, 1], "the a b c d e f g h the i j"),
        (["a 三 b  c"], [0], "a 三 b c"),
        (["un café", "noir"], [0, 0], "un café noir"),
        ([], [], ""),
    ],
)
def test_texts_are_joined(texts: list[str], overlaps: list[float], wanted: str) -> None:
    assert stitch(texts, overlaps) == wanted


def test_shares_are_the_stitched_text_by_segment() -> None:
    """Torn words fall away where they are, also behind a segment without words."""
    texts = ["we met in the mor", "", "in the morning sun", "就在早上见", "早上见了面"]
    found = shares(texts, [0, 0, 1, 0, 1])
    assert found == ["we met in the", "", " morning sun", "就在早上见", "了面"]
    assert stitch(texts, [0, 0, 1, 0, 1]) == "we met in the morning sun就在早上见了面"
