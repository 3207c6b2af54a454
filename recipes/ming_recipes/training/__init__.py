"""The library behind every recipe; it knows no task, no modality and no device."""
