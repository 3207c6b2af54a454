"""Time to the first line of help and to the first answer, each in fresh processes.

    python speed/startup.py [--model nano] [--json FILE]

Claims: `ming --help` imports none of torch, numpy, transformers, rich; load("nano") and its first
answer about a picture take less than 6 s of wall time, interpreter start and imports included.
`import torch` alone stands beside them: no answer can come sooner. A busy machine makes wall time
longer, but hardly the time of the processor: the second claim is false only if that is too long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from statistics import median

from _turns import Ratio, Verdict, finish, options, take_turns

LIMIT = 6.0
HEAVY = ("torch", "numpy", "transformers", "rich")

HELP = f"""
import sys
from ming_core.cli import main
sys.argv = ["ming", "--help"]
try:
    main()
except SystemExit:
    pass
print("imported:", *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
"""
ANSWER = """
import sys
from ming_core import Image, load
from ming_core.presets import preset_folders
picture = preset_folders("nano")["backbone"] / "demo.png"
print(load(sys.argv[1]).ask("How many shapes are there?", Image(picture)))
"""


def run(code: str, *arguments: str) -> tuple[float, float, str]:
    """Seconds of a fresh interpreter, by the wall and of the processor, and its stderr."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, os.times()
    if result.returncode:
        raise SystemExit(result.stderr)
    used = after.children_user - before.children_user
    used += after.children_system - before.children_system
    return seconds, used, result.stderr


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--model", default="nano", help="preset or checkpoint folder")
    args = parser.parse_args()
    cases = {
        "ming --help": (HELP,),
        "import torch": ("import torch",),
        "load and first answer": (ANSWER, args.model),
    }
    heavy = run(HELP)[-1].strip()
    used: dict[str, list[float]] = defaultdict(list)

    def wall(name: str) -> float:
        seconds, processor, _ = run(*cases[name])
        used[name].append(processor)
        return seconds

    times = take_turns({name: partial(wall, name) for name in cases}, 0)
    rows = [
        {
            "process": name,
            "seconds": median(took),
            "of the processor": median(used[name]),
            "of import torch": Ratio.of(took, times["import torch"]),
        }
        for name, took in times.items()
    ]
    answer = Ratio.to(LIMIT, times["load and first answer"]).at_most(1)
    needed = Ratio.to(LIMIT, used["load and first answer"]).at_most(1)
    if answer is Verdict.NO and needed is not Verdict.NO:
        answer = Verdict.OPEN
    claims = {
        f"ming --help imports none of {', '.join(HEAVY)}": heavy == "imported:",
        f"load and first answer within {LIMIT:.0f} s": answer,
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
