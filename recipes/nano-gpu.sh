#!/usr/bin/env bash
# Makes the whole of nano on a bare CUDA machine, in one call of less than nine minutes.
#
#   WHEELS=wheels SPEECH=speech.tar OUT=runs/nano recipes/nano-gpu.sh [setting=value ...]
#
# The machine needs python3 with torch 2.11, and this repository. Nothing is fetched:
#   WHEELS  a folder of wheels of what the machine lacks; it may be empty. FFmpeg (av) is not needed.
#   SPEECH  recordings, packed on a machine with espeak-ng and flite:
#           python -m ming_recipes.nano.pack speech.tar recordings=15000 free_words=0.3
#   OUT     the folder of the run. The same command goes on with a run that was interrupted.
#   CONFIG  settings over nano.yaml; recipes/ming_recipes/nano/gpu.yaml has device, sizes and times.
#   RESULT  a folder for what is to be taken away: weights of at most 16 MB a file, and the log.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3} wheels=${WHEELS:-wheels} out=${OUT:-runs/nano}
config=${CONFIG:-$here/recipes/ming_recipes/nano/gpu.yaml} result=${RESULT:-$out/result}
speech=${SPEECH:?set SPEECH to a file of recordings}
started=$SECONDS

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "$wheels/*.whl" >/dev/null; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --target "$site" "$wheels"/*.whl
fi
# The packages run from the repository; what plugins they are stands in their metadata.
"$python" - "$here" "$site" <<'PYTHON'
import sys
import tomllib
from pathlib import Path

here, site = map(Path, sys.argv[1:])
for file in (*here.glob("packages/*/pyproject.toml"), here / "recipes" / "pyproject.toml"):
    project = tomllib.loads(file.read_text())["project"]
    name, version = project["name"], project["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}\n" for key, value in project.get("entry-points", {}).get("ming", {}).items()]
    (info / "entry_points.txt").write_text("".join(["[ming]\n", *lines]))
PYTHON
PYTHONPATH="$site:$(printf '%s:' "$here"/packages/*/src)$here/recipes${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

mkdir -p "$result"
"$python" -c 'from ming_core.cli import main; main()' train nano-perception --config "$here/recipes/ming_recipes/nano/nano.yaml" --config "$config" \
    out="$out" speech="$speech" "$@" 2>&1 | tee "$result/log.txt"
for part in "$out"/parts/*/; do
    name=$(basename "$part")
    tar -cf "$result/$name.tar" -C "$out/parts" "$name"
done
find "$result" -type f -size +16M -print -exec false {} +
echo "made in $((SECONDS - started)) s; $result holds:"
ls -l "$result"
