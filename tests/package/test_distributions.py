"""Source distribution and wheel: they build without a warning, and hold what they should and nothing else."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from tarfile import open as open_tar

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

import flatness
import hatch_build
from tests.package.building import STILL, Built, built, copied

ROOT = Path(__file__).parent.parent.parent
CORE = {"numpy", "rich", "scipy", "torch"}
BESIDE = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
SMALL = 500_000
"""Bytes that a distribution of the instruments may have; the whole checkout has ten times as many."""
FROM_SDIST = """
import importlib.util, sys
sys.path.append(sys.argv[1])
assert not any(importlib.util.find_spec(room) for room in ("findings", "theory", "toy", "experiments"))
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""
"""pytest under `python -S`, which has installed packages on its path but not the checkout of an editable install."""


def test_they_build_without_a_warning(build: Built) -> None:
    assert "warning" not in build.printed.lower()
    assert "deprecat" not in build.printed.lower()
    assert "Building wheel from sdist" in build.printed
    assert sorted(build.sdist.parent.iterdir()) == [build.wheel, build.sdist]
    assert build.sdist.stat().st_size < SMALL
    assert build.wheel.stat().st_size < SMALL


def test_the_build_leaves_nothing_beside_its_files(build: Built) -> None:
    left = {path for path in build.copy.rglob("*") if "__pycache__" not in path.parts}  # of the build's own hook
    assert left == build.before


def test_the_wheel_holds_the_package_and_nothing_else(build: Built) -> None:
    package = {path.relative_to(build.copy).as_posix() for path in (build.copy / "flatness").rglob("*.*")}
    assert {"flatness/training/sam.py", "flatness/cli/command.py", "flatness/py.typed"} <= package
    beside = f"flatness-{flatness.__version__}.dist-info"
    assert set(build.in_wheel) == package | {f"{beside}/{name}" for name in BESIDE}
    for name in package:
        assert build.in_wheel[name] == (build.copy / name).read_bytes(), name
    assert build.in_wheel[f"{beside}/licenses/LICENSE"] == (build.copy / "LICENSE").read_bytes()
    scripts = build.in_wheel[f"{beside}/entry_points.txt"].decode()
    assert scripts.split() == ["[console_scripts]", "flatness", "=", "flatness.cli:main"]


def test_a_wheel_straight_from_the_checkout_is_the_same(build: Built, tmp_path: Path) -> None:
    assert built(tmp_path, "--wheel").in_wheel == build.in_wheel


def test_the_wheels_metadata(build: Built) -> None:
    metadata = build.metadata
    assert (metadata.name, str(metadata.version)) == ("flatness", flatness.__version__)
    assert metadata.license_expression == "MIT"
    assert metadata.description_content_type == "text/markdown"
    page = (build.copy / "README.md").read_text(encoding="utf-8")
    assert str(metadata.description).strip() == hatch_build.absolute(page, "").strip()
    assert "<h1>Flatness in diffusion models</h1>" in MarkdownIt().enable("table").render(str(metadata.description))
    needed = [one for one in build.requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert {one.name for one in needed} == CORE
    assert {"curvature", "diffusers", "plot"} <= set(metadata.provides_extra or [])


def test_links_of_the_readme_work_where_there_are_no_files_beside_it() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    without = BeautifulSoup(MarkdownIt().enable("table").render(hatch_build.absolute(page, "")), "html.parser")
    assert {str(tag["href"])[:8] for tag in without.find_all("a")} == {"https://"}
    assert without.find_all("img") == []
    assert "claims.md" not in str(without)
    assert "the tutorial shows what comes out" in " ".join(without.get_text().split())  # the words stay
    made = hatch_build.absolute(page, "https://example.org/owner/name")
    soup = BeautifulSoup(MarkdownIt().enable("table").render(made), "html.parser")
    links = [
        str(tag[name])
        for tag, name in ((t, n) for t in soup.find_all(True) for n in ("href", "src"))
        if tag.has_attr(name)
    ]
    ours = [link for link in links if link.startswith("https://example.org/owner/name/")]
    assert len(ours) >= 10
    for link in links:
        assert link.startswith("https://")
    for link in ours:
        kind, branch, path = link.removeprefix("https://example.org/owner/name/").split("/", 2)
        assert (kind, branch) == ("raw" if path.endswith(".png") else "blob", "main")
        assert (ROOT / path.partition("#")[0]).exists(), link
    for wrong in ("owner/name", "http://example.org/a", "https://example.org/a/"):
        with pytest.raises(ValueError, match="allowed: https"):
            hatch_build.absolute(page, wrong)


def test_the_source_distribution_holds_the_instruments_and_their_tests(build: Built) -> None:
    files = build.in_sdist
    beside = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "pyproject.toml",
        "conftest.py",
        "PKG-INFO",
        "hatch_build.py",
    }
    elsewhere = {name for name in files if not name.startswith(("flatness/", "tests/flatness/"))}
    assert elsewhere == beside | {".gitignore", "tests/__init__.py", "tests/ranks.py"}
    for folder in ("flatness", "tests/flatness"):
        for path in (build.copy / folder).rglob("*.*"):
            assert files[path.relative_to(build.copy).as_posix()] == path.read_bytes(), path


def test_the_source_distribution_suffices_for_the_instruments_tests(build: Built, tmp_path: Path) -> None:
    """All of them are collected, and some run, where the rest of the checkout cannot be imported."""
    with open_tar(build.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (top,) = tmp_path.iterdir()
    words = ["--numprocesses=0", "-p", "no:cacheprovider", "tests/flatness", "-k", "test_input_perturbation"]
    program = [sys.executable, "-S", "-c", FROM_SDIST, sysconfig.get_path("purelib"), *words]
    done = subprocess.run(program, cwd=top, capture_output=True, text=True, check=False, env=STILL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_build_that_warns_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_whole = copied

    def planted(folder: Path) -> Path:
        copy = copied_whole(folder)
        hook = copy / "hatch_build.py"
        text = hook.read_text(encoding="utf-8")
        warned = text.replace('"""Set it."""', '__import__("warnings").warn("planted")')
        assert warned != text
        hook.write_text(warned, encoding="utf-8")
        return copy

    monkeypatch.setattr("tests.package.building.copied", planted)
    with pytest.raises(RuntimeError, match="planted"):
        built(tmp_path)
