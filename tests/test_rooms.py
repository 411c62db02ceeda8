"""Who may import whom, one way only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("findings", "theory", "flatness", "toy", "experiments", "paper_figs", "benchmarks", "examples", "docs")
ALLOWED = {
    "findings": set(),
    "theory": set(),
    "flatness": set(),
    "toy": {"theory", "flatness", "findings"},
    "experiments": {"flatness", "findings"},
    "paper_figs": {"theory", "findings"},
    "examples": {"flatness"},
    "docs": {"theory", "flatness", "findings", "paper_figs"},
    "benchmarks": {"theory", "flatness", "findings", "toy", "experiments"},
}
BRIDGE = "experiments/bridge"  # the folder that may look at the toy and the theory


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, at its head or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room).is_dir()])
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        allowed = ALLOWED[room] | {room}
        if path.is_relative_to(ROOT / BRIDGE):
            allowed |= {"toy", "theory"}
        assert imported(path) & set(ROOMS) <= allowed, path


@pytest.mark.parametrize("room", ["theory", "paper_figs"])
def test_no_torch_in_rooms_that_draw_and_prove(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert "torch" not in imported(path), path


def test_relative_imports_are_not_used() -> None:
    """They would slip past the tests above."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)), path
