"""Files whole or not at all, and drawn again exactly where something they come from has changed."""

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from paper_figs import __main__ as command
from paper_figs import build, catalogue
from paper_figs.catalogue import figures  # itself, not what `checkout` puts in its place

FIGURE = '''"""What {name} shows."""

from {package}.figures.sizes import HEIGHT

from paper_figs.drawing import style

INPUTS = ("results/*.json",)


def compute():
    return {{"y": [1.0, HEIGHT]}}


def draw(data):
    figure = style.figure(1.0)
    figure.subplots().plot(data["y"])
    return figure
'''
TABLE = (
    FIGURE
    + """

def table(data):
    from paper_figs.columns.tabular import Cell, Column, Table

    cells = {{"adm": Cell(data["y"][1], 1.0, 4.0)}}
    return Table("Numbers", ("adm",), (Column("toy", "x", cells),), {{"toy": "a source"}})
"""
)
PACKAGES = count()


class Checkout:
    """A small checkout with two figures, a module that both import, an input file and a file that nobody imports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = f"small_figures_{next(PACKAGES)}"  # a fresh name: Python remembers what it has imported
        self.out = root / "out"
        self.write("__init__.py", "")
        self.write("sizes.py", "HEIGHT = 2.0\n")
        self.write("unused.py", "x = 1\n")
        for name in ("first", "second"):
            self.write(f"{name}.py", FIGURE.format(name=name, package=self.package))
        (root / "results").mkdir()
        (root / "results" / "run.json").write_text("{}")

    def write(self, name: str, text: str) -> None:
        path = self.root / self.package / "figures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def figures(self) -> dict[str, catalogue.Entry]:
        return figures(self.root, self.package)

    def stale(self) -> list[str]:
        return [name for name, entry in self.figures().items() if not build.up_to_date(entry, self.out)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalogue, "figures", made.figures)
    yield made
    for name in [name for name in sys.modules if name.startswith(made.package)]:
        del sys.modules[name]


@pytest.fixture
def drawn(checkout: Checkout) -> Checkout:
    assert command.main(["--out", str(checkout.out)]) == 0
    assert checkout.stale() == []
    return checkout


@pytest.fixture
def tabled(checkout: Checkout) -> Checkout:
    """The same with a table, drawn."""
    checkout.write("table_9.py", TABLE.format(name="table_9", package=checkout.package))
    assert command.main(["--out", str(checkout.out)]) == 0
    assert checkout.stale() == []
    return checkout


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_everything_is_written_and_nothing_else(drawn: Checkout) -> None:
    expected = {f"{name}{suffix}" for name in ("first", "second") for suffix in (".pdf", ".png", ".json", ".stamp")}
    assert {path.name for path in drawn.out.iterdir()} == expected
    assert json.loads((drawn.out / "first.json").read_text()) == {"y": [1.0, 2.0]}


def test_a_second_run_draws_nothing(drawn: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    before = _times(drawn.out)
    assert command.main(["--out", str(drawn.out)]) == 0
    assert _times(drawn.out) == before
    assert "2 of 2 figures are up to date" in capsys.readouterr().out


def test_a_name_is_drawn_and_the_others_are_left(drawn: Checkout) -> None:
    before = _times(drawn.out)
    assert command.main(["first", "--out", str(drawn.out)]) == 0
    changed = {name for name, time in _times(drawn.out).items() if time != before[name]}
    assert changed == {"first.pdf", "first.png", "first.json", "first.stamp"}


def test_force_draws_all(drawn: Checkout) -> None:
    before = _times(drawn.out)
    assert command.main(["--force", "--out", str(drawn.out)]) == 0
    assert all(time != before[name] for name, time in _times(drawn.out).items())


def test_the_figures_own_source(drawn: Checkout) -> None:
    drawn.write("first.py", FIGURE.format(name="first, changed,", package=drawn.package))
    assert drawn.stale() == ["first"]


def test_a_source_that_both_import(drawn: Checkout) -> None:
    drawn.write("sizes.py", "HEIGHT = 3.0\n")
    assert drawn.stale() == ["first", "second"]
    drawn.write("sizes.py", "HEIGHT = 2.0\n")
    assert drawn.stale() == []


def test_a_source_that_nobody_imports(drawn: Checkout) -> None:
    drawn.write("unused.py", "x = 2\n")
    assert drawn.stale() == []


def test_an_input_file(drawn: Checkout) -> None:
    (drawn.root / "results" / "another.json").write_text("{}")
    assert drawn.stale() == ["first", "second"]


def test_a_package_of_another_version(drawn: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = catalogue.versions()
    monkeypatch.setattr(catalogue, "versions", lambda: {**real, "numpy": "0"})
    assert drawn.stale() == ["first", "second"]


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".json", ".stamp"])
def test_a_file_missing_or_cut_short(drawn: Checkout, suffix: str) -> None:
    path = drawn.out / f"first{suffix}"
    path.write_bytes(path.read_bytes()[:-20])
    assert drawn.stale() == ["first"]
    path.unlink()
    assert drawn.stale() == ["first"]


def test_a_stamp_that_says_something_else_than_was_written(drawn: Checkout) -> None:
    path = drawn.out / "first.stamp"
    path.write_text(path.read_text().replace('"numpy": "', '"numpy": "9'))
    assert json.loads(path.read_bytes())["versions"]["numpy"].startswith("9")
    assert drawn.stale() == ["first"]


def test_a_figure_that_fails_does_not_stop_the_others(drawn: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    package = drawn.package
    drawn.write("broken.py", "def compute():\n    return {'y': float('nan')}\n\n\ndef draw(data): ...\n")
    drawn.write("second.py", FIGURE.format(name="second, changed,", package=package))
    assert command.main(["--out", str(drawn.out)]) == 1
    assert drawn.stale() == ["broken"]
    captured = capsys.readouterr()
    assert "not drawn: broken" in captured.err
    assert "data['y'] cannot be written" in captured.out
    assert not list(drawn.out.glob("*broken*"))


def test_an_unknown_name_says_what_is_allowed(drawn: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    before = _times(drawn.out)
    assert command.main(["first", "thrid", "--out", str(drawn.out)]) == 2
    assert "there is no figure 'thrid'; allowed: first, second" in capsys.readouterr().err
    assert _times(drawn.out) == before


def test_a_file_in_the_folders_place(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.out.write_text("")
    assert command.main(["--out", str(checkout.out)]) == 2
    assert "allowed: a folder, or a path where one can be made" in capsys.readouterr().err


def test_the_list(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--out", str(checkout.out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert all("out of date" in line and "What" in line for line in lines)
    assert not checkout.out.exists()


def test_an_interrupted_drawing_counts_as_out_of_date(drawn: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data are renewed, then Ctrl-C falls into the writing of the PDF."""
    from matplotlib.figure import Figure

    drawn.write("sizes.py", "HEIGHT = 5.0\n")
    for name in [name for name in sys.modules if name.startswith(drawn.package)]:
        monkeypatch.delitem(sys.modules, name)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    old = (drawn.out / "first.pdf").read_bytes()
    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.main(["first", "--out", str(drawn.out)])
    assert (drawn.out / "first.pdf").read_bytes() == old
    assert json.loads((drawn.out / "first.json").read_text()) == {"y": [1.0, 5.0]}
    assert drawn.stale() == ["first", "second"]
    drawn.write("sizes.py", "HEIGHT = 2.0\n")  # the stamp's own sources again; the data on disk are others
    assert drawn.stale() == ["first"]


