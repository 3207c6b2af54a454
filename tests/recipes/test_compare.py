"""`ming compare` and the benchmark `rows`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image as PILImage
from torch import Tensor
from torch.optim import Optimizer

from ming_core import Image, load
from ming_core.api import OmniModel
from ming_core.evaluation import Score, Sums, running
from ming_core.evaluation.benchmark import Row
from ming_core.evaluation.comparing import Asked, Change, Comparison, Probe, ask, compare, probes
from ming_recipes.compare import stopping
from ming_recipes.compare.opening import result_of, short_name
from ming_recipes.compare.page import page, summary
from ming_recipes.compare.rows import Rows, plain


def rows_file(path: Path, answers: list[str]) -> Path:
    lines = [
        {
            "id": f"r{number}",
            "messages": [
                {"role": "user", "content": f"what is {number}?"},
                {"role": "assistant", "content": answer},
            ],
        }
        for number, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def asked(probe: Probe, answers: list[str]) -> Asked:
    """What a model said to the rows of a file, in order."""
    assert probe.data is not None
    samples = list(Rows().samples(probe.data, probe.limit))
    rows = [
        Row(sample.id, sample.facts, sample.column, prediction=answer)
        for sample, answer in zip(samples, answers, strict=True)
    ]
    return Asked({probe.name: rows}, {})


def test_an_answer_is_right_without_regard_to_case_and_a_full_stop() -> None:
    assert plain(" Paris. ") == plain("paris")
    assert plain("巴黎。") == "巴黎"
    assert plain("Paris, I think") != plain("Paris")


def test_scores_of_two_models_are_paired(tmp_path: Path) -> None:
    """Of 200 rows the second model gets the same right and 20 more."""
    probe = Probe("rows", rows_file(tmp_path / "mine.jsonl", ["yes"] * 200))
    first = asked(probe, ["yes"] * 100 + ["no"] * 100)
    second = asked(probe, ["Yes."] * 100 + ["yes"] * 20 + ["no"] * 80)
    comparison = compare([probe], first, second)
    (change,) = comparison.changes
    assert (change.before.value, change.after.value) == (0.5, 0.6)
    assert change.interval is not None
    assert 0.05 < change.interval[0] < 0.1 < change.interval[1] < 0.15
    assert change.verdict == "better"
    assert len(comparison.answers["rows"]) == 120  # the texts that differ, right or wrong
    assert comparison.worse() == []
    (back,) = compare([probe], second, first).worse(points=5)
    assert back.verdict == "worse"
    assert compare([probe], second, first).worse(points=11) == []


def test_equal_answers_decide_nothing(tmp_path: Path) -> None:
    probe = Probe("rows", rows_file(tmp_path / "mine.jsonl", ["yes"] * 20))
    same = asked(probe, ["yes", "no"] * 10)
    comparison = compare([probe], same, same)
    assert comparison.changes[0].interval == (0, 0)
    assert comparison.changes[0].verdict == "not decided"
    assert comparison.answers["rows"] == []


def test_samples_that_one_model_cannot_answer_are_left_out(tmp_path: Path) -> None:
    probe = Probe("rows", rows_file(tmp_path / "mine.jsonl", ["yes"] * 4))
    first, second = asked(probe, ["yes"] * 4), asked(probe, ["yes"] * 4)
    broken = [Row(r.id, r.facts, r.column, error="cannot read it") for r in second.rows["rows"][:1]]
    part = Asked({"rows": [*broken, *second.rows["rows"][1:]]}, {})
    assert compare([probe], first, part).changes[0].before.n == 3
    none = Asked({"rows": broken}, {})
    assert "no sample" in compare([probe], first, none).skipped["rows"]


def test_a_lower_error_rate_is_better() -> None:
    before = Score("WER", 0.5, 4, better="lower", sums=Sums([(2, 4)] * 4))
    after = Score("WER", 0.25, 4, better="lower", sums=Sums([(1, 4)] * 4))
    change = Change("asr", before, after, (-0.25, -0.25))
    assert change.gain == 0.25
    assert change.verdict == "better"


def test_the_page_shows_every_score_and_no_markup_of_answers(tmp_path: Path) -> None:
    probe = Probe("rows", rows_file(tmp_path / "mine.jsonl", ["yes"] * 5))
    first, second = asked(probe, ["yes"] * 5), asked(probe, ["<script>alert(1)</script>"] * 5)
    comparison = compare([probe], first, second)
    html = page(comparison, "a<b", "c")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a&lt;b" in html
    assert html.count("<svg") == 1
    assert "-100.0" in html
    assert "1 scores: 0 better, 1 worse" in summary(comparison)
    assert "left over" in page(Comparison([], {}, {"asr": "left over"}), "a", "b")


def test_the_small_sets_of_the_packages_are_there() -> None:
    found = {probe.name: probe for probe in probes()}
    assert set(found) >= {"asr", "rows", "nano-perception"}
    for probe in found.values():
        assert probe.data is None or probe.data.exists()
    assert len(list(Rows().samples(found["rows"].data, None))) == 40


def test_a_model_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comparison reads the predictions of the first."""
    nano = load("nano")
    probe = Probe("rows", rows_file(tmp_path / "mine.jsonl", ["yes", "no"]))
    first = ask(nano, [probe], tmp_path / "out")
    monkeypatch.setattr(running, "run_many", lambda *_, **__: pytest.fail("it is asked again"))
    second = ask(nano, [probe], tmp_path / "out")
    assert [row.prediction for row in first.rows["rows"]] == [
        row.prediction for row in second.rows["rows"]
    ]
    assert compare([probe], first, second).changes[0].verdict == "not decided"


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "mine"
    (run / "adapter").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    return run


def test_a_run_stands_for_its_result(finished_run: Path) -> None:
    assert result_of(finished_run) == finished_run / "adapter"
    assert short_name(str(finished_run / "adapter")) == "mine"
    assert result_of(Path("nano")) == Path("nano")
    (finished_run / "model").mkdir()
    assert result_of(finished_run) == finished_run / "model"


class Knob(LightningModule):
    """Trains nothing; from step 2 on nano's last layer answers nonsense."""

    def __init__(self, nano: OmniModel) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.omni = nano.omni
        self.steps = 0

    def training_step(self, batch: Tensor, index: int) -> None:
        self.optimizers().step()  # type: ignore[union-attr]
        self.steps += 1
        if self.steps == 2:
            with torch.no_grad():
                self.omni.backbone.lm_head.weight.neg_()

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_a_training_that_loses_what_the_model_knew_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nano = load("nano")
    assert nano.omni.backbone is not None
    nano.ask("how many shapes are there?", Image(PILImage.new("RGB", (64, 64))))
    line = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": ""}]}
    rows = []
    for number in range(8):
        line["messages"][0]["content"] = f"how many {number}?"
        answer = nano.ask(f"how many {number}?").text
        line["messages"][1]["content"] = answer or "nothing"
        rows.append(json.dumps(line))
    (tmp_path / "own.jsonl").write_text("\n".join(rows))
    monkeypatch.setattr(stopping, "probes", lambda: [Probe("rows", tmp_path / "own.jsonl")])
    stop = stopping.StopOnRegression(nano, tmp_path / "asked", every=1, points=50)
    module = Knob(nano)
    trainer = Trainer(
        max_steps=5,
        callbacks=[stop],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, [torch.zeros(1)] * 5)
    assert module.steps == 2
    assert "and it was 100.0 %" in caplog.text
