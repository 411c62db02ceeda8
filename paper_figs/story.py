"""The project's one page, written once: README.md, the report and the site's first page are made of these parts.

What was asked, what came out at which rung of the ladder, what to do with a model of one's own, and what nobody knows
yet. Whatever depends on results is counted from them when the parts are made: verdicts, numbers, and the titles that
follow from them; a rung without results has no column, and is named under what is not known.

Texts hold `code`, **bold** and [links](path/from/the/root) alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from findings import ladder_page
from findings.ladder_claims import LadderClaim
from findings.ladder_page import Column
from findings.sentences import RUNGS, Tally, regimes, sentences, tally
from theory import ledger
from theory.proof.statement import Fault, Verdict

PAPER = "https://arxiv.org/abs/2503.11078"
COMMANDS = {
    "0": "python -m toy regimes",
    "1": "python -m toy images",
    "2": "python -m experiments reproduce --config fashion-mnist-mini --at",
    "3": "python -m experiments reproduce --config fashion-mnist-tiny --at",
    "4": "python -m experiments gpu --sections rung4",
}
"""What makes a rung."""


class KeyClaim(NamedTuple):
    """A claim of the ladder in as few words as a table on a first page has room for."""

    identifier: str
    words: str


KEY_CLAIMS = (
    KeyClaim("L7a", "SAM finds flatter minima: noise on the weights raises the loss less"),
    KeyClaim("L1a", "without averaging, SAM's samples are better than plain training's"),
    KeyClaim("L2a", "with averaging (EMA) too, SAM's samples are better than plain training's"),
    KeyClaim("L2d", "EMA alone improves samples"),
    KeyClaim("L6a", "without averaging, SAM has less exposure bias"),
    KeyClaim("L8a", "rounded to 8 bits, SAM's weights sample as before"),
    KeyClaim("L8b", "rounded to 8 bits, plain training's weights sample visibly worse"),
    KeyClaim("L2b", "EMA takes SAM's whole gain: with it even SAM's best radius is level or worse"),
    KeyClaim("L3b", "where the training set is memorised, SAM improves EMA's samples"),
    KeyClaim("L12a", "too large a radius costs held-out loss"),
    KeyClaim("L8c", "rounded to 4 bits, SAM's loss rises less"),
    KeyClaim("L2e", "EMA alone beats SAM's raw weights at their best"),
    KeyClaim("L5a", "one pass with random weight noise samples as well as SAM's two"),
)
"""Of the first page; all of them stand in results/ladder/claims.md."""
HEADS = {
    "paper": ("The paper claims", "all {} claims of the paper"),
    "theory": ("Our theory predicts", "all {} predictions of our theory"),
    "question": ("Open questions", "all {} open questions"),
}
"""How the table of an owner's claims begins and ends."""


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


class Fold(NamedTuple):
    """What opens when it is pressed."""

    summary: str
    blocks: tuple[str | Items, ...]


Block = str | Items | Table | Picture | Fold


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
    asked = (
        f"Do flat minima make diffusion models better? [Understanding Flatness in Generative Models]({PAPER}) "
        "(Lee, Seo, Yoo, Yoon, ICCV 2025) says so: sharpness-aware minimisation (SAM) finds flatter minima, whose "
        "models sample better, accumulate smaller errors while sampling (exposure bias) and bear rounded weights. Here "
        "each of these claims is tested: the theory as code with proofs and counterexamples, the experiments on a "
        "ladder from models with exact answers to trained networks, with many seeds and at many radii."
    )
    return Part("question", "", (asked, Items(tuple(short_answers(columns)))))


def short_answers(columns: Sequence[Column]) -> list[str]:
    """What SAM buys, when it does not, what is false in the paper, and how far that reaches."""
    studies = _studies(columns)
    if not studies:
        return [f"**What is false in the paper.** {theory_title()}. {theory_verdicts()}. Nothing is measured yet."]
    of = {name: tally(studies, name) for name in ("L1a", "L2a", "L2d", "L7a", "L8b", "L8c")}
    clearest = f" Clearest: {of['L1a'].example}." if of["L1a"].confirmed else ""
    return [
        f"**What SAM buys.** Flatter weights {of['L7a'].words()}. Used as they come out of training, its weights' "
        f"samples are {of['L1a'].either_way('better', 'worse')}.{clearest} Rounded to 4 bits, its loss rises less "
        f"{of['L8c'].words()}.",
        "**When it does not.** With an average of the weights (EMA), as diffusion models are used, SAM's samples are "
        f"{of['L2a'].either_way('better', 'worse')}. EMA alone, which costs no pass, improves samples "
        f"{of['L2d'].words()}. Rounded to 8 bits, weights without SAM sample visibly worse {of['L8b'].words()}.",
        f"**What these studies contradict in the paper.** {against(studies)}",
        f"**What is false in its theory.** {theory_title()}. {theory_verdicts()}.",
        f"**How far this reaches.** {_reach(columns)}",
    ]


