"""`ming doctor`: does it work here?"""

from __future__ import annotations

import typer

from ming_core.cli.common import JsonOption
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json
from ming_core.plugins import get_plugins


def doctor(as_json: JsonOption = False) -> None:
    """Check this installation.

    Exits with 1 if something needs attention.
    Example: ming doctor --json
    """
    answers = list(get_plugins().each("ming_doctor"))
    findings = [finding for _, found in answers for finding in found or ()]
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": healthy, "findings": [vars(finding) for finding in findings]})
    else:
        print_table([("ok" if f.ok else "FAIL", f.name, f.detail) for f in findings])
    if not healthy:
        raise typer.Exit(1)
