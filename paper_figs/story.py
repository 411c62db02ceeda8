"""The project's one page, written once: README.md, the report and the site's first page are made of these parts.

What was asked, what came out at which rung of the ladder, what to do with a model of one's own, and what nobody knows
yet. Whatever depends on results is counted from them when the parts are made: verdicts, numbers, and the titles that
follow from them; a rung without results has no column, and is named under what is not known.

Texts hold `code`, **bold** and [links](path/from/the/root) alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from findings import ladder_page
from findings.ladder_page import Column
from findings.sentences import sentences, tally
from theory import ledger
from theory.proof.statement import Fault, Verdict

PAPER = "https://arxiv.org/abs/2503.11078"
RUNGS = {
    "0": "ring (toy)",
    "1": "8 × 8 images (toy)",
    "2": "ADM, 8 × 8",
    "3": "ADM, 16 × 16",
    "4": "ADM, on a GPU",
    "5": "the paper's tables",
}
"""How a column is headed."""
COMMANDS = {
    "0": "python -m toy regimes",
    "1": "python -m toy images",
    "2": "python -m experiments reproduce --at",
    "3": "python -m experiments reproduce --at",
    "4": "python -m experiments reproduce --at",
}
"""What makes a rung."""


class KeyClaim(NamedTuple):
    """A claim of the ladder in as few words as a table on a first page has room for."""

    identifier: str
    words: str


KEY_CLAIMS = (
    KeyClaim("L7a", "SAM finds flatter minima: the loss rises less under weight noise"),
    KeyClaim("L1a", "SAM's raw weights sample better than plain training's"),
    KeyClaim("L2d", "averaging alone (EMA) improves samples"),
    KeyClaim("L2a", "SAM with EMA samples better than EMA alone"),
    KeyClaim("L6a", "SAM has less exposure bias"),
    KeyClaim("L8a", "rounded to 8 bits, SAM's weights sample as before"),
    KeyClaim("L8b", "rounded to 8 bits, plain training's weights sample visibly worse"),
    KeyClaim("L2b", "with EMA no radius of SAM improves samples"),
    KeyClaim("L3b", "where the training set is memorised, SAM improves EMA's samples"),
    KeyClaim("L12a", "too large a radius costs held-out loss"),
    KeyClaim("L8c", "rounded to 4 bits, SAM's loss rises less"),
    KeyClaim("L2e", "plain training with EMA samples better than SAM's raw weights at their best"),
    KeyClaim("L5a", "one pass with random weight noise samples as well as SAM's two"),
)
"""Of the first page; all of them stand in results/ladder/claims.md."""


class Items(NamedTuple):
    """A list."""

    texts: tuple[str, ...]
    ordered: bool = False


class Table(NamedTuple):
    """A table of texts."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Picture(NamedTuple):
    """A figure of the catalogue.

    Attributes:
        name: its module's.
        words: what is under it.
        alt: what it shows.
        width: in CSS pixels, where there is room.
    """

    name: str
    words: str
    alt: str
    width: int


Block = str | Items | Table | Picture


@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        name: for whoever shows one part alone.
        title: its heading; empty for what stands first.
        blocks: in order.
        source: where its numbers stand, and the command that makes them; empty where it has none.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    source: tuple[str, str] = ("", "")


LADDER_SOURCE = (f"results/ladder/{ladder_page.DOCUMENT}", "python -m findings")
THEORY_SOURCE = ("theory/ledger.py", "python -m theory")


def parts(columns: Sequence[Column]) -> list[Part]:
    """The page.

    Args:
        columns: of the ladder; none where nothing was measured.
    """
    return [_question(columns), _by_rung(columns), _found(columns), _advice(columns), _unknown(columns)]