def _key(owner: str) -> list[tuple[KeyClaim, LadderClaim]]:
    claims = {claim.identifier: claim for claim in ladder_page.all_claims()}
    of = [(key, claims[key.identifier]) for key in KEY_CLAIMS]
    return [(key, claim) for key, claim in of if claim.owner == owner]


def against(studies: Sequence[Column]) -> str:
    """Of the paper's claims in the table: which most studies contradict, bear out, differ on, or leave open."""
    claims: dict[str, list[str]] = {"hold": [], "fall": [], "differ": [], "open": []}
    for key, claim in _key("paper"):
        of = tally(studies, claim.identifier)
        if of.studies:
            kind = of.chosen("hold", "fall", "differ" if of.confirmed and of.refuted else "open")
            most = f" ({max(of.confirmed, of.refuted)} of {of.studies})"
            each = f" (holds in {of.confirmed} of {of.studies}, contradicted in {of.refuted})"
            counts = {"hold": most, "fall": most, "differ": each, "open": ""}[kind]
            claims[kind].append(f"“{key.words.partition(':')[0]}”{counts}")
    total = sum(map(len, claims.values()))
    heads = {
        "fall": f"Of its {total} claims in the table, most studies contradict",
        "hold": "They bear out",
        "differ": "They differ among themselves on",
        "open": "They leave open",
    }
    return " ".join(
        f"{head} {len(claims[kind]) or 'none'}{': ' if claims[kind] else ''}{', '.join(claims[kind])}."
        for kind, head in heads.items()
        if claims[kind] or kind == "fall"
    )


def _reach(columns: Sequence[Column]) -> str:
    studies = _studies(columns)
    printed = [claim.identifier for _, claim in _key("paper")]
    cells = [c.cells[name] for c in columns if c.rung == "5" for name in printed if name in c.cells]
    holding = sum(one["holds"] for cell in cells for one in cell.comparisons)
    of = sum(len(cell.comparisons) for cell in cells)
    rungs = " and ".join(RUNGS[rung] for rung in _rungs(studies))
    theirs = (
        f" The paper's own numbers, one run a row and without error bars, fit its claims in {holding} of {of} "
        "comparisons."
        if cells
        else ""
    )
    return f"{len(studies)} studies so far, of {rungs}; all are far smaller than the paper's networks.{theirs}"


def _rungs(columns: Sequence[Column]) -> list[str]:
    return sorted({column.rung for column in columns})


def _stand(confirmed: int, refuted: int, other: int) -> str:
    """How a claim stands in some studies: "✓ 3 of 5, rest open", "✗ contradicted in 5 of 5"; empty where none says."""
    studies = confirmed + refuted + other
    if not studies:
        return ""
    rest = ", rest open" if other else ""
    if not confirmed and not refuted:
        return f"open in {studies} of {studies}"
    if not confirmed:
        mark = "✗ " if 2 * refuted > studies else ""
        return f"{mark}contradicted in {refuted} of {studies}{rest}"
    mark = "✓ " if 2 * confirmed > studies else "✗ " if 2 * refuted > studies else ""
    against = f", contradicted in {refuted}" if refuted else ""
    return f"{mark}{confirmed} of {studies}{against}{rest}"


def _cell(columns: Sequence[Column], rung: str, identifiers: Sequence[str]) -> str:
    """How claims stand on a rung; of the paper's tables in how many comparisons they hold."""
    cells = [(c, c.cells[name]) for c in columns if c.rung == rung for name in identifiers if name in c.cells]
    if rung == "5":
        holding = [one["holds"] for _, cell in cells for one in cell.comparisons]
        return f"{sum(holding)} of {len(holding)}" if holding else ""
    verdicts = [cell.verdict for _, cell in cells if cell.verdict in ladder_page.DECIDABLE]
    confirmed, refuted = verdicts.count("confirmed"), verdicts.count("refuted")
    return _stand(confirmed, refuted, len(verdicts) - confirmed - refuted)


def _head(columns: Sequence[Column], rung: str) -> str:
    """A rung's name, with how many studies and seeds it has."""
    if rung == "5":
        return f"{RUNGS[rung]} (no error bars)"
    of = [column for column in columns if column.rung == rung]
    seeds = sorted({_seeds(column) for column in of} - {0})
    studies = f"{len(of)} {'study' if len(of) == 1 else 'studies'}"
    if not seeds:
        return f"{RUNGS[rung]}: {studies}"
    span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{RUNGS[rung]}: {studies}, {span} seeds"


