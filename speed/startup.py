"""Time to the first line of help and to the first answer, each in fresh processes.

    python speed/startup.py [--model nano] [--json FILE]

Claims: `ming --help` imports none of torch, numpy, transformers, rich; load("nano") and its first
answer about a picture take less than 6 s of wall time, interpreter start and imports included.
`import torch` alone stands beside them: no answer can come sooner.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from _turns import Ratio, finish, options, take_turns

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


def run(code: str, *arguments: str) -> tuple[float, str]:
    """Wall seconds of a fresh interpreter, and what it wrote to stderr."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if result.returncode:
        raise SystemExit(result.stderr)
    return seconds, result.stderr


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--model", default="nano", help="preset or checkpoint folder")
    args = parser.parse_args()
    cases = {
        "ming --help": (HELP,),
        "import torch": ("import torch",),
        "load and first answer": (ANSWER, args.model),
    }
    heavy = run(HELP)[1].strip()
    times = take_turns(
        {name: lambda command=command: run(*command)[0] for name, command in cases.items()}, 0
    )
    rows = [
        {
            "process": name,
            "seconds": median(took),
            "of import torch": Ratio.of(took, times["import torch"]),
        }
        for name, took in times.items()
    ]
    answer = Ratio.to(LIMIT, times["load and first answer"])
    claims = {
        f"ming --help imports none of {', '.join(HEAVY)}": heavy == "imported:",
        f"load and first answer within {LIMIT:.0f} s": answer.at_most(1),
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
