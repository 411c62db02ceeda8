"""A figure of the package computed, drawn and looked at: what is written on it, and where."""

import json
from importlib import import_module
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from paper_figs.build import as_json
from paper_figs.drawing import style

Data = dict[str, Any]


def computed(name: str) -> Data:
    """The figure's data as `draw` gets it, computed anew."""
    return dict(json.loads(as_json(import_module(f"paper_figs.figures.{name}").compute())))


def drawn(name: str, data: Data) -> Figure:
    """The figure, laid out."""
    with style.applied():
        figure: Figure = import_module(f"paper_figs.figures.{name}").draw(data)
        FigureCanvasAgg(figure).draw()
    return figure


def texts(figure: Figure) -> list[Text]:
    """All that is written."""
    every = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in every if text.get_visible() and text.get_text().strip()]


def words(figure: Figure) -> str:
    """All that is written, line breaks as spaces."""
    return " ".join(" ".join(text.get_text().split()) for text in texts(figure))


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of titles, labels and words that lie over each other by more than a line's spacing."""
    ticks = {tick for axes in figure.axes for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    room = 0.1 * style.SETTINGS["font.size"] * figure.dpi / 72
    boxes = [(text, text.get_window_extent().padded(-room)) for text in texts(figure) if text not in ticks]
    return [
        (one.get_text(), other.get_text())
        for place, (one, box) in enumerate(boxes)
        for other, against in boxes[place + 1 :]
        if box.overlaps(against)
    ]


def cut(figure: Figure) -> bool:
    """Whether something leaves the canvas."""
    box, width, height = figure.get_tightbbox(), figure.get_figwidth(), figure.get_figheight()
    room = 1 / figure.dpi
    return box.x0 < -room or box.y0 < -room or box.x1 > width + room or box.y1 > height + room
