"""`ming doctor`: does it work here?"""

from __future__ import annotations

from collections.abc import Iterator

import typer

from ming_core.cli.common import JsonOption
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json
from ming_core.doctor import Finding
from ming_core.plugins import get_plugins


def doctor(as_json: JsonOption = False) -> None:
    """Check this installation.

    Exits with 1 if something needs attention.
    Example: ming doctor --json
    """
    findings = list(_findings())
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": healthy, "findings": [vars(finding) for finding in findings]})
    else:
        print_table([("ok" if f.ok else "FAIL", f.name, f.detail) for f in findings])
    if not healthy:
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    """What the plugins find; one that gives something else is reported."""
    plugins = get_plugins()
    for plugin, found in plugins.each("ming_doctor"):
        if isinstance(found, list | tuple) and all(isinstance(f, Finding) for f in found):
            yield from found
        elif found is not None:
            reason = f"ming_doctor gave {type(found).__name__}; it must give a list of findings"
            plugins.fail(plugin.name, plugin.distribution, reason)
