"""README.md as a package index shows it: its links made absolute, where the repository's address is set.

An index has no files beside the page, so a relative link leads nowhere there. The address is one setting, in
pyproject.toml:

    [tool.hatch.metadata.hooks.custom]
    repository = "https://example.org/owner/name"

While it is empty the links' words are kept without the links, and paragraphs of pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_ELSEWHERE = r"""(?!https?://|mailto:|#|data:)(?P<path>[^)"\s]+)"""
RELATIVE = re.compile(rf"""(?P<before>\]\(|src="|href="){_ELSEWHERE}""")
"""What leads to another file: in Markdown, and in HTML."""
LINK = re.compile(rf"\[(?P<words>[^\[\]]*)\]\({_ELSEWHERE}\)")
PICTURE = re.compile(rf"""<img [^>]*src="{_ELSEWHERE}"[^>]*>[^\n]*\n\n""")
IMAGES = (".png", ".svg", ".jpg")


def absolute(page: str, repository: str, branch: str = "main") -> str:
    """The page without relative links: led into the repository, or, where it has no address, as words alone.

    Args:
        page: Markdown, with HTML in it; a picture begins its paragraph.
        repository: its address, without a slash at the end, or nothing.
        branch: that the links are to.

    Raises:
        ValueError: the address is no https:// address.
    """
    if not repository:
        return LINK.sub(r"\g<words>", PICTURE.sub("", page))
    if not re.fullmatch(r"https://[\w./-]+[\w-]", repository):
        raise ValueError(f"repository is {repository!r}; allowed: https://host/owner/name, or nothing")

    def led(link: re.Match[str]) -> str:
        kind = "raw" if link["path"].lower().endswith(IMAGES) else "blob"
        return f"{link['before']}{repository}/{kind}/{branch}/{link['path'].removeprefix('./')}"

    return RELATIVE.sub(led, page)


class ReadmeHook(MetadataHookInterface):
    """The project's readme for its metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it."""
        page = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = absolute(page, str(self.config.get("repository", "")))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
