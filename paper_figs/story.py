"""The project's one page, written once: README.md, the report and the site's first page are made of these parts.

What was asked, what came out at which rung of the ladder, what to do with a model of one's own, and what nobody knows
yet. Whatever depends on results is counted from them when the parts are made: verdicts, numbers, and the titles that
follow from them; a rung without results has no column, and is named under what is not known.

Texts hold `code`, **bold** and [links](path/from/the/root) alone.
"""

from __future__ import annotations

import html
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from findings import ladder_page
from findings.ladder import PAPERS_FALL
from findings.ladder_claims import AS_WELL, MEMORISED, SAME, STEP_NOISE
from findings.ladder_doses import relative_dose
from findings.ladder_page import Cell, Column
from findings.sentences import RUNGS, Tally, percent, rounding, sentences, tally
from theory import ledger
from theory.proof.statement import Fault, Verdict

PAPER = "https://arxiv.org/abs/2503.11078"
COMMANDS = {
    "0": "python -m toy regimes",
    "1": "python -m toy images",
    "2": "python -m experiments reproduce --config fashion-mnist-mini --seeds 0 1 2 --methods adm sam --rho 0.01 0.03 "
    "--at 4000 8000 12000 16000 17000 18000 19000 --no-rows --out runs/mini",
    "3": "python -m experiments reproduce --config fashion-mnist-tiny --global-batch 16 --seeds 0 1 2 --methods adm "
    "sam --rho 0.003 0.01 0.03 --at 2000 3200 3600 --no-rows --out runs/tiny",
    "4": "python -m experiments gpu --sections rung4",
}
"""What makes a rung."""


class KeyClaim(NamedTuple):
    """A claim of the ladder in as few words as a table on a first page has room for.

    Attributes:
        identifier: the claim's.
        words: what it says.
        unless: what is so in a study of its regime in which it cannot be judged.
    """

    identifier: str
    words: str
    unless: str = "it was not measured"


KEY_CLAIMS = (
    KeyClaim("L7a", "SAM finds flatter minima: noise on the weights raises the loss less"),
    KeyClaim("L1a", "without averaging, SAM's samples are better than plain training's"),
    KeyClaim("L2a", "with averaging (EMA) too, SAM's samples are better than plain training's"),
    KeyClaim("L2d", "EMA alone improves samples"),
    KeyClaim("L6a", "without averaging, SAM has less exposure bias"),
    KeyClaim("L8a", "rounded to 8 bits, SAM's weights sample as before"),
    KeyClaim("L8b", "rounded to 8 bits, plain training's weights sample visibly worse"),
    KeyClaim(
        "L8c",
        "rounded to 4 bits, SAM's loss rises less",
        "rounding does not raise SAM's loss in every seed, so that there is no ratio",
    ),
    KeyClaim("L2b", "with EMA, even at its best radius, SAM's samples are level or worse"),
    KeyClaim("L3b", "with EMA, where the training set is memorised, SAM's best radius improves samples"),
    KeyClaim("L12a", "the largest radius that was tried costs held-out loss"),
    KeyClaim("L2e", "EMA alone samples better than SAM without averaging"),
    KeyClaim(
        "L5a",
        "one pass with random weight noise samples as well as SAM's two, both equally flat",
        "no noise that was tried with every seed is as flat as SAM",
    ),
)
"""Of the first page; all of them stand in results/ladder/claims.md."""
OWNERS = {"paper": "paper", "theory": "our theory", "question": "open question"}
"""Whose a claim of the table is."""
ELSEWHERE = {"step noise": "step noise is small", "memorised": "nothing is memorised"}
"""What is so in a study of another regime than a claim's."""
TOTALS = {
    "paper": "{} claims of the paper, those of the table among them",
    "theory": "{} predictions of our theory",
    "question": "{} open questions",
}
"""All claims of an owner."""


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
        first: whether it stands on a first page, which is read in two minutes; the others are for who reads on.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    source: tuple[str, str] = ("", "")
    first: bool = True


LADDER_SOURCE = (f"results/ladder/{ladder_page.DOCUMENT}", "python -m findings")


def parts(columns: Sequence[Column]) -> list[Part]:
    """The page.

    Args:
        columns: of the ladder; none where nothing was measured.
    """
    return [_question(columns), _by_rung(columns), _unknown(columns), _findings(columns), _advice(columns)]


