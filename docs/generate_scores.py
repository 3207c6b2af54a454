"""Write nano's scores into README.md and docs/nano.md: `python docs/generate_scores.py`.

The numbers are those that the recipe measured on held-out data and left in training.json.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "packages/ming-core/src/ming_core/presets/nano/training.json"
START, END = "<!-- scores -->", "<!-- /scores -->"

SLICES = {
    "test": "new pictures",
    "compositional": "pictures with a pair never seen",
    "unseen pair": "questions about that pair",
    "paraphrase": "phrasings never seen",
}
KINDS = {
    "vqa": "**mean of all kinds of question**",
    "exist": "is there a red star?",
    "color": "what color is the star?",
    "shape": "what shape is the red object?",
    "size": "what size is the red star?",
    "count_all": "how many shapes are there?",
    "count_color": "how many red shapes are there?",
    "count_shape": "how many stars are there?",
    "position": "where is the red star?",
    "relation": "is the star above the ring?",
    "relation_query": "what is above the ring?",
    "background": "what is the background?",
    "text": "what does the text say?",
    "locate": "locate the red star. (box, overlap at least one half)",
    "caption": "describe the picture. (the whole description exact)",
}


def short_table(metrics: dict[str, dict[str, float]]) -> str:
    """Tasks of the README: command, package, score."""
    test, zh = metrics["test en"], metrics["test zh"]
    unseen = metrics["compositional en"]["vqa"], metrics["unseen pair en"]["vqa"]
    rows = [
        (
            "questions about a picture",
            '`ming ask "what color is the star?" scene.png`',
            f"{percent(test['vqa'])} English, {percent(zh['vqa'])} Chinese "
            f"(mean of {len(test) - 2} kinds of question, exact answers)",
        ),
        (
            "… with a colour-shape pair never seen in training",
            "",
            f"{percent(unseen[0])}; questions about that very pair {percent(unseen[1])}",
        ),
        (
            "reading text in a picture",
            '`ming ask "what does the text say?" scene.png`',
            percent(test["text"]),
        ),
        (
            "boxes",
            '`ming ask "locate the star." scene.png`',
            f"{percent(test['locate'])} (overlap of one half)",
        ),
        (
            "full descriptions",
            '`ming ask "describe the picture." scene.png`',
            f"{percent(test['caption'])} exact",
        ),
        ("conversation", "`ming chat`", ""),
    ]
    lines = ["| task | command | package | nano, on held-out data |", "|---|---|---|---|"]
    lines += [f"| {task} | {command} | ming-vision | {score} |" for task, command, score in rows]
    return "\n".join(lines)


def full_table(metrics: dict[str, dict[str, float]]) -> str:
    """Every kind, slice and language, in percent."""
    columns = [(slice_, language) for slice_ in SLICES for language in ("en", "zh")]
    head = [f"{SLICES[slice_]}, {language}" for slice_, language in columns]
    lines = [f"| question | {' | '.join(head)} |", "|---|" + "---|" * len(columns)]
    for kind, example in KINDS.items():
        cells = [metrics[f"{slice_} {language}"].get(kind) for slice_, language in columns]
        lines.append(f"| {example} | {' | '.join(map(percent, cells))} |")
    return "\n".join(lines)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def with_block(page: str, block: str) -> str:
    """The page with the text between the two markers replaced."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{block}\n{END}{after}"


def pages() -> dict[Path, str]:
    """Path -> contents, with the scores of the shipped weights."""
    metrics = json.loads(REPORT.read_text("utf-8"))["metrics"]
    blocks = {"README.md": short_table(metrics), "docs/nano.md": full_table(metrics)}
    return {
        ROOT / name: with_block((ROOT / name).read_text("utf-8"), block)
        for name, block in blocks.items()
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
