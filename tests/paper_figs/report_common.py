"""A small checkout with a report, and a page read as a tree of elements."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

from paper_figs import catalogue
from paper_figs.catalogue import figures  # itself, not what a test puts in its place
from paper_figs.report import document

NASTY = """<script>alert("&amp;")</script> 'x' & y < z"""
"""What must arrive on the page as these very characters."""
VOID = {"meta", "img", "br", "input", "link", "hr", "rect", "line", "circle"}
_PACKAGES = count()

FIGURE = '''r"""{title}

It shows `code` and $\\alpha^2$.
"""

INPUTS = ("results/toy.json",)


def compute():
    return {{"y": [1.0, 2.0]}}


def draw(data):
    {draw}
'''
DRAWING = """from paper_figs.drawing import style
    figure = style.figure(1.0)
    figure.subplots().plot(data["y"])
    return figure"""
TABLE = "method,toy: distance,toy: distance low,toy: distance high,note\r\nadm,0.5,0.4,0.6,first\r\nsam,-2,-3,-1,\r\n"


def comparison(mean: float, verdict: str, region: list[float | None], what: str = "a against b") -> dict[str, Any]:
    """A comparison as results/toy.json has it."""
    return {
        "what": what,
        "form": "excess",
        "region": region,
        "verdict": verdict,
        "mean": mean,
        "low": mean - 0.125,
        "high": mean + 0.125,
        "seeds": 3,
        "level": 0.99,
    }


def prediction(identifier: str, verdict: str, *comparisons: dict[str, Any], statement: str = "a < b") -> dict[str, Any]:
    """A prediction as results/toy.json has it."""
    return {
        "identifier": identifier,
        "statement": statement,
        "source": "paper",
        "expected": "negative",
        "measured": "a less b, margin 5%",
        "verdict": verdict,
        "comparisons": list(comparisons),
    }


def toy() -> dict[str, Any]:
    """A small results/toy.json."""
    below: list[float | None] = [None, 0.0]
    return {
        "verdicts_may_be_quoted": True,
        "command": "python -m toy",
        "commit": "0123456789abcdef",
        "device": "cpu",
        "interval": "99% intervals",
        "configuration": {"seed_numbers": [4, 5, 6]},
        "predictions": [
            prediction("P1a", "confirmed", comparison(0.001, "confirmed", [-1.0, 1.0]), statement=NASTY),
            prediction("P2a", "confirmed", comparison(-0.75, "confirmed", below)),
            prediction(
                "P6a-20", "refuted", comparison(-0.01, "undecided", below), comparison(0.8125, "refuted", below, "c")
            ),
            prediction("P6a-100", "refuted", comparison(0.4375, "refuted", below)),
            prediction("P9d", "undecided", comparison(0.5, "undecided", [0.5, None])),
        ],
    }


def bridge() -> dict[str, Any]:
    """A bridge.json with entries that nobody has heard of."""
    return {
        "commit": "fedcba9876543210",
        "command": "python -m experiments bridge",
        "seeds": [0, 1],
        "weather": {"sun": True, "degrees": 17.5},
        "predictions": [
            {
                "identifier": "B1",
                "statement": "E|phi|^2 predicts the rise",
                "owner": "theory",
                "source": "theory, T3",
                "predicted": 0.625,
                "measured": 0.6875,
                "interval": [0.53125, 0.71875],
                "region": [0.5, 0.75],
                "verdict": "confirmed",
                "rule": "inside 10%",
                "from": "rows/adm-raw.json: lpf",
                "novelty": ["7 apples", None],
                "comparisons": [{"what": "adm", "measured": 1.5, "interval": [1.25, 1.75]}, {"what": "sam"}],
            },
            {"identifier": "B2", "measured": None},
        ],
    }


def png(width: int = 60, height: int = 30) -> bytes:
    """A grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Checkout:
    """A checkout with three figures, of which one is a table, a toy study and a bridge."""

    def __init__(self, root: Path) -> None:
        """Write it."""
        self.root, self.out = root, root / "out"
        self.package = f"small_report_{next(_PACKAGES)}"  # a fresh name: Python remembers what it has imported
        self.write(f"{self.package}/__init__.py", "")
        self.write(f"{self.package}/report/__init__.py", "")
        for name in ("zeta", "table_1", "figure_2"):
            self.figure(name)
        self.write("results/toy.json", json.dumps(toy()))
        self.write("results/small/bridge.json", json.dumps(bridge()))

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file of it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def figure(self, name: str, draw: str = DRAWING) -> None:
        """Write a figure's module."""
        title = f"{name.capitalize().replace('_', ' ')}: what it shows, a <b> & a & `b`."
        self.write(f"{self.package}/figures/{name}.py", FIGURE.format(title=title, draw=draw))

    def pretend(self) -> None:
        """Put pictures where drawn ones would be, and a table's numbers."""
        for name in self.figures():
            self.write(f"out/{name}.png", png())
            self.write(f"out/{name}.json", json.dumps({"groups": {"toy": "3 seeds"}, "notes": ["a note of 2003"]}))
        self.write("out/table_1.csv", TABLE)

    def figures(self) -> dict[str, catalogue.Entry]:
        """As the catalogue finds them."""
        return figures(self.root, self.package)

    def report(self) -> document.Report:
        """Its report."""
        report = document.find(self.figures())
        assert report is not None
        return report

    def forget(self) -> None:
        """Take its modules out of Python's memory."""
        for name in [name for name in sys.modules if name.startswith(self.package)]:
            del sys.modules[name]


@dataclass
class Node:
    """An element, or a text (no tag)."""

    tag: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    content: str = ""

    def walk(self) -> Iterator[Node]:
        """This and all inside it, in the page's order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def all(self, tag: str = "", **wanted: str) -> list[Node]:
        """The elements inside with this tag and these attributes; `cls` is one of its classes."""
        cls = wanted.pop("cls", None)
        return [
            node
            for node in self.walk()
            if node.tag
            and tag in ("", node.tag)
            and (cls is None or cls in node.attributes.get("class", "").split())
            and all(node.attributes.get(name.replace("_", "-")) == value for name, value in wanted.items())
        ]

    def one(self, tag: str = "", **wanted: str) -> Node:
        """The only one of `all`."""
        (node,) = self.all(tag, **wanted)
        return node

    def text(self, without: tuple[str, ...] = ("script", "style")) -> str:
        """All text inside, but for elements of these tags or classes."""
        if self.tag in without or set(self.attributes.get("class", "").split()) & set(without):
            return ""
        return self.content + "".join(child.text(without) for child in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> names an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(Node(content=data))


def tree(page: str) -> Node:
    """The page's elements; every one must be closed, in order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"not closed: {[node.tag for node in reader.open[1:]]}"
    return reader.root
