"""Who may import whom, one way only; no circles; no torch where results are read, claims proved and figures drawn."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from findings import names

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "findings": set(),
    "theory": {"findings"},
    "flatness": set(),
    "toy": {"theory", "flatness", "findings"},
    "experiments": {"flatness", "findings"},
    "paper_figs": {"theory", "findings"},
    "examples": {"flatness"},
    "docs": {"theory", "flatness", "findings", "paper_figs"},
    "benchmarks": {"theory", "flatness", "findings", "toy", "experiments"},
}
"""The rooms, and which others each may import."""
BRIDGE = "experiments/bridge"  # the folder that may look at the toy and the theory
WITHOUT_TORCH = ("findings", "theory", "paper_figs")
OWNED = {"AVERAGES", "SUFFIXES", "PAPER_METHODS", "NINE", "PAPER_RADIUS", "FULL"}
"""Constants of `findings.names` whose names mean one thing everywhere."""


def modules() -> dict[str, Path]:
    """Every module of the rooms by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ALLOWED
        for path in sorted((ROOT / room).rglob("*.py"))
    }


@cache
def imported(path: Path) -> frozenset[str]:
    """The dotted names that a file imports, at its head or inside functions; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def rooms_of(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    return {name.split(".")[0] for name in imported(path)}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph of imports; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    paths = list((ROOT / room).rglob("*.py"))
    assert paths
    for path in paths:
        allowed = ALLOWED[room] | {room}
        if path.is_relative_to(ROOT / BRIDGE):
            allowed |= {"toy", "theory"}
        assert rooms_of(path) & set(ALLOWED) <= allowed, path


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_no_torch_in_rooms_that_read_prove_and_draw(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert "torch" not in rooms_of(path), path


def test_what_commands_load_needs_no_pytest() -> None:
    """It is theirs who test: `theory/proof/testing.py` alone has it, and only tests import that."""
    testing = ROOT / "theory" / "proof" / "testing.py"
    assert "pytest" in rooms_of(testing)
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            if path != testing and "tests" not in path.parts and path.name != "conftest.py":
                assert "pytest" not in rooms_of(path), path
                assert "theory.proof.testing" not in imported(path), path


def test_the_instruments_tests_need_the_instruments_alone() -> None:
    """They travel with the source distribution, where the other rooms are not, with `tests.ranks` alone."""
    for path in (ROOT / "tests" / "flatness").rglob("*.py"):
        assert rooms_of(path) & set(ALLOWED) <= {"flatness"}, path
        tools = {name for name in imported(path) if name.startswith("tests.")}
        assert all(name.startswith(("tests.flatness", "tests.ranks")) for name in tools), path


def test_no_circle_of_imports() -> None:
    """A package's own `__init__` counts only where it is imported by name."""
    there = modules()
    graph = {
        name: {other for other in imported(path) if other in there and not name.startswith(f"{other}.")} - {name}
        for name, path in there.items()
    }
    # `from a import b` of a module b needs a's own file only where a defines something
    graph = {
        name: {o for o in others if not any(p.startswith(f"{o}.") for p in others)} for name, others in graph.items()
    }
    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_relative_imports_are_not_used() -> None:
    """They would slip past the tests above."""
    for path in modules().values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)), path


def assigned(path: Path) -> list[tuple[str, ast.expr]]:
    """Module-level constants of a file: name and value."""
    constants: list[tuple[str, ast.expr]] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            constants += [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            constants.append((node.target.id, node.value))
    return constants


def second_definitions(path: Path) -> list[str]:
    """Constants of `findings.names` that a file defines anew: by their name, or by the same literal anywhere in it."""
    literals = {value: name for name, value in vars(names).items() if isinstance(value, tuple) and len(value) > 2}
    again = [name for name, _ in assigned(path) if name in OWNED]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List):
            try:
                value = tuple(ast.literal_eval(node))
                again += [literals[value]] if value in literals else []
            except (ValueError, TypeError):  # not of literals alone, or of lists
                continue
    return again


@pytest.mark.parametrize("room", ["toy", "experiments", "paper_figs", "docs", "benchmarks"])
def test_what_findings_owns_is_defined_there_alone(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert second_definitions(path) == [], path


def test_a_second_definition_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "again.py"
    for text in (
        "FULL = 32\n",
        "for a in ('raw', 'ema', 'swa'):\n    pass\n",
        "def f():\n    return ['adm', 'ip', 'sam']\n",
    ):
        path.write_text(text)
        assert second_definitions(path), text
    path.write_text("BITS = (8, 4)\nhalf = {'raw': 1}\n")
    assert second_definitions(path) == []
