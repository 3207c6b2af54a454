"""The small model that ships with the packages, and others that are trained like it.

It is of the Flash family; its config.json says in a section `knows` what little it was taught.
"""

from __future__ import annotations

from dataclasses import replace

from ming_core.releases.flash import FLASH, is_family

NANO = replace(
    FLASH,
    name="nano",
    recognises=lambda config: is_family(config) and "knows" in config,
    components=tuple(
        place for place in FLASH.components if place.name in ("backbone", "image", "audio")
    ),
)
