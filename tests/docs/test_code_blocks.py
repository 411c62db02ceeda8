"""Every block of code that a reader may copy runs."""

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, SHOWN, Block, Reader, blocks

WRITTEN = ("docs/_build", "docs/theory/claims")
"""Folders of pages that a build makes."""
PAGES = sorted(
    path
    for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("*/README.md")]
    if not any(path.is_relative_to(ROOT / folder) for folder in WRITTEN)
)
COMMANDS = ("python", "pip ", "flatness ", "make ", "$ ")
RUN = [path for path in PAGES if any(block.language not in SHOWN for block in blocks(path.read_text("utf-8")))]


def test_pages_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in RUN}
    assert {"README.md", "docs/tutorial.md", "docs/how_to/train_with_sam.md", "experiments/README.md"} <= names


@pytest.mark.parametrize("page", RUN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    if "import transformers" in page.read_text(encoding="utf-8"):
        pytest.importorskip("transformers", reason="the extra text is not installed")
    Reader(tmp_path).follow(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_could_run_is_hidden_in_a_block_without_a_language(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in SHOWN:
            assert not any(line.startswith(COMMANDS) for line in block.code.split("\n"))


PAGE = """# Page

```python
made = 1
```

% setup: touch ready
% runs as: test -f ready && touch made
```sh
exit 1
```

```{code-block} python
:caption: mine.py

raise RuntimeError
```

```{image} none.png
:alt: no code
```
"""


def test_blocks_are_read() -> None:
    python, shell, file = blocks(PAGE)
    assert python == Block("python", "made = 1\n", 3)
    assert (shell.language, shell.setup, shell.instead) == ("sh", "touch ready", "test -f ready && touch made")
    assert (file.caption, file.code.strip()) == ("mine.py", "raise RuntimeError")
    (html,) = blocks("<!-- runs as: true -->\n```sh\nfalse\n```\n")
    assert html.instead == "true"


def test_pages_are_followed(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "folder"
    folder.mkdir()
    page.write_text(PAGE + "\n```python\nassert made == 1\n```\n", encoding="utf-8")
    Reader(folder).follow(page)
    assert (folder / "made").exists()
    assert "RuntimeError" in (folder / "mine.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ("```sh\ntrue\nfalse | true\n```\n", AssertionError),
        ("```rust\n```\n", AssertionError),
        ("% setup: false\n```sh\ntrue\n```\n", AssertionError),
    ],
)
def test_pages_that_do_not_work_fail(text: str, error: type[Exception], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(error):
        Reader(tmp_path / "folder").follow(page)