def _question(columns: Sequence[Column]) -> Part:
    question = (
        f"Do flat minima make diffusion models better? [Understanding Flatness in Generative Models]({PAPER}) "
        "(Lee, Seo, Yoo, Yoon, ICCV 2025) says so: sharpness-aware minimisation (SAM) finds flatter minima, whose "
        "models sample better, accumulate smaller errors while sampling (exposure bias) and lose less when weights are "
        "rounded. Here its theory is tested by proofs and counterexamples that run, and its claims on trained models "
        "by a ladder of models, from points in the plane upwards, with several seeds and, where there was time, "
        "several radii."
    )
    counts = (
        f"A study is a model, a training set and a batch size, with {ladder_page.FEWEST_SEEDS} seeds or more. A claim "
        "holds in it where the 95% interval over seeds lies where the claim says, is contradicted where it lies "
        "outside, and is open where it reaches across; open, within "
        f"{SAME:.0%}: the whole interval is that near to no change. A claim on samples holds if it does at 20 and at "
        "100 sampling steps, and is contradicted if it is at one of them. Most studies are over half of those counted. "
        "Percentages are medians over all that are counted: of samples, of their distance to held-out data."
    )
    read = (counts,) if _studies(columns) else ()
    return Part("question", "", (question, *read, Items(tuple(short_answers(columns)))))


def short_answers(columns: Sequence[Column]) -> list[str]:
    """What SAM buys, when it does not, what is false in the paper, how far that reaches, and what to do."""
    studies = _studies(columns)
    if not studies:
        return [
            f"**What is false in the paper's theory.** {theory_title()}: {theory_verdicts()}. Nothing is measured yet."
        ]
    of = {name: tally(studies, name).words(size=True) for name in ("L2a", "L2d", "L7a", "L8c")}
    best = tally(studies, "L2b")
    level = _shares(best.studies, ("level with plain training's or worse", best.confirmed), ("better", best.refuted))
    bias, worse = tally(studies, "L6a"), tally(studies, "L8b")
    exposure = f" Without averaging, SAM's exposure bias is lower {bias.words(size=True)}."
    title = rounding(worse)
    return [
        f"**What SAM buys.** Flatter weights: the loss rises less under noise on them {of['L7a']}, and under rounding "
        f"to 4 bits {of['L8c']}. Used as training leaves them (raw), they sample better than plain training's: "
        f"{_by_rungs(studies, 'L1a')}.{bias.chosen(exposure, '', '')}",
        "**When it does not.** With an exponential moving average of the weights (EMA), as diffusion models are used, "
        f"SAM's samples are better, at the radius whose raw samples are best, as the paper chose it, {of['L2a']}"
        f"{_memorising(studies, 'L2a')}. At the radius that suits EMA best they are {level}. EMA alone, which costs no "
        f"further gradient, improves samples {of['L2d']}."
        f"{bias.chosen('', exposure, exposure)} {title[0].upper()}{title[1:]}: plain training's samples are "
        f"{_shares(worse.studies, (f'at most {SAME:.0%} farther', worse.refuted), ('more', worse.confirmed))}.",
        f"**What is false in the paper's theory.** {theory_title()}: {theory_verdicts()}.",
        f"**What these studies contradict.** {against(studies)} {against(studies, 'theory')}",
        f"**How far this reaches.** {_reach(columns)}",
        f"**What to do**, as far as these studies reach. {' '.join(title for title, _ in _advised(columns))} "
        "[How, and what that rests on](docs/what_to_do.md).",
    ]


def _by_rungs(studies: Sequence[Column], identifier: str) -> str:
    """A claim's counts and sizes rung by rung: "of points in the plane (toy) in all 6 studies (...); of ..."."""
    of = {rung: tally([c for c in studies if c.rung == rung], identifier) for rung in _rungs(studies)}
    return "; ".join(f"of {RUNGS[rung]} {one.words(size=True)}" for rung, one in of.items() if one.studies) or (
        "not measured"
    )


def _shares(studies: int, *parts: tuple[str, int]) -> str:
    """What is so in how many studies: "level in 2 of 3 studies, better in none, open in 1"."""
    if not studies:
        return "not measured"
    (first, number), *others = parts
    rest = studies - sum(of for _, of in parts)
    shares = [
        f"{first} in {number or 'none'} of {studies} studies",
        *(f"{what} in {of or 'none'}" for what, of in others),
    ]
    return ", ".join([*shares, *([f"open in {rest}"] if rest else [])])


