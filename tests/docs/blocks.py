"""Blocks of code in Markdown pages, and a folder in which they run as a reader would run them.

A `python` block is executed, all of a page's in one namespace; with a caption it is written into that file. An `sh`
block is run line by line by bash, in a folder that looks like the checkout. What would take hours, a GPU or a network
says in a comment before it how it runs here, `% runs as: COMMAND` (in pages that are not MyST, in an HTML comment), and
`% setup: CODE`, in the block's language, what a reader has by then and the page has not made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
RUN, SHOWN = ("python", "sh"), ("text", "bibtex", "")
DIRECTIVE = re.compile(r"\{([\w-]+)\}\s*(.*)")
OPTION = re.compile(r":([\w-]+):\s*(.*)\n")
COMMENT = re.compile(r"(?:%|<!--) (runs as|setup): (.*?)(?: -->)?$")
SECONDS = 300
"""The longest that a command may take, on a busy machine."""
HARMLESS = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false", "OMP_NUM_THREADS": "1"}
"""pip says whether it could install what a page asks for, from what is installed, and installs nothing ("false" is how
it is told to build without isolation)."""


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        language: python, sh, or one that is only shown.
        code: what is in it.
        line: where it begins, counted from 1.
        caption: the file that it is, or "".
        instead: the command that runs in its place, or "".
        setup: what runs before, or "".
    """

    language: str
    code: str
    line: int
    caption: str = ""
    instead: str = ""
    setup: str = ""


def blocks(text: str) -> Iterator[Block]:
    """A page's blocks, in their order; directives that hold no code are left out."""
    lines = text.split("\n")
    for token in MarkdownIt().parse(text):
        if token.type != "fence" or token.map is None:
            continue
        language, code, options = token.info.strip(), token.content, {}
        if directive := DIRECTIVE.match(language):
            if directive[1] != "code-block":
                continue
            language = directive[2]
            while option := OPTION.match(code):
                options[option[1]] = option[2]
                code = code[option.end() :]
        comments = {}
        before = token.map[0] - 1
        while before >= 0 and (comment := COMMENT.match(lines[before])):
            comments[comment[1]] = comment[2]
            before -= 1
        yield Block(
            language, code, token.map[0] + 1, options.get("caption", ""), comments.get("runs as", ""),
            comments.get("setup", ""),
        )  # fmt: skip


class Reader:
    """Follows a page in a folder that looks like a checkout: what belongs to git is linked, results go elsewhere.

    Args:
        folder: empty, for what the page makes.
    """

    def __init__(self, folder: Path) -> None:
        """Link the checkout's parts."""
        self.folder = folder
        for part in ROOT.iterdir():
            if part.name not in ("runs", "data", ".git", ".venv", "paper_figs"):
                (folder / part.name).symlink_to(part)
        self.namespace: dict[str, Any] = {"__name__": "__page__"}

    def follow(self, page: Path) -> None:
        """Run all of its blocks.

        Raises:
            AssertionError: a command failed, or a block is in a language that is not known here.
        """
        for block in blocks(page.read_text(encoding="utf-8")):
            place = f"{page.name}, line {block.line}"
            assert block.language in RUN + SHOWN, f"{place}: nobody runs blocks of {block.language!r}"
            if block.setup and block.language == "python":
                exec(compile(block.setup, place, "exec", dont_inherit=True), self.namespace)
            elif block.setup:
                self.shell(block.setup, place)
            if block.caption:
                (self.folder / block.caption).write_text(block.code, encoding="utf-8")
            elif block.language == "python":
                self.python(block, page)
            elif block.language == "sh":
                for command in [block.instead] if block.instead else block.code.replace("\\\n", "").strip().split("\n"):
                    self.shell(command, place)

    def python(self, block: Block, page: Path) -> None:
        """Execute a block where the page's earlier ones have been; tracebacks name the page's lines."""
        code = compile("\n" * block.line + block.code, str(page), "exec", dont_inherit=True)
        exec(code, self.namespace)

    def shell(self, command: str, place: str) -> None:
        """Run a command.

        Raises:
            AssertionError: it did not end with 0.
        """
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=os.environ | HARMLESS | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{place}: {command}\nended with {done.returncode}\n{done.stdout[-3000:]}"
        assert "does not provide the extra" not in done.stdout, f"{place}: {command}\n{done.stdout}"