def _question(columns: Sequence[Column]) -> Part:
    heads = [one.title for one in sentences(columns)]
    short = ". ".join([*heads, theory_title()])
    return Part(
        "question",
        "",
        (
            f"Do flat minima make diffusion models better? [Understanding Flatness in Generative Models]({PAPER}) "
            "(Lee, Seo, Yoo, Yoon, ICCV 2025) says so: sharpness-aware minimisation (SAM) finds flatter minima, whose "
            "models sample better, accumulate smaller errors while sampling (exposure bias) and bear rounded weights. "
            "This repository tests each of these claims: its theory as code with proofs and counterexamples, its "
            "experiments on a ladder from models with exact answers to trained networks, each with many seeds.",
            f"**In short:** {short}.",
        ),
    )


def _rungs(columns: Sequence[Column]) -> list[str]:
    return sorted({column.rung for column in columns})


def _cell(columns: Sequence[Column], rung: str, identifier: str) -> str:
    """A claim on a rung in short: "yes", "no 2, open 1"; empty where no study of the rung can say."""
    verdicts = [c.cells[identifier].verdict for c in columns if c.rung == rung and identifier in c.cells]
    if rung == "5":
        return next(iter(verdicts), "").replace(" in print", "")
    marks = [ladder_page.MARKS[v] for v in verdicts if v in ladder_page.MARKS and v != ladder_page.CANNOT_SAY]
    counts = {mark: marks.count(mark) for mark in ladder_page.MARKS.values() if mark in marks}
    return ", ".join(f"{mark} {number}" for mark, number in counts.items())


def _by_rung(columns: Sequence[Column]) -> Part:
    if not columns:
        return Part("by-rung", "Claims by rung", ("The ladder has not been measured: `python -m toy regimes`.",))
    rungs = _rungs(columns)
    claims = {claim.identifier: claim for claim in ladder_page.all_claims()}
    rows = []
    for key in KEY_CLAIMS:
        cells = [_cell(columns, rung, key.identifier) for rung in rungs]
        rows.append((key.words, ladder_page.OWNERS[claims[key.identifier].owner], *cells))
    studies = sum(column.rung != "5" for column in columns)
    legend = (
        f"In {studies} studies, each with settings of its own: in how many the interval over seeds lies in the claimed "
        "region (yes), outside of it (no), or across its edge (open). SAM's radius is chosen by its samples, as in the "
        "paper. A claim about a regime (large step noise, a memorised training set) is judged where a study is in it; "
        "of the paper's tables, which have no errors, it says in how many comparisons the claim holds. "
        "[All claims with their numbers](results/ladder/claims.md)."
    )
    unfinished = ladder_page.unfinished(columns)
    return Part(
        "by-rung",
        "Claims by rung",
        (
            Picture(
                "ladder",
                "The ladder: samples against flatness, both as ratios to plain training with the same weights. Below 1 "
                "is better. Filled: raw weights; open: EMA.",
                "Distance of samples against the fall of the loss's rise under weight noise, a panel a study",
                880,
            ),
            Table(("claim", "whose", *(RUNGS[rung] for rung in rungs)), tuple(rows)),
            legend + (f" {unfinished}" if unfinished else ""),
        ),
        LADDER_SOURCE,
    )


CENTRAL = {
    "definition-3.1": "Definition 3.1 (which minima are flat)",
    "definition-3.2": "Definition 3.2 (which models are robust)",
    "theorem-3.8": "Theorem 3.8 (flat means robust)",
    "corollary-3.9": "Corollary 3.9 (the bound for Gaussians, which lies below what it bounds)",
    "remark-3.10": "Remark 3.10 (flatter is more robust)",
    "algorithm-1": "Algorithm 1 (SWA as printed averages mostly untrained weights)",
}
"""The line of the paper's argument, in words."""


def theory_title() -> str:
    """Whether the theorem that joins flatness to robustness, and its moral, hold."""
    verdicts = {ledger.statements()[label][1].verdict for label in ("theorem-3.8", "remark-3.10")}
    if Verdict.HOLDS in verdicts:
        return "The paper's theory carries its claim"
    return "The paper's theory does not carry its claim"


