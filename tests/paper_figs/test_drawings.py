"""Every figure: one or two columns wide, no text cut or too small to read, the same bytes each time."""

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from matplotlib import mathtext
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from paper_figs import build, catalogue
from paper_figs.drawing import style
from theory.claims import corollary_3_9_gaussian_gap, theorem_t2_exact_worst_case, theorem_t4_robust_radius
from theory.proof.notation import latex

NAMES = list(catalogue.figures())
SMALLEST = 7.0
"""Points; below, text is hard to read in print."""
PIXEL = 1.0
"""How far a box, rounded outwards to whole pixels, may reach beyond the canvas."""


def flaws(figure: Figure) -> list[str]:
    """What is cut by the canvas, and texts smaller than SMALLEST."""
    FigureCanvasAgg(figure).draw()
    drawn = figure.get_tightbbox()  # inches
    room = PIXEL / figure.dpi
    complaints = [f"cut at x = {x:.2f}" for x in (drawn.x0, drawn.x1) if not -room <= x <= figure.get_figwidth() + room]
    complaints += [
        f"cut at y = {y:.2f}" for y in (drawn.y0, drawn.y1) if not -room <= y <= figure.get_figheight() + room
    ]
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    return complaints + [f"small: {text.get_text()!r}" for text in texts if float(text.get_fontsize()) < SMALLEST]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def drawn(name: str, data_of: Callable[[str], dict[str, Any]]) -> Callable[[], Figure]:
    return lambda: import_module(f"paper_figs.figures.{name}").draw(data_of(name))


def test_the_figures_asked_for_are_there() -> None:
    of_the_paper = {f"figure_{number}" for number in range(1, 9)}
    assert of_the_paper | {"bound", "failure_share", "relu_density", "gap_radius"} <= set(NAMES)


def test_one_or_two_columns_wide_all_whole_and_legible_and_no_legend_over_a_panel(
    drawn: Callable[[], Figure],
) -> None:
    with style.applied():
        figure = drawn()
        assert figure.get_figwidth() in (style.WIDTH, style.WIDE)
        assert flaws(figure) == []
    assert figure.legends or not any(axes.get_legend_handles_labels()[0] for axes in figure.axes)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert all(axes.get_legend() is None for axes in figure.axes)


def test_same_bytes_each_time(drawn: Callable[[], Figure]) -> None:
    written: list[tuple[bytes, bytes]] = []
    with style.applied():
        for _ in range(2):
            figure = drawn()
            pdf, png = io.BytesIO(), io.BytesIO()
            build.save(figure, pdf, "pdf")
            build.save(figure, png, "png")
            written.append((pdf.getvalue(), png.getvalue()))
    assert written[0] == written[1]
    assert b"/FontFile2" in written[0][0]  # fonts embedded, as TrueType
    assert b"/Type3" not in written[0][0]


def test_flaws_are_found() -> None:
    with style.applied():
        figure = style.figure(1.0)
        figure.text(0.9, 0.5, "a text that leaves the canvas")
        figure.text(0.1, 0.5, "tiny", fontsize=5)
        assert flaws(figure) == [f"cut at x = {figure.get_tightbbox().x1:.2f}", "small: 'tiny'"]


@pytest.mark.parametrize(
    "expression",
    [
        corollary_3_9_gaussian_gap.PRINTED_BOUND,
        corollary_3_9_gaussian_gap.CORRECTED_BOUND,
        corollary_3_9_gaussian_gap.STATEMENT.printed,
        theorem_t2_exact_worst_case.HOLDS,
        theorem_t4_robust_radius.HOLDS,
    ],
    ids=["printed", "corrected", "corollary", "T2", "T4"],
)
def test_formulas_of_the_theory_can_be_set(expression: Any) -> None:
    with style.applied():
        assert mathtext.MathTextParser("path").parse(style.formula(latex(expression))).width > 0


def test_style_leaves_nothing_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style.applied():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before


def test_no_two_looks_differ_by_colour_alone() -> None:
    roles = [look for role, look in style.ROLES.items() if role != "bracket"]
    for looks in (roles, list(style.SERIES)):
        shapes = [(str(look.get("linestyle")), look.get("marker")) for look in looks]
        assert len(set(shapes)) == len(shapes)