def test_inputs_must_be_literal(checkout: Checkout) -> None:
    checkout.write("first.py", 'INPUTS = ("a",) + tuple()\n')
    with pytest.raises(ValueError, match=r"INPUTS in .* allowed: a literal tuple of strings"):
        catalogue.declared_inputs(checkout.root / checkout.package / "figures" / "first.py")


def test_a_table_is_written_in_every_format(tabled: Checkout) -> None:
    suffixes = {path.suffix for path in tabled.out.glob("table_9.*")}
    assert suffixes == {".pdf", ".png", ".json", ".md", ".tex", ".csv", ".stamp"}
    assert "| ADM | 2.0 ± 1.5 |" in (tabled.out / "table_9.md").read_text()
    assert r"ADM & $2.0 \pm 1.5$ \\" in (tabled.out / "table_9.tex").read_text()
    assert r"\label{tab:table_9}" in (tabled.out / "table_9.tex").read_text()
    assert (tabled.out / "table_9.csv").read_bytes() == b"method,toy: x,toy: x low,toy: x high\r\nadm,2.0,1.0,4.0\r\n"
    stamp = json.loads((tabled.out / "table_9.stamp").read_bytes())
    assert set(stamp["files"]) == suffixes - {".stamp"}
    assert not any((tabled.out / f"first{suffix}").exists() for suffix in build.TABLE_SUFFIXES)


@pytest.mark.parametrize("suffix", [".md", ".tex", ".csv"])
def test_a_format_missing_or_changed(tabled: Checkout, suffix: str) -> None:
    path = tabled.out / f"table_9{suffix}"
    path.write_bytes(path.read_bytes() + b" ")
    assert tabled.stale() == ["table_9"]
    path.unlink()
    assert tabled.stale() == ["table_9"]


def test_a_table_has_the_same_bytes_each_time(tabled: Checkout) -> None:
    before = {path.name: path.read_bytes() for path in tabled.out.iterdir()}
    assert command.main(["--force", "--out", str(tabled.out)]) == 0
    assert {path.name: path.read_bytes() for path in tabled.out.iterdir()} == before


def test_a_figure_that_becomes_a_table_is_out_of_date(drawn: Checkout) -> None:
    drawn.write("second.py", TABLE.format(name="second", package=drawn.package))
    assert drawn.stale() == ["second"]


def test_a_broken_table_leaves_the_old_files(tabled: Checkout) -> None:
    """Its formats are made before any file is replaced."""
    before = {path.name: path.read_bytes() for path in tabled.out.glob("table_9.*")}
    text = TABLE.format(name="table_9", package=tabled.package).replace('"toy", "x"', '"another", "x"')
    tabled.write("table_9.py", text)
    for name in [name for name in sys.modules if name.startswith(tabled.package)]:
        del sys.modules[name]
    assert command.main(["table_9", "--out", str(tabled.out)]) == 1
    assert {path.name: path.read_bytes() for path in tabled.out.glob("table_9.*")} == before
    assert tabled.stale() == ["table_9"]
