"""Every golden case of the repository, and of folders given with --golden, through its adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ming_core.testing import GoldenCase, Unsupported, golden_cases, run_case

ADAPTERS = Path(__file__).parent / "components"
OWN = Path(__file__).parents[1] / "golden"
ON_THE_CPU = {"audio_lengths", "audio_segments", "context_asr", "image_processing", "omni_prompt"}
"""Components that are computed there, wherever the model is."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    params = [
        pytest.param(case, True, id=f"{case.component}/{case.name}") for case in golden_cases(OWN)
    ]
    folders = metafunc.config.getoption("golden") or []
    for folder in folders:
        root = metafunc.config.invocation_params.dir / folder
        cases = list(golden_cases(root))
        if not cases:
            raise pytest.UsageError(f"--golden {folder}: no <component>/<case>/meta.json in there")
        params += [
            pytest.param(case, False, id=f"{root.name}:{case.component}/{case.name}")
            for case in cases
        ]
    if metafunc.definition.get_closest_marker("gpu"):
        params = [p for p in params if p.values[0].component not in ON_THE_CPU]
    metafunc.parametrize(("case", "own"), params)


def test_golden(case: GoldenCase, own: bool) -> None:
    check(case, own)


@pytest.mark.gpu
def test_golden_on_a_gpu(case: GoldenCase, own: bool, gpu: torch.device) -> None:
    check(replace(case, device=gpu.type), own)


def check(case: GoldenCase, own: bool) -> None:
    try:
        outcomes = run_case(case, ADAPTERS)
    except Unsupported as unsupported:
        if own:
            pytest.fail(f"a case of tests/golden must be supported: {unsupported}")
        pytest.skip(str(unsupported))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    report = [f"{o.name}: max error {o.error:.3g}, {o.where}" for o in failed]
    assert not failed, "\n  ".join([f"{len(failed)} of {len(outcomes)} outputs differ", *report])