def _memorising(studies: Sequence[Column], identifier: str) -> str:
    """What is said after the number of a claim's studies where all that confirm it memorise."""
    confirming = [c for c in studies if identifier in c.cells and c.cells[identifier].verdict == "confirmed"]
    if not confirming or not all("memorised" in one.about["regimes"] for one in confirming):
        return ""
    return f"; {'that study memorises its' if len(confirming) == 1 else 'those memorise their'} training set"


def _key(owner: str) -> list[KeyClaim]:
    claims = {claim.identifier: claim for claim in ladder_page.all_claims()}
    return [key for key in KEY_CLAIMS if claims[key.identifier].owner == owner]


def against(studies: Sequence[Column], owner: str = "paper") -> str:
    """Of the paper's claims in the table, or our theory's: which most studies contradict, how many they bear out."""
    whose = {"paper": "the paper's", "theory": "our own theory's"}[owner]
    tallies = [(key.words.partition(":")[0], tally(studies, key.identifier)) for key in _key(owner)]
    kinds = [(words, of.chosen("hold", "fall", "neither")) for words, of in tallies if of.studies]
    fall = [f"“{words}”" for words, kind in kinds if kind == "fall"]
    hold, neither = (sum(kind == one for _, kind in kinds) for one in ("hold", "neither"))
    rest = [f"{hold or 'none'} hold{'s' if hold == 1 else ''} in most studies"] if kinds else []
    rest += [f"on {neither} there is no majority"] if neither else []
    return (
        f"Of {whose} {len(kinds)} claims on trained models in the table, most studies contradict "
        f"{len(fall) or 'none'}{': ' if fall else ''}{_listed(fall)}; {', '.join(rest)}."
        if kinds
        else f"Of {whose} claims none is measured yet."
    )


def _listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    *before, last = words or ("",)
    return f"{', '.join(before)} and {last}" if before else last


def _reach(columns: Sequence[Column]) -> str:
    studies = _studies(columns)
    printed = [key.identifier for key in _key("paper")]
    holding = [one["holds"] for c in columns if c.rung == "5" for name in printed if name in c.cells
               for one in c.cells[name].comparisons]  # fmt: skip
    theirs = (
        f" The paper's own numbers, one run a row and without error bars, fit its claims in {sum(holding)} of "
        f"{len(holding)} comparisons."
        if holding
        else ""
    )
    number = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'} so far"
    differ = any(tally(studies, name).refuted for name in printed)
    theirs += (
        " Why they and these studies differ is not known: size, length, the distance, or chance."
        if theirs and differ
        else ""
    )
    rungs = _listed([RUNGS[rung] for rung in _rungs(studies)])
    return f"{number}, of {rungs}: models far smaller than the paper's.{theirs}"


def _rungs(columns: Sequence[Column]) -> list[str]:
    return sorted({column.rung for column in columns})


def _stand(cells: Iterable[Cell]) -> str:
    """How claims stand in studies: "✓ 3, ✗ 1, open 1"; empty where none says."""
    verdicts = [cell.verdict for cell in cells if cell.verdict in ladder_page.DECIDABLE]
    confirmed, refuted = verdicts.count("confirmed"), verdicts.count("refuted")
    counts = (("✓", confirmed), ("✗", refuted), ("open", len(verdicts) - confirmed - refuted))
    return ", ".join(f"{mark} {number}" for mark, number in counts if number)


def _cell(columns: Sequence[Column], rung: str, identifier: str) -> str:
    """How a claim stands on a rung; of the paper's tables in how many comparisons it holds."""
    cells = [c.cells[identifier] for c in columns if c.rung == rung and identifier in c.cells]
    if rung == "5":
        holding = [one["holds"] for cell in cells for one in cell.comparisons]
        return f"{sum(holding)} of {len(holding)}" if holding else "–"
    return _stand(cells) or "–"


def _head(columns: Sequence[Column], rung: str) -> str:
    """A rung's name, with how many studies, seeds and radii of SAM it has."""
    if rung == "5":
        return f"{RUNGS[rung]}: comparisons in print"
    of = [column for column in columns if column.rung == rung]
    numbers = (
        ({len(of)}, "study", "studies"),
        ({_seeds(column) for column in of}, "seed", "seeds"),
        ({len(column.source.doses("sam")) for column in of if column.source}, "radius", "radii"),
    )
    return f"{RUNGS[rung]}: {', '.join(_span(*one) for one in numbers if one[0] - {0})}"