def _seeds(column: Column) -> int:
    return int(column.about.get("seeds", 0)) or (len(column.source.seeds) if column.source else 0)


def _tables(columns: Sequence[Column]) -> list[Table]:
    """A table of each owner's claims; its last row has all of them, those that are not on the page too."""
    rungs = _rungs(columns)
    tables = []
    for owner, (head, every_one) in HEADS.items():
        rows = [
            (key.words, *(_cell(columns, rung, (key.identifier,)) or "not tested" for rung in rungs))
            for key, _ in _key(owner)
        ]
        every = [claim.identifier for claim in ladder_page.all_claims() if claim.owner == owner]
        total = tuple(_cell(columns, rung, every) or "not tested" for rung in rungs)
        rows.append((f"{every_one.format(len(every))}, over all studies", *total))
        tables.append(Table((head, *(_head(columns, rung) for rung in rungs)), tuple(rows)))
    return tables


def _by_rung(columns: Sequence[Column]) -> Part:
    if not columns:
        return Part("by-rung", "Claims by rung", ("The ladder has not been measured: `python -m toy regimes`.",))
    legend = (
        "A cell says in how many studies, each with settings of its own, the claim holds: the 95% interval over seeds "
        "lies where the claim says. Contradicted: it lies outside. Open: it reaches across. Claims about large step "
        "noise or a memorised training set are judged in the studies that have it. SAM's radius is chosen by its "
        "samples, as in the paper. [All claims with their numbers](results/ladder/claims.md)."
    )
    unfinished = ladder_page.unfinished(columns)
    reasons = [ladder_page.undecided(columns)]
    if open_ := undecided_everywhere(columns):
        reasons.append(f"Claims that some studies judge and none decides: {'; '.join(open_)}.")
    return Part(
        "by-rung",
        "Claims by rung",
        (
            Picture(
                "ladder",
                "The ladder, a selection of its studies: samples against flatness, as ratios to plain training with "
                "the same averaging. Lower is better, to the right is flatter. Filled: raw weights; open: EMA. A point "
                "is a radius of SAM or a size of weight noise; bars are 95% intervals over seeds, paired by seed. The "
                "title counts studies with large step noise; of averaged weights, those in which nothing is memorised.",
                "Distance of samples against the fall of the loss's rise under weight noise, a panel a study",
                880,
            ),
            *_tables(columns),
            legend + (f" {unfinished}" if unfinished else ""),
            Fold("What is open, and why", (Items(tuple(reasons)),)),
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


def theory_verdicts() -> str:
    """The verdicts on the line of the paper's argument: "False as printed: Corollary 3.9 (...). Vacuous: ..."."""
    by_verdict: dict[Verdict, list[str]] = {}
    for label, words in CENTRAL.items():
        by_verdict.setdefault(ledger.statements()[label][1].verdict, []).append(words)
    order = (Verdict.FALSE, Verdict.VACUOUS, Verdict.CONDITIONAL, Verdict.HOLDS)
    return ". ".join(f"{one.value.capitalize()}: {', '.join(by_verdict[one])}" for one in order if one in by_verdict)


def theory_sentence() -> str:
    """The finding on the theory; verdicts and counts are the ledger's."""
    statements = {label: statement for label, (_, statement) in ledger.statements().items()}
    of_paper = list(ledger.of_paper())
    holding = sum(one.verdict is Verdict.HOLDS for one in of_paper)
    flaws = sum(one.fault is Fault.FLAW for one in of_paper)
    slips = sum(one.fault is Fault.SLIP for one in of_paper)
    return (
        f"**{theory_title()}.** Of {len(of_paper)} statements {holding} hold as printed; "
        f"{slips} have slips that a reader repairs, {flaws} have flaws. What holds instead: with frozen features every "
        f"minimum of the paper's model is equally flat ([T3](theory/README.md), "
        f"{statements['theorem-t3'].verdict.value}), and how far the data may shift does not depend on flatness "
        f"([T4](theory/README.md), {statements['theorem-t4'].verdict.value})."
    )


def _found(columns: Sequence[Column]) -> Part:
    texts = [f"**{one.title}.** {one.text}" for one in sentences(columns)]
    picture = Picture(
        "nine_methods",
        "The nine methods of the paper's Table 2, study by study: distance of samples, as a ratio to plain training's "
        "raw weights, SAM's at the radius that its raw samples choose. Below 1 is better. Bars are 95% intervals of "
        "these ratios; rows share seeds, so whether two rows differ is not read from their bars but in the table.",
        "Distance of samples of plain training, input perturbation and SAM, each raw, with EMA and with SWA, by study",
        880,
    )
    items = Items((*texts, theory_sentence()), ordered=True)
    return Part("findings", "What came out", (items, *([picture] if columns else [])), LADDER_SOURCE)


def _studies(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.rung != "5"]


def _doses(columns: Sequence[Column]) -> str:
    """Between which of SAM's radii the best one lay."""
    chosen = [column.about.get("doses", {}).get("sam", {}) for column in _studies(columns)]
    radii = [one["chosen"] for one in chosen if isinstance(one, Mapping) and one.get("chosen")]
    return f" Here the best radius for raw weights lay between {min(radii):g} and {max(radii):g}." if radii else ""


def _advice(columns: Sequence[Column]) -> Part:
    studies = _studies(columns)
    if not studies:
        return Part("advice", "What to do with your model", ("Nothing is measured yet that advice could rest on.",))
    names = ("L1a", "L1b", "L2d", "L2e", "L3b", "L5a", "L5b", "L8a", "L8b", "L8c", "L12a")
    of = {name: tally(studies, name) for name in names}
    best = tally(regimes(studies)[1], "L2b")
    average = of["L2d"].chosen("Average anyway.", "Compare with and without averaging.", "Average anyway.")
    noise = of["L5a"].chosen(
        "Use random weight noise instead.", "Random weight noise is no substitute.", "Try random weight noise first."
    )
    texts = (
        f"**{average}** An EMA costs no pass. Where step noise is large it improves samples {of['L2d'].words()}, and "
        f"alone beats SAM's raw weights at their best {of['L2e'].words()}.",
        f"**{_when_sam(of['L1a'], of['L3b'])}** Where step noise is large its raw samples are "
        f"{of['L1a'].either_way('better', 'worse')}; of a memorised training set its averaged ones are "
        f"{of['L3b'].either_way('better', 'worse')}. With EMA and nothing memorised, even its best radius is level or "
        f"worse {best.words()}.",
        "**Choose its radius by dose, from results.** The same radius is another dose at another batch or width: "
        "report `theory.sam_dose`, rho times the batch gradient's norm over the loss, and try radii a factor of three "
        f"apart. The largest radius samples worse than the best {of['L1b'].words()}, and costs held-out loss "
        f"{of['L12a'].words()}.{_doses(columns)}",
        f"**{noise}** It costs one pass a step instead of two (`flatness.RandomWeightPerturbation`). Its raw samples "
        f"are better than plain training's {of['L5b'].words()}, and within a tenth of SAM's, where both have flattened "
        f"as much, {of['L5a'].words()}.",
        "**Read flatness as a rise, in bits.** The low-pass filter's value holds the loss itself; its rise over the "
        "loss, in bits per dimension, is what weight noise or rounding costs in likelihood, exactly "
        "([how to read it](docs/how_to/read_an_lpf_number.md)). `flatness measure` prints it for your model.",
        "**Rounding: measure before you train for it.** At 8 bits plain training's weights sample visibly worse "
        f"{of['L8b'].words()}, and SAM's as before {of['L8a'].words()}; at 4 bits SAM's loss rises less "
        f"{of['L8c'].words()} ([from dose to deployment](docs/what_to_do.md)).",
    )
    return Part("advice", "What to do with your model", (Items(texts),), LADDER_SOURCE)


def _when_sam(raw: Tally, memorised: Tally) -> str:
    """Where more studies speak for SAM than against it."""
    where = ["where you sample from raw weights"] if raw.confirmed > raw.refuted else []
    where += ["where the training set is memorised"] if memorised.confirmed > memorised.refuted else []
    return f"Try SAM {', or '.join(where)}." if where else "Do not count on SAM for better samples."


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
        texts.append(f"**What the rungs without results will say**, and what makes them: {'; '.join(missing)}.")
    if _studies(columns):
        cells = ladder_page.decidable(columns)
        left = sum(cell.verdict == "undecided" for cell in cells)
        texts.append(f"**What is open here:** {left} of {len(cells)} verdicts; the reasons stand under the table.")
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
    if isinstance(block, Fold):
        inside = "\n\n".join(_block(one, pictures) for one in block.blocks)
        return f"<details>\n<summary>{html.escape(block.summary, quote=False)}</summary>\n\n{inside}\n\n</details>"
    if isinstance(block, Picture):
        image = f'<img src="{pictures}/{block.name}.png" width="{block.width}" alt="{block.alt}">'
        return f"{image}<br>{_plain(block.words)}"
    return _plain(block)


def _plain(text: str) -> str:
    """A text in one line; HTML, pictures and escapes stand for themselves, since names in it come from result files."""
    return re.sub(r"\\|<|!(?=\[)", r"\\\g<0>", " ".join(text.split()))