def theory_sentence() -> str:
    """The finding on the theory; verdicts and counts are the ledger's."""
    statements = {label: statement for label, (_, statement) in ledger.statements().items()}
    by_verdict: dict[Verdict, list[str]] = {}
    for label, words in CENTRAL.items():
        by_verdict.setdefault(statements[label].verdict, []).append(words)
    said = "; ".join(f"{verdict.value}: {', '.join(words)}" for verdict, words in by_verdict.items())
    of_paper = list(ledger.of_paper())
    holding = sum(one.verdict is Verdict.HOLDS for one in of_paper)
    flaws = sum(one.fault is Fault.FLAW for one in of_paper)
    slips = sum(one.fault is Fault.SLIP for one in of_paper)
    return (
        f"**{theory_title()}.** Of {len(of_paper)} statements {holding} hold as printed; "
        f"{slips} have slips that a reader repairs, {flaws} have flaws. Of the argument's main line, {said}. What "
        "holds instead: with frozen features every minimum of the paper's model is equally flat "
        f"([T3](theory/README.md), {statements['theorem-t3'].verdict.value}), and how far the data may shift does not "
        f"depend on flatness ([T4](theory/README.md), {statements['theorem-t4'].verdict.value})."
    )


def _found(columns: Sequence[Column]) -> Part:
    texts = [f"**{one.title}.** {one.text}" for one in sentences(columns)]
    picture = Picture(
        "nine_methods",
        "The nine methods of the paper's Table 2, study by study: distance of samples, as a ratio to plain training's "
        "raw weights, SAM's at the radius that its raw samples choose. Below 1 is better.",
        "Distance of samples of plain training, input perturbation and SAM, each raw, with EMA and with SWA, by study",
        880,
    )
    items = Items((*texts, theory_sentence()), ordered=True)
    return Part("findings", "What came out", (items, *([picture] if columns else [])), LADDER_SOURCE)


def _studies(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.rung != "5"]


def _in(columns: Sequence[Column], regime: str, without: str = "") -> list[Column]:
    return [
        column
        for column in _studies(columns)
        if regime in column.about["regimes"] and not (without and without in column.about["regimes"])
    ]


def _doses(columns: Sequence[Column]) -> str:
    """Between which of SAM's radii the best one lay."""
    chosen = [column.about.get("doses", {}).get("sam", {}) for column in _studies(columns)]
    radii = [one["chosen"] for one in chosen if isinstance(one, Mapping) and one.get("chosen")]
    return f" Here the best radius for raw weights lay between {min(radii):g} and {max(radii):g}." if radii else ""


def _advice(columns: Sequence[Column]) -> Part:
    studies = _studies(columns)
    if not studies:
        return Part("advice", "What to do with your model", ("Nothing is measured yet that advice could rest on.",))
    of = {
        name: tally(studies, name) for name in ("L1a", "L1b", "L2d", "L2e", "L3b", "L5a", "L5b", "L8a", "L8c", "L12a")
    }
    fresh = tally(_in(columns, "step noise", "memorised"), "L2b")
    worse_at_8 = tally(studies, "L8b")
    average = of["L2d"].chosen("Average anyway.", "Compare with and without averaging.", "Average anyway.")
    noise = of["L5a"].chosen(
        "Use random weight noise instead.", "Random weight noise is no substitute.", "Try random weight noise first."
    )
    texts = (
        f"**{average}** An EMA costs no pass. It improves samples {of['L2d'].words()} with large step noise, and alone "
        f"beats SAM's raw weights at their best {of['L2e'].words()}.",
        "**Add SAM where you sample from raw weights, or where the training set is memorised.** It improves raw "
        f"samples {of['L1a'].words()} with large step noise, and averaged ones of a memorised set {of['L3b'].words()}. "
        f"With fresh data and EMA no radius helps {fresh.words()}.",
        "**Choose its radius by dose, from results.** The same radius is another dose at another batch or width: "
        "report `theory.sam_dose`, rho times the batch gradient's norm over the loss, and try radii a factor of three "
        f"apart. The largest radius samples worse than the best {of['L1b'].words()}, and costs held-out loss "
        f"{of['L12a'].words()}.{_doses(columns)}",
        f"**{noise}** It costs one pass a step instead of two (`flatness.RandomWeightPerturbation`). It improves raw "
        f"samples {of['L5b'].words()}, and matches SAM's, at an equal fall of the rise, {of['L5a'].words()}.",
        "**Read flatness as a rise, in bits.** The low-pass filter's value holds the loss itself; its rise over the "
        "loss, in bits per dimension, is what weight noise or rounding costs in likelihood, exactly "
        "([how to read it](docs/how_to/read_an_lpf_number.md)). `flatness measure` prints it for your model.",
        "**Rounding: measure before you train for it.** At 8 bits plain training's weights sample visibly worse "
        f"{worse_at_8.words()}, and SAM's as before {of['L8a'].words()}; at 4 bits SAM's loss rises less "
        f"{of['L8c'].words()} ([from dose to deployment](docs/what_to_do.md)).",
    )
    return Part("advice", "What to do with your model", (Items(texts),), LADDER_SOURCE)


