"""Models of the Hugging Face hub, from the cache on this machine alone: no network call is made."""

from __future__ import annotations

import re
from pathlib import Path

from flatness.cli.errors import CommandError, MissingPackageError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_id(source: str) -> bool:
    """Whether a source looks like owner/name, or owner/name@revision."""
    return NAME.fullmatch(source) is not None


def cached(source: str) -> Path:
    """The folder of a model in the local cache.

    Args:
        source: owner/name, or owner/name@revision.

    Raises:
        CommandError: it is not there; MissingPackageError: huggingface_hub is missing.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingPackageError("a model of the hub", "huggingface_hub", "'flatness[diffusers]'") from error
    name, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except Exception as error:  # of many kinds, for what is not there
        how = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        raise CommandError(
            f"{source} does not exist here, nor is it in the local cache of the hub, which alone is looked in; "
            f"if it is a model of the hub, `{how}` fetches it"
        ) from error