def _span(numbers: Iterable[int], one: str, many: str) -> str:
    """How many of a thing there are, zeros left out: "1 seed", "9 to 11 radii"."""
    low, *rest = sorted(set(numbers) - {0})
    return f"{low} to {rest[-1]} {many}" if rest else f"{low} {one if low == 1 else many}"


def _seeds(column: Column) -> int:
    return int(column.about.get("seeds", 0)) or (len(column.source.seeds) if column.source else 0)


def _table(columns: Sequence[Column]) -> Table:
    """The first page's claims by rung."""
    rungs = _rungs(columns)
    claims = {claim.identifier: claim for claim in ladder_page.all_claims()}
    rows = [
        (
            f"{key.words}\N{NO-BREAK SPACE}†" if claims[key.identifier].regime == "step noise" else key.words,
            words,
            *(_cell(columns, rung, key.identifier) for rung in rungs),
        )
        for owner, words in OWNERS.items()
        for key in _key(owner)
    ]
    return Table(("claim", "whose", *(_head(columns, rung) for rung in rungs)), tuple(rows))


def _legend(columns: Sequence[Column]) -> Items:
    """What the table's cells mean, and its words; limits are those that claims are judged by."""
    texts = [
        "✓ holds, ✗ contradicted, each in so many studies; –: not tested. †: judged where step noise is large: "
        f"where the held-out loss of weights as training leaves them (raw) is over {STEP_NOISE:.0%} above their EMA's. "
        f"Memorised: the EMA's is over {MEMORISED:.0%} above its training loss.",
        "Our theory, in predictions that are older than the runs: step noise scatters raw weights about a minimum; "
        "where that is flat, the scatter costs less, and an average takes it away without flatness. Flatness costs "
        "fit, except where the training set is memorised. "
        "[What is proved of it](docs/theory/what_flatness_buys.md).",
        f"As before, level: within {SAME:.0%}; visibly worse: by more; as well: within {AS_WELL:.0%}. Distance: sliced "
        "Wasserstein (toy); of a classifier's features and of pixels (ADM, the paper's network); its sizes are those "
        "at 20 sampling steps.",
        "SAM's radius is the one of those tried whose raw samples are best, as in the paper; its best radius with EMA, "
        "the one whose EMA's are; both are chosen on samples apart from those judged.",
    ]
    if "5" in _rungs(columns):
        texts.append(
            "Last column: in how many of the paper's own comparisons (data sets by sampling steps; FID, one run each, "
            "no error bars) the printed numbers lie where the claim says; whether its runs memorise is not printed."
        )
    return Items(tuple(texts))


def _by_rung(columns: Sequence[Column]) -> Part:
    if not columns:
        return Part("by-rung", "Claims by rung", ("The ladder has not been measured: `python -m toy regimes`.",))
    unfinished = ladder_page.unfinished(columns)
    claims = ladder_page.all_claims()
    totals = []
    for owner, words in TOTALS.items():
        of = [claim.identifier for claim in claims if claim.owner == owner]
        cells = [c.cells[name] for c in _studies(columns) for name in of if name in c.cells]
        totals.append(f"{words.format(len(of))}: {_stand(cells) or 'not tested'}")
    reasons = [f"All claims over all studies. {'; '.join(totals)}.", ladder_page.undecided(columns)]
    if few := judged_in_few(columns):
        reasons.insert(0, few)
    if decided := decided_somewhere(columns):
        reasons.append(decided)
    return Part(
        "by-rung",
        "Claims by rung",
        (
            Picture(
                "ladder",
                "Shown of the toy's studies: one with all data and a small batch, and the one with the smallest "
                "training set; the title counts all. A point is a radius of SAM, or a size of "
                "random weight noise, against plain training with the same averaging: filled raw weights, open EMA. "
                "Lower is better, to the right is flatter. Ringed: SAM's best radius for raw samples, chosen on other "
                f"samples, among those that were tried; dotted: where its rise has fallen by {PAPERS_FALL:.0%}, as the "
                "paper's value of the low-pass filter (LPF) did on CIFAR-10. Of the paper: the data sets whose LPF it "
                "prints, at 20 sampling steps. "
                "Vertical axes are logarithmic, each its own. Bars: 95% intervals over seeds.",
                "Distance of samples against the fall of the loss's rise under weight noise, a panel a study",
                880,
            ),
            _table(columns),
            _legend(columns),
            " ".join(filter(None, ["[All claims with their numbers](results/ladder/claims.md).", unfinished])),
            Fold(f"What is open{', or judged in fewer studies,' if few else ','} and why", (Items(tuple(reasons)),)),
        ),
        LADDER_SOURCE,
    )