def undecided_everywhere(columns: Sequence[Column]) -> list[str]:
    """The statements of the paper's claims and the open questions that studies judge and none decides."""
    found = []
    for claim in ladder_page.all_claims():
        verdicts = {c.cells[claim.identifier].verdict for c in _studies(columns) if claim.identifier in c.cells}
        if verdicts & {"undecided", "disputed"} and not verdicts & {"confirmed", "refuted"}:
            found.append(claim.statement)
    return found


def _unknown(columns: Sequence[Column]) -> Part:
    missing = [f"{RUNGS[rung]} (`{made}`)" for rung, made in COMMANDS.items() if rung not in _rungs(columns)]
    texts = [
        "**What happens at full size.** The paper trains for 200,000 steps at 32 × 32 and more; nothing here is as "
        "long. Its numbers are one run a row, without seeds, at a radius that was chosen by result.",
    ]
    if missing:
        texts.append(f"**What the rungs without results will say:** {'; '.join(missing)}.")
    if _studies(columns):
        texts.append(f"**How much is open.** {ladder_page.undecided(columns)}")
    open_ = undecided_everywhere(columns)
    if open_:
        texts.append(f"**What no study decides**, though some judge it: {'; '.join(open_)}.")
    return Part("unknown", "What nobody knows yet", (Items(tuple(texts)),), LADDER_SOURCE)


# As Markdown, for README.md and the site


def markdown(part: Part, heading: str = "##", pictures: str = "docs/images") -> str:
    """A part in Markdown.

    Args:
        part: one of `parts`.
        heading: what its title begins with.
        pictures: the folder of pictures, as the page that holds the text names it.
    """
    blocks = [f"{heading} {part.title}"] if part.title else []
    blocks += [_block(block, pictures) for block in part.blocks]
    return "\n\n".join(blocks)


def _block(block: Block, pictures: str) -> str:
    if isinstance(block, Items):
        marks = [f"{place}." if block.ordered else "-" for place in range(1, len(block.texts) + 1)]
        return "\n".join(f"{mark} {_plain(text)}" for mark, text in zip(marks, block.texts, strict=True))
    if isinstance(block, Table):
        lines = ["| " + " | ".join(map(_plain, block.heads)) + " |", "|---" * len(block.heads) + "|"]
        lines += ["| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in block.rows]
        return "\n".join(lines)
    if isinstance(block, Picture):
        image = f'<img src="{pictures}/{block.name}.png" width="{block.width}" alt="{block.alt}">'
        return f"{image}\n\n{_plain(block.words)}"
    return _plain(block)


def _plain(text: str) -> str:
    """A text in one line; HTML, pictures and escapes stand for themselves, since names in it come from result files."""
    return re.sub(r"\\|<|!(?=\[)", r"\\\g<0>", " ".join(text.split()))
