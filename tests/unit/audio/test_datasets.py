"""Folders in the published layouts are read, transcribed with what may be known, and scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

from ming_audio import evaluate
from ming_audio.datasets import STYLES, Utterance, read_folder
from ming_audio.evaluate import Asr
from ming_core.errors import BadConfig, BadMedia, MissingPlugin, UnknownName
from ming_core.evaluation import RunSettings, judge_rows, predict, running, score_rows
from ming_core.notes import collected_notes


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    chapter = tmp_path / "test-clean" / "84" / "121550"
    write(
        chapter / "84-121550.trans.txt", "84-121550-0000 MISTER COLOUR\n\n84-121550-0001 YES NO\n"
    )
    write(chapter / "84-121550-0000.flac")
    write(chapter / "84-121550-0001.wav")
    return tmp_path


@pytest.fixture
def aishell(tmp_path: Path) -> Path:
    lines = "BAC009S0002W0122 今天 天气 很好\nBAC009S0764W0121 二零二四年\nBAC009S0999W0001 无\n"
    write(tmp_path / "transcript" / "aishell_transcript_v0.8.txt", lines)
    for name in ("train/S0002/BAC009S0002W0122", "test/S0764/BAC009S0764W0121", "test/S0764/none"):
        write(tmp_path / "wav" / f"{name}.wav")
    return tmp_path


ROWS = [
    {
        "uniq_id": "0",
        "language": "English",
        "wav_path": "audio/0.wav",
        "text": "Ask Siobhan about Kyoto.",
        "domain_label": "travel",
        "entity_list": ["Siobhan", "Kyoto"],
    },
    {
        "uniq_id": "1",
        "language": "Mandarin",
        "wav_path": "audio/1.wav",
        "text": "至悦大使很好。",
        "domain_label": "酒店",
        "entity_list": ["至悦大使"],
    },
    {  # the benchmark drops it: its entity is not in its text
        "uniq_id": "2",
        "language": "English",
        "wav_path": "audio/2.wav",
        "text": "Nothing here.",
        "domain_label": "travel",
        "entity_list": ["Rome"],
    },
]


@pytest.fixture
def contextasr(tmp_path: Path) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    write(tmp_path / "ContextASR-Speech_English.jsonl", f"{lines[0]}\n{lines[2]}\n\n")
    write(tmp_path / "ContextASR-Speech_Mandarin.jsonl", f"{lines[1]}\n")
    for row in ROWS:
        write(tmp_path / row["wav_path"])
    return tmp_path


class Listener:
    """A model that answers by the stem of the recording, and remembers what it was told."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []

    def transcribe(self, source: Path, *, domain: str | None, hotwords: Sequence[str]) -> str:
        self.calls.append((source.stem, domain, tuple(hotwords)))
        return self.answers[source.stem]


def run_many(model: Listener, tasks: Sequence[Any], batch: int) -> Iterator[Any]:
    """The real one with a model that answers without weights."""
    for task in tasks:
        try:
            told = {"domain": task.domain, "hotwords": task.hotwords}
            yield SimpleNamespace(result=model.transcribe(task.source, **told), error=None)
        except BadMedia as error:
            yield SimpleNamespace(result=None, error=error)


@pytest.fixture(autouse=True)
def _answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_many", run_many)


def score(
    model: dict[str, str] | Any,
    folder: Path,
    limit: int | None = None,
    judge: str | None = None,
    **options: str,
) -> dict[str, Any]:
    """Scores and counts by column and row, and the rows."""
    asked: Any = Listener(model) if isinstance(model, dict) else model
    benchmark = Asr(**options)
    settings = RunSettings("asr", options, limit, "listener", "", "float32", str(folder), "")
    with TemporaryDirectory() as runs:
        file = Path(runs, "run.jsonl")
        rows = predict(asked, benchmark, settings, file)
        if judge is not None:
            rows = judge_rows(benchmark, judge, rows, file, folder)
    scores = score_rows(benchmark, rows)
    found: dict[str, Any] = {"scores": {}, "counts": {}, "all": scores, "rows": rows}
    for each in scores:
        found["scores"].setdefault(each.column, {})[each.name] = each.value
        found["counts"].setdefault(each.column, {})[each.name] = each.counts
    return found


