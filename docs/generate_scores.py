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
    "conversation": "asked third in a conversation",
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
    "relation_side": "where is the star relative to the ring?",
    "relation_query": "what is above the ring?",
    "background": "what is the background?",
    "text": "what does the text say?",
    "locate": "locate the red star. (box, overlap at least one half)",
    "click": "click the red star. (at most 5 px from its centre)",
    "caption": "describe the picture. (the whole description exact)",
}
VIDEO_KINDS = {
    "vqa": "**mean of all kinds of question**",
    "video_direction": "which way does the red star move?",
    "video_count": "how many shapes move?",
    "video_which": "what moves?",
    "video_moves": "does the red star move?",
}
FOLLOW_UP_KINDS = {
    "vqa": "**mean of all kinds of question**",
    "color": "what color is it?",
    "size": "what size is it?",
    "position": "where is it?",
    "locate": "locate it.",
}
THINKING_KINDS = {
    kind: example
    for kind, example in KINDS.items()
    if kind in ("exist", "count_color", "count_shape", "position") or kind.startswith("relation")
}
HEARD_KINDS = {
    "vqa": "**mean of all kinds of question**",
    "heard_color": "which color do you hear?",
    "heard_shape": "which shape do you hear?",
    "heard_name": "whose name do you hear?",
}
ALOUD_KINDS = {kind: text for kind, text in KINDS.items() if kind not in ("text", "caption")}
SPEECH_SLICES = {
    "speech": "alone",
    "speech, names listed": "with names to listen for",
    "new family": "a family of voices never heard (Piper)",
    "new family, names listed": "… with names to listen for",
}
SPEECH_KINDS = {
    "wer": "word errors (WER)",
    "wer by sound": "… names that sound alike taken as one",
    "wer espeak-ng": "… new variants of espeak-ng's voices",
    "wer new accent": "… a new accent of espeak-ng",
    "wer flite": "… a new voice of flite",
    "wer new sentences": "… sentences that were not said in training",
    "cer": "character errors (CER)",
    "cer by sound": "… names that sound alike taken as one",
    "cer new sentences": "… sentences that were not said in training",
    "ne_wer": "word errors in names (NE-WER)",
    "ne_fnr": "names not written exactly (NE-FNR)",
}
TABLES = (
    ("question", SLICES, KINDS),
    ("question", {"video": "videos"}, VIDEO_KINDS),
    (
        "question",
        {"follow-up": "a second question, about the object of the first"},
        FOLLOW_UP_KINDS,
    ),
    (
        "question",
        {"test": "answered at once", "thinking": "after a thought (`--think`)"},
        THINKING_KINDS,
    ),
    ("speech", SPEECH_SLICES, SPEECH_KINDS),
    (
        "question about a picture",
        {"asked aloud": "asked aloud", "asked in writing": "the same in writing"},
        ALOUD_KINDS,
    ),
    ("question", {"about a sound": "about a sentence that is heard"}, HEARD_KINDS),
)
"""Title, columns and rows of each table."""

LANGUAGES = ("en", "zh")
Metrics = dict[str, dict[str, float]]


def short_table(metrics: Metrics) -> str:
    """Tasks of the README: command, package, score."""
    test, zh = metrics["test en"], metrics["test zh"]
    unseen = metrics["compositional en"]["vqa"], metrics["unseen pair en"]["vqa"]
    video, talk = metrics["video en"], metrics["conversation en"]
    heard, new = metrics["speech en"]["wer"], metrics["new family en"]["wer"]
    alone, listed = (metrics[key]["ne_fnr"] for key in ("speech en", "speech, names listed en"))
    rows = [
        (
            "questions about a picture",
            '`ming ask "what color is the star?" docs/images/scene.png`',
            "ming-vision",
            f"{percent(test['vqa'])} English, {percent(zh['vqa'])} Chinese "
            f"(mean of {len(test) - 2} kinds of question, exact answers)",
        ),
        (
            "… with a colour-shape pair never seen in training",
            "",
            "ming-vision",
            f"{percent(unseen[0])}; questions about that very pair {percent(unseen[1])}",
        ),
        (
            "questions about a video",
            '`ming ask "which way does the green moon move?" docs/images/clip.mp4`',
            "ming-vision",
            f"{percent(video['vqa'])}; direction {percent(video['video_direction'])}",
        ),
        ("reading text", "`ming read docs/images/sign.png`", "ming-vision", percent(test["text"])),
        (
            "boxes",
            '`ming ground docs/images/scene.png "the star" -o boxes.png`',
            "ming-vision",
            f"{percent(test['locate'])} (overlap of one half)",
        ),
        (
            "clicking",
            '`ming click docs/images/page.png "red star"`',
            "ming-vision",
            f"{percent(test['click'])} (near the centre)",
        ),
        (
            "full descriptions",
            "`ming describe docs/images/scene.png`",
            "ming-vision",
            f"{percent(test['caption'])} exact",
        ),
        (
            "conversation",
            "`ming chat`",
            "ming-vision",
            f"{percent(talk['vqa'])} of third questions; about “it” "
            f"{percent(metrics['follow-up en']['vqa'])}",
        ),
        (
            "writing down speech, voices never heard",
            "`ming transcribe docs/sounds/talk.flac`",
            "ming-audio",
            f"{percent(heard)} word errors; a family of voices never heard {percent(new)}; "
            f"Mandarin {percent(metrics['speech zh']['cer'])} character errors",
        ),
        (
            "… names of which several are said alike",
            "`ming transcribe docs/sounds/names.flac --hotwords docs/sounds/names.txt`",
            "ming-audio",
            f"{percent(1 - listed)} spelt right with a list of names, {percent(1 - alone)} without",
        ),
        (
            "questions asked aloud",
            "`ming ask docs/sounds/question.flac docs/images/shapes.png`",
            "ming-vision, ming-audio",
            f"{percent(metrics['asked aloud en']['vqa'])}; the same in writing "
            f"{percent(metrics['asked in writing en']['vqa'])}",
        ),
    ]
    lines = ["| task | command | package | nano, on held-out data |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def full_tables(metrics: Metrics) -> str:
    """Every kind, slice and language, in percent."""
    return "\n\n".join(table(metrics, *parts) for parts in TABLES)


def table(metrics: Metrics, title: str, slices: dict[str, str], kinds: dict[str, str]) -> str:
    pairs = [(slice_, language) for slice_ in slices for language in LANGUAGES]
    columns = [pair for pair in pairs if " ".join(pair) in metrics]  # Piper speaks no Chinese
    head = [f"{slices[slice_]}, {language}" for slice_, language in columns]
    lines = [f"| {title} | {' | '.join(head)} |", "|---|" + "---|" * len(columns)]
    for kind, example in kinds.items():
        cells = [metrics[" ".join(pair)].get(kind) for pair in columns]
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
    blocks = {"README.md": short_table(metrics), "docs/nano.md": full_tables(metrics)}
    return {
        ROOT / name: with_block((ROOT / name).read_text("utf-8"), block)
        for name, block in blocks.items()
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