CENTRAL = {
    "definition-3.1": "Definition 3.1 (which minima are flat)",
    "definition-3.2": "Definition 3.2 (which models are robust)",
    "theorem-3.8": "Theorem 3.8 (flat means robust)",
    "corollary-3.9": "Corollary 3.9 (the bound for Gaussians, which lies below what it bounds)",
    "remark-3.10": "Remark 3.10 (flatter is more robust)",
}
"""The line of the paper's argument, in words."""


def theory_title() -> str:
    """Whether the theorem that joins flatness to robustness, and its moral, hold."""
    verdicts = {ledger.statements()[label][1].verdict for label in ("theorem-3.8", "remark-3.10")}
    if Verdict.HOLDS in verdicts:
        return "The paper's theory carries its claim"
    return "The paper's theory does not carry its claim"


def theory_verdicts() -> str:
    """The verdicts on the line of the paper's argument: "Corollary 3.9 (...) is false as printed; ... are vacuous"."""
    by_verdict: dict[Verdict, list[str]] = {}
    for label, words in CENTRAL.items():
        by_verdict.setdefault(ledger.statements()[label][1].verdict, []).append(words)
    phrases = {
        Verdict.VACUOUS: ("is vacuous, as no model meets what it asks", "are vacuous, as no model meets what they ask"),
        Verdict.FALSE: ("is false as printed", "are false as printed"),
        Verdict.CONDITIONAL: ("holds under conditions", "hold under conditions"),
        Verdict.HOLDS: ("holds", "hold"),
    }
    of = [(by_verdict[one], forms) for one, forms in phrases.items() if one in by_verdict]
    return "; ".join(f"{_listed(words)} {forms[len(words) > 1]}" for words, forms in of)


def theory_sentence() -> str:
    """The finding on the theory; verdicts and counts are the ledger's."""
    statements = {label: statement for label, (_, statement) in ledger.statements().items()}
    of_paper = list(ledger.of_paper())
    holding = sum(one.verdict is Verdict.HOLDS for one in of_paper)
    slips, flaws, consequences = (
        sum(one.fault is fault for one in of_paper) for fault in (Fault.SLIP, Fault.FLAW, Fault.CONSEQUENCE)
    )
    return (
        f"**{theory_title()}.** Of {len(of_paper)} claims {holding} simply hold; {slips} have slips that a reader "
        f"repairs, {flaws} have flaws, and {consequences} are wrong, empty or limited only because another claim is. "
        "[What holds instead](docs/theory/what_holds_instead.md): with frozen features every minimum of the paper's "
        f"model is equally flat (T3, {statements['theorem-t3'].verdict.value}), and how far the data may shift does "
        f"not depend on flatness (T4, {statements['theorem-t4'].verdict.value})."
    )


def _findings(columns: Sequence[Column]) -> Part:
    texts = [f"**{one.title}.** {one.text}" for one in sentences(columns)]
    picture = Picture(
        "nine_methods",
        "The nine methods of the paper's Table 2, study by study: plain training, input perturbation (IP) and SAM at "
        "the radius that its raw samples choose, each without averaging, with EMA and with SWA. Distance of samples, "
        "as a ratio to plain training without averaging; below 1 is better. Bars are 95% intervals of these ratios; "
        "rows share seeds, so whether two rows differ is not read from their bars but in the table of claims.",
        "Distance of samples of plain training, input perturbation and SAM, each raw, with EMA and with SWA, by study",
        880,
    )
    items = Items((*texts, theory_sentence()), ordered=True)
    return Part("findings", "What came out", (items, *([picture] if columns else [])), LADDER_SOURCE, first=False)


def _studies(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.rung != "5"]


