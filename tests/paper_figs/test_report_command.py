"""The report as one more output of `python -m paper_figs`: written last, skipped when nothing has changed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paper_figs import __main__ as command
from paper_figs import catalogue
from paper_figs.report import document, page
from tests.paper_figs.report_common import Checkout, png, tree


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalogue, "figures", made.figures)
    yield made
    made.forget()


def run(checkout: Checkout, *arguments: str) -> int:
    return command.main([*arguments, "--out", str(checkout.out)])


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_it_is_written_after_the_figures_and_a_second_run_does_nothing(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkout) == 0
    assert f"report: {checkout.out / 'report.html'}" in capsys.readouterr().out
    shown = tree((checkout.out / "report.html").read_text(encoding="utf-8")).all("details", cls="picture")
    assert len(shown) == 3
    assert all(node.all("img") and "Drawn before" not in node.text() for node in shown)
    before = _times(checkout.out)
    assert run(checkout) == 0
    assert _times(checkout.out) == before
    printed = capsys.readouterr().out
    assert "report:" not in printed
    where, what = printed.splitlines()[-2:]  # where to look first, and what stands there
    assert str(checkout.out / "report.html") in where
    assert "nothing of the ladder is measured yet" in what


def test_a_figure_that_fails_is_named_on_the_page_and_in_the_exit_status(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.figure("figure_2", draw="raise RuntimeError('no ink')")
    assert run(checkout) == 1
    assert "error: not drawn: figure_2" in capsys.readouterr().err
    failed, *others = tree((checkout.out / "report.html").read_text(encoding="utf-8")).all("details", cls="picture")
    assert "failed to be drawn: RuntimeError: no ink" in failed.text()
    assert all(node.all("img") for node in others)
    assert not checkout.report().up_to_date(checkout.out)
    checkout.figure("figure_2")
    checkout.forget()
    assert run(checkout) == 0
    assert "no ink" not in (checkout.out / "report.html").read_text(encoding="utf-8")
    assert checkout.report().up_to_date(checkout.out)


def test_a_broken_result_file_fails_the_report_alone(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.write("results/small/bridge.json", "{")
    assert run(checkout) == 1
    captured = capsys.readouterr()
    assert "error: not drawn: report" in captured.err
    assert "bridge.json cannot be read" in captured.out
    assert not (checkout.out / "report.html").exists()
    assert (checkout.out / "zeta.png").exists()


def test_alone_it_draws_no_figure(checkout: Checkout) -> None:
    assert run(checkout, "report") == 0
    assert sorted(path.name for path in checkout.out.iterdir()) == ["report.html", "report.stamp"]


def test_a_figure_alone_leaves_it(checkout: Checkout) -> None:
    assert run(checkout, "zeta") == 0
    assert not (checkout.out / "report.html").exists()


def test_the_list_and_unknown_names(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(checkout, "--list") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[0] == "report"
    assert "out of date" in last
    assert run(checkout, "reprot") == 2
    assert "there is no figure 'reprot'; allowed: figure_2, table_1, zeta, report" in capsys.readouterr().err


def test_networks_outside_are_shown_where_they_are_named(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout.write("runs/plan.json", '{"version": 2}').parent
    checkout.write("runs/bridge.json", '{"predictions": [{"identifier": "B7"}]}')
    assert run(checkout, "report", "--runs", str(folder)) == 0
    shown = tree((checkout.out / "report.html").read_text(encoding="utf-8")).one("section", id="bridge")
    assert "B7" in shown.text()
    assert run(checkout, "--runs", str(checkout.root / "nowhere")) == 2
    assert "error: runs is" in capsys.readouterr().err


@pytest.fixture
def written(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout whose report, here a few letters, is up to date."""
    monkeypatch.setattr(page, "written", lambda *_: "<!DOCTYPE html>")
    checkout.pretend()
    report = checkout.report()
    assert not report.up_to_date(checkout.out)
    page.write(report, checkout.out)
    assert report.up_to_date(checkout.out)
    return checkout


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("out/zeta.png", png(61)),
        ("out/table_1.csv", b"method,x\r\nadm,1\r\n"),
        ("out/zeta.json", b"{}"),
        ("results/toy.json", b"{}"),
        ("results/another/bridge.json", b"{}"),
        ("results/ladder/ring.json", b"{}"),
        ("theory/claims/theorem_t9.py", b"X = 1\n"),
        ("paper_figs/report/templates/page.html", b"x"),
        ("paper_figs/report/vendor/simple.min.css", b"x"),
        ("paper_figs/report/page.py", b"X = 1\n"),
        ("out/report.html", b"<p>"),
        ("out/report.stamp", b"{"),
    ],
)
def test_what_makes_it_out_of_date(written: Checkout, name: str, content: bytes) -> None:
    written.write(name, content)
    assert not written.report().up_to_date(written.out)


def test_a_stamp_that_was_edited_makes_it_out_of_date(written: Checkout) -> None:
    path = written.out / "report.stamp"
    path.write_text(path.read_text().replace('"report": "report"', '"report": "another"'))
    assert json.loads(path.read_bytes())["report"] == "another"
    assert not written.report().up_to_date(written.out)


@pytest.mark.parametrize("name", ["theory/tests/test_theorem_t9.py", "results/another/plan.json", "out/note.txt"])
def test_what_does_not(written: Checkout, name: str) -> None:
    written.write(name, b"{}")
    assert written.report().up_to_date(written.out)


def test_a_figure_that_failed_makes_it_out_of_date(written: Checkout) -> None:
    page.write(written.report(), written.out, {"zeta": "ValueError: no"})
    assert not written.report().up_to_date(written.out)


def test_a_new_figure_makes_it_out_of_date(written: Checkout) -> None:
    written.figure("figure_3")
    assert not written.report().up_to_date(written.out)


def test_no_report_where_there_is_no_package_of_that_name(checkout: Checkout) -> None:
    (checkout.root / checkout.package / "report" / "__init__.py").unlink()
    assert document.find(checkout.figures()) is None
    assert document.find({}) is None


def test_an_interrupted_write_leaves_the_old_page(written: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    old = (written.out / "report.html").read_bytes()
    written.write("out/zeta.png", png(61))

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        page.write(written.report(), written.out)
    assert (written.out / "report.html").read_bytes() == old
    assert not [path for path in written.out.iterdir() if path.name.endswith(".tmp")]
    assert not written.report().up_to_date(written.out)


def test_the_stamp_says_what_was_written(written: Checkout) -> None:
    stamp = json.loads((written.out / "report.stamp").read_bytes())
    assert stamp["report"] == "report"
    assert set(stamp["files"]) == {".html"}


def test_asking_for_its_state_loads_nothing_heavy() -> None:
    program = (
        "import sys; from paper_figs import build, catalogue; from paper_figs.report import document; "
        "document.find(catalogue.figures()).up_to_date(build.OUT); "
        "print(sorted({'jinja2', 'latex2mathml', 'fontTools', 'matplotlib', 'theory'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=catalogue.ROOT, capture_output=True, check=True)
    assert result.stdout.decode().splitlines()[-1] == "[]"
