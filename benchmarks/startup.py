"""Time to the first line of help and to the first answer, each in fresh processes.

    python benchmarks/startup.py [--model nano] [--runs 3] [--json FILE]

Claims: `ming --help` imports none of torch, numpy, transformers, rich; load("nano") and its first
answer about a picture take less than 6 s of wall time, interpreter start and imports included.
`import torch` alone stands beside them: no answer can come sooner.
"""

from __future__ import annotations

import subprocess
import sys
import time

from _bench import finish, options

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
    parser.add_argument("--runs", type=int, default=3, help="fresh processes of each kind")
    args = parser.parse_args()
    cases = {
        "ming --help": (HELP,),
        "import torch": ("import torch",),
        "load and first answer": (ANSWER, args.model),
    }
    rows, heavy = [], "imported:"
    for name, command in cases.items():
        results = [run(*command) for _ in range(args.runs)]
        seconds = sorted(result[0] for result in results)
        rows.append({"process": name, "fastest s": seconds[0], "slowest s": seconds[-1]})
        if name == "ming --help":
            heavy = results[0][1].strip()
    claims = {
        f"ming --help imports none of {', '.join(HEAVY)}": heavy == "imported:",
        f"load and first answer within {LIMIT:.0f} s": rows[-1]["fastest s"] < LIMIT,
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
