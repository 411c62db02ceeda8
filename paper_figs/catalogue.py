"""The figures there are: every module of a folder that defines `compute` and `draw`, found without importing any.

What a figure depends on is one hash (`fingerprint`): of its sources and all of ours that they import, package versions
and input files. Sources are read, not imported, so that asking costs milliseconds.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from findings.trained import outside

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

DRAWING = ("paper_figs.build",)
"""Modules that decide how every figure is written."""


@dataclass(frozen=True)
class Entry:
    """One figure, unopened.

    Args:
        name: its module's, and its files', name.
        module: the module's dotted name.
        title: the first line of the module's docstring.
        source: the module's file.
        root: the checkout that it belongs to.
    """

    name: str
    module: str
    title: str
    source: Path
    root: Path

    def fingerprint(self) -> str:
        """The hash of all that it is drawn from."""
        return fingerprint((self.module, *DRAWING), declared_inputs(self.source), self.root)


def figures(root: Path = ROOT, package: str = "paper_figs") -> dict[str, Entry]:
    """All figures by name, in alphabetical order: the modules of the package's folder `figures`."""
    figures = {}
    for source in sorted((root / package / "figures").glob("*.py")):
        tree = ast.parse(source.read_bytes(), str(source))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if {"compute", "draw"} <= functions:
            title = (ast.get_docstring(tree) or "").partition("\n")[0]
            figures[source.stem] = Entry(source.stem, f"{package}.figures.{source.stem}", title, source, root)
    return figures


def chosen(names: list[str], available: dict[str, Entry]) -> list[Entry]:
    """The entries of these names, each once.

    Raises:
        ValueError: a name that is not there.
    """
    for name in names:
        if name not in available:
            raise ValueError(f"there is no figure {name!r}; allowed: {', '.join(available)}")
    return [available[name] for name in dict.fromkeys(names)]


PACKAGES = ("matplotlib", "numpy", "python-flint", "scipy", "sympy")
"""Packages whose version can change what is drawn."""
STUDIES = "results/*/"
"""How patterns of studies' files begin."""


def file_of(module: str, root: Path) -> Path | None:
    """The source file of a module that lies under `root`, or None for a module from elsewhere."""
    base = root.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def imported(module: str, source: Path) -> Iterator[str]:
    """Every module named by an import statement anywhere in the source; `from a import b` may mean a or a.b."""
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source.read_bytes(), str(source))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = util.resolve_name("." * node.level + (node.module or ""), package)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def sources(modules: Iterable[str], root: Path) -> dict[str, Path]:
    """The given modules and all under `root` that they import, directly or not, packages' own files included."""
    paths: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        source = file_of(module, root)
        if module in paths or source is None:
            continue
        paths[module] = source
        waiting += imported(module, source)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return dict(sorted(paths.items()))


def declared_inputs(source: Path) -> tuple[str, ...]:
    """The figure's `INPUTS`: patterns of files, relative to the checkout, that it reads. Empty where it has none.

    Raises:
        ValueError: INPUTS is not a literal tuple of strings.
    """
    for node in ast.parse(source.read_bytes(), str(source)).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "INPUTS" for target in targets):
            try:
                value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except ValueError:
                value = None
            if not isinstance(value, tuple) or not all(isinstance(pattern, str) for pattern in value):
                raise ValueError(f"INPUTS in {source} is not readable; allowed: a literal tuple of strings")
            return value
    return ()


def versions() -> dict[str, str]:
    """Python's version and those of PACKAGES."""
    return {"python": sys.version.split()[0], **{package: metadata.version(package) for package in PACKAGES}}


def matches(pattern: str, root: Path) -> dict[str, Path]:
    """The files of a pattern by label; those of studies are looked for in the folder outside too (see `outside`)."""
    matching = {path.relative_to(root).as_posix(): path for path in sorted(root.glob(pattern))}
    other = outside()
    if other is not None and pattern.startswith(STUDIES):
        below = pattern.removeprefix(STUDIES)
        for path in sorted({*other.glob(below), *other.glob(f"*/{below}")}):
            matching[f"outside {path.relative_to(other.parent).as_posix()}"] = path
    return matching


def fingerprint(modules: Iterable[str], inputs: Iterable[str], root: Path) -> str:
    """A hash over the sources of the modules (see `sources`), the versions, and the files that match `inputs`.

    Args:
        modules: dotted names.
        inputs: glob patterns relative to `root`; those of studies also find files outside (see `matches`).
        root: the checkout.
    """
    whole = hashlib.sha256()

    def add(label: str, content: bytes) -> None:
        whole.update(f"{label}\n{hashlib.sha256(content).hexdigest()}\n".encode())

    for module, source in sources(modules, root).items():
        add(f"source {module}", source.read_bytes())
    for package, version in versions().items():
        add(f"version {package}", version.encode())
    for pattern in inputs:
        for label, path in matches(pattern, root).items():
            add(f"input {label}", path.read_bytes())
    return whole.hexdigest()
