"""What the package registers, and that registering it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

from ming_core.plugins import get_plugins
from ming_vision.encoder import QwenVisionEncoder


def test_the_encoder_is_found_by_the_model_type_of_its_section() -> None:
    entry = get_plugins().encoders["qwen2_5_vit"]
    assert entry.load() is QwenVisionEncoder
    assert (entry.modality, entry.section, entry.spellings) == ("image", "vision_config", ())
    assert "vision" in {part.part for part in get_plugins().presets.find("nano")}


def test_the_encoder_needs_neither_transformers_nor_torchvision() -> None:
    """They cost seconds at start-up; the plugin itself must not even import torch."""
    code = (
        "import sys; import ming_vision.plugin; print('torch' in sys.modules); "
        "import ming_vision.encoder; print({'transformers', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "set()"]