def test_librispeech(librispeech: Path) -> None:
    chapter = librispeech / "test-clean" / "84" / "121550"
    assert read_folder(librispeech) == (
        "librispeech",
        [
            Utterance(chapter / "84-121550-0000.flac", "MISTER COLOUR", "English"),
            Utterance(chapter / "84-121550-0001.wav", "YES NO", "English"),
        ],
    )
    model = Listener({"84-121550-0000": "Mr. Color.", "84-121550-0001": "Yes, so!"})
    result = score(model, librispeech)
    assert result["scores"] == {"model": {"English WER": 0.25}}
    counts = {"substitutions": 1, "deletions": 0, "insertions": 0, "length": 4}
    assert result["counts"] == {"model": {"English WER": counts}}
    assert [row.id for row in result["rows"]] == [
        "test-clean/84/121550/84-121550-0000.flac",
        "test-clean/84/121550/84-121550-0001.wav",
    ]
    assert [row.prediction for row in result["rows"]] == ["Mr. Color.", "Yes, so!"]
    assert [row.facts["speaker"] for row in result["rows"]] == ["84", "84"]
    assert result["all"][0].interval is None  # there is one speaker
    published = result["all"][0].published
    assert published["Ming-Lite-Omni 1.0"] == 0.0144  # of test-clean
    assert set(published) == {"Ming-Lite-Omni 1.0", "Ming-Lite-Omni 1.5", "Ming-Flash-Omni"}
    assert model.calls == [("84-121550-0000", None, ()), ("84-121550-0001", None, ())]


def test_aishell_reads_the_recordings_of_the_test_split(aishell: Path) -> None:
    style, (utterance,) = read_folder(aishell)
    assert style == "aishell"
    assert (utterance.audio.stem, utterance.text) == ("BAC009S0764W0121", "二零二四年")
    result = score({"BAC009S0764W0121": "2024年。"}, aishell)
    assert result["scores"] == {"model": {"Mandarin CER": 0}}
    assert result["counts"]["model"]["Mandarin CER"]["length"] == 5


def test_aishell_2(tmp_path: Path) -> None:
    write(tmp_path / "trans.txt", "IT0011W0001\t换一首歌\n")
    write(tmp_path / "wav" / "T0011" / "IT0011W0001.wav")
    style, (utterance,) = read_folder(tmp_path)
    assert (style, utterance.text) == ("aishell", "换一首歌")


def test_contextasr_rows(contextasr: Path) -> None:
    style, utterances = read_folder(contextasr)
    assert style == "contextasr"
    assert [utterance.audio.name for utterance in utterances] == ["0.wav", "2.wav", "1.wav"]
    assert utterances[2] == Utterance(
        contextasr / "audio" / "1.wav", "至悦大使很好。", "Mandarin", ("至悦大使",), "酒店"
    )


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("contextless", [("0", None, ()), ("1", None, ())]),
        ("coarse", [("0", "travel", ()), ("1", "酒店", ())]),
        ("fine", [("0", "travel", ("Siobhan", "Kyoto")), ("1", "酒店", ("至悦大使",))]),
    ],
)
def test_contextasr_scores(contextasr: Path, context: str, told: list[Any]) -> None:
    model = Listener({"0": "ask shavon about kyoto", "1": "至悦大使很好"})
    with collected_notes() as notes:
        result = score(model, contextasr, context=context)
    assert model.calls == told
    assert {row.id for row in result["rows"]} == {"audio/0.wav", "audio/1.wav"}
    assert notes == ["1 of 3 recordings are left out: their names are not in their text"]
    assert result["scores"] == {
        context: {
            "English WER": 0.25,
            "English NE-WER": 0.5,
            "English NE-FNR": 0.5,
            "Mandarin WER": 0,
            "Mandarin NE-WER": 0,
            "Mandarin NE-FNR": 0,
        }
    }
    assert result["counts"][context]["English NE-FNR"] == {"hits": 1, "total": 2}