def _doses(studies: Sequence[Column]) -> str:
    """Between which of SAM's doses the best one lay, of the studies that measured it."""
    doses: list[float] = []
    radii: list[float] = []
    for column in studies:
        chosen = column.about.get("doses", {}).get("sam", {})
        radius = chosen.get("chosen") if isinstance(chosen, Mapping) else None
        dose = relative_dose(column.source, "sam", radius) if column.source and isinstance(radius, float) else None
        if dose is not None and radius is not None:
            doses.append(dose)
            radii.append(radius)
    if not doses:
        return ""
    return (
        f" Here the best dose for raw weights was {percent(statistics.median(doses))} of the loss in the median study, "
        f"from {percent(min(doses))} to {percent(max(doses))}; its radius, from {min(radii):g} to {max(radii):g}."
    )


def _advised(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """What to do, each with what it rests on; titles follow the counts."""
    studies = _studies(columns)
    names = ("L1a", "L1b", "L2a", "L2b", "L2d", "L2e", "L3b", "L5a", "L5b", "L5c", "L8a", "L8b", "L8c", "L12a")
    of = {name: tally(studies, name) for name in names}
    sized = {name: one.words(size=True) for name, one in of.items()}
    average, noise = "Average the weights anyway.", "Compare SAM with random weight noise, which costs half."
    return [
        (
            of["L2d"].chosen(average, "Compare with and without averaging.", average),
            f"An EMA costs no pass. Where step noise is large it improves samples {sized['L2d']}, and alone samples "
            f"better than SAM without averaging {sized['L2e']}.",
        ),
        (
            _when_sam(of["L1a"], of["L2a"], of["L3b"]),
            f"Where step noise is large its samples are better without averaging {sized['L1a']}, and with EMA "
            f"{sized['L2a']}; there even the radius that suits the average best leaves them level or worse "
            f"{of['L2b'].words()}. Where the training set is memorised that radius makes them better {sized['L3b']}.",
        ),
        (
            "Choose its radius by samples, and report it as a dose, the share of the loss by which SAM climbs.",
            "The same radius is another dose at another batch or width: `theory.sam_dose` is rho times the batch "
            "gradient's norm over the loss. Try radii a factor of three "
            f"apart.{_doses(studies)} The largest radius samples worse than the best {sized['L1b']}, and costs "
            f"held-out loss {sized['L12a']}.",
        ),
        (
            of["L5a"].chosen(noise, "Random weight noise does not replace SAM.", noise),
            "It costs one pass a step instead of two (`flatness.RandomWeightPerturbation`). Without averaging its "
            f"samples are better than plain training's {sized['L5b']}, and as good as SAM's, both equally flat, "
            f"{sized['L5a']}. With EMA it helps at no noise {of['L5c'].words()}.",
        ),
        (
            "Compare flatness by the rise of the loss under weight noise, in bits per dimension.",
            "A value of the low-pass filter (LPF) is the loss plus its rise under weight noise, so a lower value may "
            "only be a lower loss. Compare rises: in bits per dimension a rise is exactly what that noise costs in "
            "likelihood ([how to read it](docs/how_to/read_an_lpf_number.md)). `flatness measure` prints it for your "
            "model.",
        ),
        (
            of["L8b"].chosen(
                "Train flat for 8 bits.",
                "Round to 8 bits as trained; for fewer bits, measure first.",
                "Measure what rounding costs before you train for it.",
            ),
            f"At 8 bits samples get visibly worse without SAM {sized['L8b']}, and with it they are as before "
            f"{of['L8a'].words()}. Rounding to 4 bits raises its loss less {sized['L8c']}.",
        ),
    ]


def _advice(columns: Sequence[Column]) -> Part:
    if not _studies(columns):
        none = ("Nothing is measured yet that advice could rest on.",)
        return Part("advice", "What to do with your model", none, first=False)
    texts = tuple(f"**{title}** {text}" for title, text in _advised(columns))
    return Part("advice", "What to do with your model", (Items(texts),), LADDER_SOURCE, first=False)


def _when_sam(raw: Tally, averaged: Tally, memorised: Tally) -> str:
    """Where more studies speak for SAM than against it."""
    cases = (
        (raw, f"where you sample without averaging{_only(raw)}"),
        (averaged, "where you sample with an average"),
        (memorised, "where the training set is memorised"),
    )
    where = [words for of, words in cases if of.confirmed > of.refuted]
    return f"Try SAM {' or '.join(where)}." if where else "Do not count on SAM for better samples."


def _only(of: Tally) -> str:
    """Of what alone a claim holds, where it is judged of more."""
    return f" (seen of {of.only_of()} alone)" if of.only_of() else ""


def decided_somewhere(columns: Sequence[Column]) -> str:
    """How many of the claims that studies judge are decided in one at least, and which in none; "" without claims."""
    judged, by_none = 0, []
    for claim in ladder_page.all_claims():
        verdicts = {c.cells[claim.identifier].verdict for c in _studies(columns) if claim.identifier in c.cells}
        judged += bool(verdicts & set(ladder_page.DECIDABLE))
        if verdicts & {"undecided", "disputed"} and not verdicts & {"confirmed", "refuted"}:
            by_none.append(claim.statement)
    if not judged:
        return ""
    words = f"Of the {judged} claims that are judged {judged - len(by_none) or 'none'} got a yes or no in some study"
    return f"{words}; open wherever they are judged: {'; '.join(by_none)}." if by_none else f"{words}."


def judged_in_few(columns: Sequence[Column]) -> str:
    """The claims of the table that fewer studies judge than there are, each with why; "" where there is none."""
    studies = _studies(columns)
    claims = {claim.identifier: claim for claim in ladder_page.all_claims()}
    few = []
    for key in KEY_CLAIMS:
        left = [column for column in studies if not tally([column], key.identifier).studies]
        claim = claims[key.identifier]
        elsewhere = [column for column in left if not claim.is_of(column.about["regimes"])]
        reasons = [ELSEWHERE[claim.regime]] if elsewhere else []
        reasons += [key.unless] if len(elsewhere) < len(left) else []
        if 0 < len(left) < len(studies):
            few.append(f"“{key.words}” in {len(studies) - len(left)} (in the others {' or '.join(reasons)})")
    return f"Judged in fewer than all {len(studies)} studies: {'; '.join(few)}." if few else ""


def _unknown(columns: Sequence[Column]) -> Part:
    missing = [f"{RUNGS[rung]} (`{made}`)" for rung, made in COMMANDS.items() if rung not in _rungs(columns)]
    texts = [
        "**What happens at full size.** The paper trains for 200,000 steps at 32 × 32 pixels and more; nothing here is "
        "as long.",
    ]
    if missing:
        texts.append(f"**What is not measured yet**, and what measures it: {'; '.join(missing)}.")
    return Part("unknown", "What nobody knows yet", (Items(tuple(texts)),), LADDER_SOURCE)


# As Markdown, for README.md and the site


def image(picture: Picture) -> str:
    """A picture of the repository's first page, with what is under it."""
    alt = html.escape(picture.alt, quote=False).replace('"', "&quot;")
    return f'<img src="docs/images/{picture.name}.png" width="{picture.width}" alt="{alt}"><br>{picture.words}'


def markdown(part: Part, picture: Callable[[Picture], str] = image) -> str:
    """A part in Markdown.

    Args:
        part: one of `parts`.
        picture: what a picture becomes on the page that holds the text; its words are Markdown by then.
    """
    blocks = [f"## {part.title}"] if part.title else []
    return "\n\n".join([*blocks, *(_block(block, picture) for block in part.blocks)])


def _block(block: Block, picture: Callable[[Picture], str]) -> str:
    if isinstance(block, Items):
        marks = [f"{place}." if block.ordered else "-" for place in range(1, len(block.texts) + 1)]
        return "\n".join(f"{mark} {_plain(text)}" for mark, text in zip(marks, block.texts, strict=True))
    if isinstance(block, Table):
        lines = ["| " + " | ".join(map(_plain, block.heads)) + " |", "|---" * len(block.heads) + "|"]
        lines += ["| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in block.rows]
        return "\n".join(lines)
    if isinstance(block, Fold):
        inside = "\n\n".join(_block(one, picture) for one in block.blocks)
        return f"<details>\n<summary>{html.escape(block.summary, quote=False)}</summary>\n\n{inside}\n\n</details>"
    if isinstance(block, Picture):
        return picture(block._replace(words=_plain(block.words), alt=" ".join(block.alt.split())))
    return _plain(block)


def _plain(text: str) -> str:
    """A text in one line; HTML, pictures and escapes stand for themselves, since names in it come from result files."""
    return re.sub(r"\\|<|!(?=\[)", r"\\\g<0>", " ".join(text.split()))
