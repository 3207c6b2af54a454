"""The package `acme_heads` as if it were installed, small settings for its heads, a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

PLUGIN = Path(__file__).parent / "plugin"
if str(PLUGIN) not in sys.path:
    sys.path.append(str(PLUGIN))