def test_the_gain_from_hotwords_shows_unless_one_context_is_asked_for(contextasr: Path) -> None:
    class Helped(Listener):
        def transcribe(self, source: Path, *, domain: str | None, hotwords: Sequence[str]) -> str:
            heard = super().transcribe(source, domain=domain, hotwords=hotwords)
            return heard.replace("shavon", "Siobhan") if hotwords else heard

    model = Helped({"0": "ask shavon about kyoto", "1": "至悦大使很好"})
    result = score(model, contextasr)
    assert list(result["scores"]) == ["contextless", "fine"]
    found = {column: rates["English NE-FNR"] for column, rates in result["scores"].items()}
    assert found == {"contextless": 0.5, "fine": 0}
    heard = {row.column: row.prediction for row in result["rows"] if row.id == "audio/0.wav"}
    assert heard == {"contextless": "ask shavon about kyoto", "fine": "ask Siobhan about kyoto"}


def test_published_rates_stand_beside_those_with_the_names_only(contextasr: Path) -> None:
    result = score({"0": "ask shavon about kyoto", "1": "至悦大使很好"}, contextasr)
    published = {(each.column, each.name): each.published for each in result["all"]}
    assert published["fine", "English NE-FNR"] == {"Ming-Flash-Omni": 0.0236}
    assert published["fine", "Mandarin WER"] == {"Ming-Flash-Omni": 0.0131}
    assert not any(found for (column, _), found in published.items() if column != "fine")


def test_two_texts_of_one_recording_are_two_samples(tmp_path: Path) -> None:
    lines = [json.dumps({**ROWS[0], "text": text}) for text in ("Kyoto, Siobhan", "Siobhan, Kyoto")]
    write(tmp_path / "rows.jsonl", "\n".join(lines))
    write(tmp_path / "audio" / "0.wav")
    rows = score({"0": "Siobhan Kyoto"}, tmp_path, context="fine")["rows"]
    assert [row.id for row in rows] == ["audio/0.wav", "audio/0.wav#2"]


def test_a_recording_that_cannot_be_read_is_left_out_and_named(contextasr: Path) -> None:
    class Deaf(Listener):
        def transcribe(self, source: Path, **told: Any) -> str:
            if source.stem in broken and (told["hotwords"] or source.stem == "0"):
                raise BadMedia(f"{source.name} is empty")
            return super().transcribe(source, **told)

    model = Deaf({"0": "ask Siobhan about kyoto", "1": "至悦大使很好"})
    broken = {"1"}
    with collected_notes() as notes:
        result = score(model, contextasr)
    assert "left out: 1.wav is empty" in notes
    errors = [(row.column, row.id, row.error) for row in result["rows"] if row.error]
    assert errors == [("fine", "audio/1.wav", "1.wav is empty")]
    # It counts in no column, so that the columns can be compared.
    assert [set(rates) for rates in result["scores"].values()] == [
        {"English WER", "English NE-WER", "English NE-FNR"}
    ] * 2
    broken |= {"0"}
    with pytest.raises(BadConfig, match=r"no recording can be read: 0\.wav is empty"):
        score(model, contextasr)


def test_a_limit_is_for_each_language_and_spread_over_the_folder(tmp_path: Path) -> None:
    rows = []
    for number in range(9):
        language = "Mandarin" if number in (3, 4) else "English"
        text = "很好 Kyoto" if language == "Mandarin" else "good Kyoto"
        row = {**ROWS[0], "wav_path": f"{number}.wav", "text": text, "language": language}
        rows.append(json.dumps({**row, "entity_list": ["Kyoto"]}))
        write(tmp_path / f"{number}.wav")
    write(tmp_path / "rows.jsonl", "\n".join(rows))
    model = Listener(dict.fromkeys("012345678", "good Kyoto"))
    score(model, tmp_path, 3, context="fine")
    assert [call[0] for call in model.calls] == ["0", "2", "6", "3", "4"]


