"""Run golden cases against this toolkit: `tests/parity/run.py --golden DIR [--component NAME]`.

Prints one line per case with the worst absolute error, and one line per output below it. Exit code
1 when a case fails, 2 when no case is found.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ming_core.testing import GoldenCase, Outcome, Unsupported, golden_cases, run_case

ADAPTERS = Path(__file__).parent / "components"


@dataclass
class Report:
    """The result of one case: `status` is pass, FAIL or unsupported, `reason` says why not pass."""

    component: str
    case: str
    status: str
    reason: str = ""
    outputs: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.component}/{self.case}: {self.status}"]
        if self.reason:
            lines[0] += f" ({self.reason})"
        for output in self.outputs:
            verdict = "pass" if output.passed else f"FAIL {output.where}"
            lines.append(f"  {output.name}: max error {output.error:.3g} {verdict}")
        return "\n".join(lines)


def report(case: GoldenCase) -> Report:
    try:
        outputs = run_case(case, ADAPTERS)
    except Unsupported as unsupported:
        return Report(case.component, case.name, "unsupported", str(unsupported))
    except Exception as error:
        traceback.print_exc()
        return Report(case.component, case.name, "FAIL", f"{type(error).__name__}: {error}")
    failed = [output.name for output in outputs if not output.passed]
    reason = f"first diverging output: {failed[0]}" if failed else ""
    status = "FAIL" if failed else "pass"
    return Report(case.component, case.name, status, reason, outputs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run golden cases against this toolkit.")
    parser.add_argument("--golden", type=Path, required=True, help="folder <component>/<case>/")
    parser.add_argument("--component", help="only this component")
    parser.add_argument("--case", help="only cases of this name")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (float32 without TF32)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the cases are tiny
    torch.backends.cudnn.allow_tf32 = False  # for products it is off by default

    cases = [
        case
        for case in golden_cases(options.golden, options.device)
        if options.component in (None, case.component) and options.case in (None, case.name)
    ]
    if not cases:
        print(f"no golden case found in {options.golden}: check the names given", file=sys.stderr)
        return 2
    reports = []
    for case in cases:
        reports.append(report(case))
        if not options.json:
            print(reports[-1], flush=True)
    counts = Counter(result.status for result in reports)
    summary = {status: counts[status] for status in ("pass", "FAIL", "unsupported")}
    if options.json:
        print(json.dumps({"summary": summary, "cases": [asdict(r) for r in reports]}, indent=1))
    else:
        print(f"{len(reports)} cases: " + ", ".join(f"{n} {s}" for s, n in summary.items()))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
