"""Word and entity errors of transcripts, with the normalised texts and the entities found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ming_audio.metrics import EntityCase, Errors, Recall, entity_case
from ming_audio.normalisers import Language
from ming_core.testing import Check, GoldenCase

_LANGUAGES: dict[str, Language] = {"English": "English", "Chinese": "Mandarin"}


def run(case: GoldenCase) -> Iterator[Check]:
    texts = case.texts
    scored: dict[str, list[EntityCase]] = {}
    for record in texts["records"]:
        name, language = record["id"], record["language"]
        result = entity_case(
            record["reference"], record["hypothesis"], record["entities"], _LANGUAGES[language]
        )
        yield Check(f"{name}.dropped", result is None, record["dropped"])
        if result is None or record["dropped"]:
            continue
        scored.setdefault(language, []).append(result)
        for key, actual in (
            ("normalized_reference", result.reference),
            ("normalized_hypothesis", result.hypothesis),
            ("normalized_entities", list(result.entities)),
            ("reference_entities", list(result.occurrences)),
            ("exact_entities", list(result.exact)),
            ("fuzzy_entities", list(result.fuzzy)),
            ("wer", _errors(result.wer)),
            ("ne_wer", _errors(result.ne_wer)),
            ("ne_fnr", _recall(result.ne_fnr)),
        ):
            yield Check(f"{name}.{key}", actual, record[key])
    yield Check("corpus", {name: _corpus(cases) for name, cases in scored.items()}, texts["corpus"])
    yield from _tensors(case, [result for cases in scored.values() for result in cases])


def _errors(errors: Errors) -> dict[str, Any]:
    counts = {
        "I": errors.insertions,
        "D": errors.deletions,
        "S": errors.substitutions,
        "T": errors.length,
    }
    return {"wer": errors.rate, **counts}


def _recall(recall: Recall) -> dict[str, Any]:
    return {"fnr": recall.false_negative_rate, "H": recall.hits, "T": recall.total}


def _corpus(cases: list[EntityCase]) -> dict[str, Any]:
    return {
        "utterances": len(cases),
        "WER": sum((case.wer for case in cases), Errors()).rate,
        "NE_WER": sum((case.ne_wer for case in cases), Errors()).rate,
        "NE_FNR": sum((case.ne_fnr for case in cases), Recall()).false_negative_rate,
    }


def _tensors(case: GoldenCase, cases: list[EntityCase]) -> Iterator[Check]:
    columns: dict[str, list[int]] = {}
    for result in cases:
        for key, counts in (
            ("wer", _errors(result.wer)),
            ("ne_wer", _errors(result.ne_wer)),
            ("ne_fnr", _recall(result.ne_fnr)),
        ):
            for letter in counts.keys() - {"wer", "fnr"}:
                columns.setdefault(f"{key}_{letter}", []).append(counts[letter])
    for name, expected in case.outputs.items():
        yield Check(name, torch.tensor(columns[name]), expected)
