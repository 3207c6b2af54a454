"""A comparison as one HTML page, which needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ming_core.evaluation import Row
from ming_core.evaluation.benchmark import shown_number
from ming_core.evaluation.comparing import Change, Comparison

MOST = 40
"""Changed answers that are shown of each benchmark."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.worse { color: #b3261e; } .better { color: #146c2e; } .undecided { color: #777; }
td.text { max-width: 26rem; overflow-wrap: anywhere; }
"""

WIDTH, HEIGHT = 180, 16


def page(comparison: Comparison, before: str, after: str) -> str:
    """The page. before, after: what the models are called."""
    title = f"{after} compared with {before}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{STYLE}</style><body><h1>{escape(title)}</h1>",
            f"<p>{escape(summary(comparison))}</p>",
            *_scores(comparison.changes),
            *_answers(comparison),
            *_skipped(comparison),
            "</body></html>\n",
        ]
    )


def summary(comparison: Comparison) -> str:
    """One sentence about all scores."""
    verdicts = [change.verdict for change in comparison.changes]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    changed = sum(len(pairs) for pairs in comparison.answers.values())
    chance = round(len(verdicts) / 20)
    return (
        f"{len(verdicts)} scores: {better} better, {worse} worse, "
        f"{len(verdicts) - better - worse} not decided; {changed} answers changed. About {chance} "
        "scores may look better or worse by chance."
    )


def _scores(changes: Sequence[Change]) -> Iterator[str]:
    yield (
        "<table><tr><th>benchmark</th><th>part</th><th>score</th><th class=number>n</th>"
        "<th class=number>before</th><th class=number>after</th><th class=number>difference</th>"
        "<th>95 % interval</th><th></th></tr>"
    )
    widest = max((abs(end) for c in changes for end in c.interval or ()), default=0.0) or 1.0
    for change in changes:
        score, unit = change.before, change.before.unit
        kind = "undecided" if change.verdict == "not decided" else change.verdict
        cells = [
            f"<td>{escape(text)}</td>" for text in (change.benchmark, score.column, score.name)
        ] + [
            f"<td class=number>{text}</td>"
            for text in (
                str(score.n),
                shown_number(score.value, unit),
                shown_number(change.after.value, unit),
                shown_number(change.difference, unit, sign=True),
            )
        ]
        bar = _bar(change, widest) if change.interval else ""
        cells += [f"<td>{bar}</td>", f"<td>{change.verdict}</td>"]
        yield f"<tr class={kind}>{''.join(cells)}</tr>"
    yield "</table>"


def _bar(change: Change, widest: float) -> str:
    """The interval as a line with a dot at the difference; the middle is 0."""
    assert change.interval is not None

    def x(value: float) -> float:
        return round(WIDTH / 2 * (1 + max(-1.0, min(1.0, value / widest))), 1)

    low, high = change.interval
    unit = change.before.unit
    told = f"{shown_number(low, unit, sign=True)} to {shown_number(high, unit, sign=True)}"
    middle = HEIGHT / 2
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{told}">'
        f"<title>{told}</title>"
        f'<line x1="{WIDTH / 2}" x2="{WIDTH / 2}" y1="0" y2="{HEIGHT}" stroke="#bbb"/>'
        f'<line x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}" stroke="currentColor" '
        f'stroke-width="2"/><circle cx="{x(change.difference)}" cy="{middle}" r="4" '
        'fill="currentColor"/></svg>'
    )


def _answers(comparison: Comparison) -> Iterator[str]:
    for name, pairs in comparison.answers.items():
        if not pairs:
            continue
        shown = f", {MOST} of them" if len(pairs) > MOST else ""
        yield f"<h2>Changed answers of {escape(name)} ({len(pairs)}{shown})</h2>"
        yield "<table><tr><th>sample</th><th>facts</th><th>before</th><th>after</th></tr>"
        step = max(1, len(pairs) // MOST)
        for before, after in pairs[::step][:MOST]:
            texts = (
                f"{before.column}: {before.id}",
                _facts(before),
                str(before.prediction),
                str(after.prediction),
            )
            yield "<tr>" + "".join(f"<td class=text>{escape(t)}</td>" for t in texts) + "</tr>"
        yield "</table>"


def _facts(row: Row) -> str:
    known = {key: value for key, value in row.facts.items() if value not in (None, "", [])}
    return "; ".join(f"{key}: {value}" for key, value in known.items())


def _skipped(comparison: Comparison) -> Iterator[str]:
    if comparison.skipped:
        yield "<h2>Left out</h2><ul>"
        for name, why in comparison.skipped.items():
            yield f"<li>{escape(name)}: {escape(why)}</li>"
        yield "</ul>"
