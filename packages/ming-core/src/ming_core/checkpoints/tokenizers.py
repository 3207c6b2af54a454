"""Where the tokenizer of a released folder lies.

Most releases have it beside the weights, and one is published without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_core.chat.formats import with_media_tokens
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.files import inside
from ming_core.errors import BadCheckpoint, MingError

if TYPE_CHECKING:
    from ming_core.release import Release

FILES = ("tokenizer.json", "tokenizer_config.json")


def tokenizer_of(root: Path, release: Release, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of the language model in the folder `root`.

    It is looked for in the folder of the language model and in `root`, then in all other folders,
    where only one that knows the tokens of the chat format counts (a talker has a tokenizer of its
    own), and then in the local cache of the hub repository that the release names. Raises
    BadCheckpoint, which says where a missing file comes from.
    """
    first = inside(root, release.folder("backbone"))
    for folder in (first, root):
        if (folder / FILES[0]).is_file():
            lacking = [name for name in FILES if not (folder / name).is_file()]
            if lacking:
                raise _lacking(folder, lacking[0], release)
            return Tokenizer(folder)
    for path in sorted([*root.glob(f"*/{FILES[0]}"), *root.glob(f"*/*/{FILES[0]}")]):
        found = _fitting(path.parent, release, config)
        if found is not None:
            return found
    cached = _cached(release)
    if cached is not None:
        return Tokenizer(cached)
    raise _lacking(first, FILES[0], release)


def _fitting(folder: Path, release: Release, config: Mapping[str, Any]) -> Tokenizer | None:
    try:
        tokenizer = Tokenizer(folder)
        backbone = release.backbone(config)
        format = release.chat(backbone)
        with_media_tokens(backbone, format, tokenizer)
        tokenizer.id(format.stop)
    except MingError:
        return None
    return tokenizer if tokenizer.largest_id < backbone.vocab_size else None


def _cached(release: Release) -> Path | None:
    """The hub cache's copy of the files that the release does not ship."""
    from huggingface_hub import try_to_load_from_cache

    repository = release.elsewhere.get(FILES[0])
    if repository is None:
        return None
    paths = [try_to_load_from_cache(repository, name) for name in FILES]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]


def _lacking(folder: Path, name: str, release: Release) -> BadCheckpoint:
    repository = release.elsewhere.get(name)
    if repository is None:
        return BadCheckpoint(f"{folder} has no {name}; copy it from the release")
    return BadCheckpoint(
        f"{folder} has no {name}, which this release is published without; copy "
        f"{' and '.join(FILES)} from {repository}: "
        f"hf download {repository} {' '.join(FILES)} --local-dir {folder}"
    )