def test_a_judge_hears_what_is_english(contextasr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def open_judge(name: str) -> Any:
        assert name == "whisper"
        return lambda audio: heard.append(audio.stem) or "Ask Siobhan about Kyoto."

    monkeypatch.setattr(evaluate, "open_judge", open_judge)
    answers = {"0": "ask shavon about kyoto", "1": "至悦大使很好"}
    result = score(answers, contextasr, context="fine", judge="whisper")
    assert heard == ["0"]
    assert result["scores"]["whisper"] == {
        "English WER": 0,
        "English NE-WER": 0,
        "English NE-FNR": 0,
    }
    assert result["scores"]["fine"]["English WER"] == 0.25
    assert [list(row.verdicts) for row in result["rows"]] == [["whisper"], []]


def test_a_judge_without_english(aishell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "open_judge", lambda name: str)
    with pytest.raises(BadConfig, match="the judge whisper knows only English"):
        score({"BAC009S0764W0121": "2024年。"}, aishell, judge="whisper")


def test_a_rate_over_no_words_is_left_out(librispeech: Path) -> None:
    """Whisper's rules take hesitations away."""
    (chapter,) = librispeech.rglob("*.trans.txt")
    chapter.write_text("84-121550-0000 UH\n", "utf-8")
    result = score({"84-121550-0000": "yes"}, librispeech)
    assert (result["scores"], len(result["rows"])) == ({}, 1)


def test_what_the_model_refuses_comes_through(librispeech: Path) -> None:
    class Deaf:
        def transcribe(self, source: Path, **told: Any) -> str:
            raise MissingPlugin("no ears")

    with pytest.raises(MissingPlugin, match="no ears"):
        score(Deaf(), librispeech)


@pytest.mark.parametrize("style", STYLES)
def test_a_folder_of_another_layout(tmp_path: Path, style: str) -> None:
    with pytest.raises(BadConfig, match=f"has no texts of {style}; expected .*, as in "):
        score({}, tmp_path, style=style)


def test_the_style_must_be_plain(librispeech: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"no texts of a known style; expected .*\*\.jsonl, as in"):
        read_folder(tmp_path / "test-clean" / "nothing")
    write(tmp_path / "other.jsonl")
    with pytest.raises(BadConfig, match="has texts of librispeech and of contextasr; say which"):
        read_folder(tmp_path)
    style, utterances = read_folder(tmp_path, "librispeech")
    assert (style, len(utterances)) == ("librispeech", 2)
    with pytest.raises(BadConfig, match="no recording that counts, of 0 in all"):
        score({}, tmp_path, style="contextasr")


def test_unknown_names(librispeech: Path, contextasr: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'librispeech'"):
        score({}, librispeech, style="librispech")
    with pytest.raises(UnknownName, match="unknown context 'fin'; did you mean 'fine'"):
        score({}, contextasr, style="contextasr", context="fin")
    with pytest.raises(BadConfig, match="of librispeech tells no context; leave out context=fine"):
        score({}, librispeech, style="librispeech", context="fine")


def test_a_recording_is_missing(librispeech: Path, aishell: Path, contextasr: Path) -> None:
    for path in [*librispeech.rglob("*.flac"), *aishell.rglob("*.wav")]:
        path.unlink()
    with pytest.raises(BadConfig, match=r"0000\.flac does not exist"):
        read_folder(librispeech, "librispeech")
    with pytest.raises(BadConfig, match="unpack the recordings"):
        read_folder(aishell, "aishell")
    with pytest.raises(BadConfig, match=r"line 1 of .*English\.jsonl names .*0\.wav"):
        read_folder(contextasr, "contextasr")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1 of .* is no JSON"),
        ("[]", "is no object"),
        (json.dumps({**ROWS[0], "text": ""}), "text in line 1 .* is ''"),
        (
            json.dumps({**ROWS[0], "language": "Welsh"}),
            "is 'Welsh'; it must be English or Mandarin",
        ),
        (json.dumps({**ROWS[0], "entity_list": "Kyoto"}), "must be a list of texts"),
    ],
)
def test_bad_rows(tmp_path: Path, line: str, complaint: str) -> None:
    write(tmp_path / "rows.jsonl", line)
    with pytest.raises(BadConfig, match=complaint):
        read_folder(tmp_path)


def test_bad_texts(librispeech: Path) -> None:
    (chapter,) = librispeech.rglob("*.trans.txt")
    chapter.write_text("84-121550-0000 YES\n84-121550-0001\n", "utf-8")
    with pytest.raises(BadConfig, match=r"line 2 of .* has no text"):
        read_folder(librispeech)
    chapter.write_bytes("84-121550-0000 é".encode("latin-1"))
    with pytest.raises(BadConfig, match="no UTF-8"):
        read_folder(librispeech)
