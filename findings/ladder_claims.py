"""The ladder's claims on trained networks, as data: written before the runs that decide them.

A claim compares one quantity of two selections of rows and says where the mean over seeds must lie. What is compared is
named by fields, so that no label has to be read: a flattener, at which of its doses, and which weights.

Doses. SAM and random weight perturbation are trained at several radii or noises; a selection takes

    chosen    the dose whose raw samples at T' = 20 are best, as the paper chose its radius by result: by the mean over
              seeds of the distance to one half of the reference images with one set of sampling noise, and reported
              with the other half and other noise
    chosen for the average    the same by the samples of the selection's own average: the case most in its favour
    matched   the dose at which the value of the low-pass filter has fallen against plain training by the share that the
              paper prints, interpolated in log dose between the two doses around it
    matched rise  the same by the rise alone, which the paper does not print: where the rise is a small part of the
              value, the value cannot fall by a third, and this dose is the nearest to what the paper's can have been.
              Added when the first run at 8 x 8 had a rise of three hundredths of its value, before it was compared
    largest   the largest dose that was trained
    each      every dose apart
    equal fall    of random weight perturbation, the noise at which the rise of the low-pass filter has fallen as far as
              by SAM at its chosen dose, interpolated in log noise

Regimes are measured and not named by who runs a study, by these limits:

    step noise    plain training's raw weights have a held-out loss more than STEP_NOISE above that of its EMA
    memorised     its EMA has a held-out loss more than MEMORISED above that on the images it was trained on
    neither       else

A claim of a regime is judged where the study is in it. Intervals are Student's over seeds, paired by seed, at LEVEL for
all comparisons of a group together (Bonferroni): with five seeds a stricter level would leave little decided, and in
one group of twenty a claim may be decided by chance. Regions of "log ratio" are of log(a / b): 0 is no change, and an
interval cannot pass a ratio of zero.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

STEP_NOISE = 0.02
"""Relative excess of the raw weights' held-out loss over the EMA's."""
MEMORISED = 0.05
"""Relative excess of the EMA's held-out loss over its loss on the training images."""
LEVEL = 0.95
"""Of all intervals of a group together."""
SAME = 0.05
"""A change of less than this in the logarithm is none that matters."""
AS_WELL = 0.1
"""A change of less than this in the logarithm of a distance: samples are as good as another method's."""
INFINITE = float("inf")

Flattener = Literal[
    "adm", "ip", "sam", "rwp", "asam", "random sam", "friendly sam", "late sam", "sam every 5", "sam of half length"
]
Dose = Literal["none", "chosen", "chosen for the average", "matched", "matched rise", "largest", "each", "equal fall"]
Weights = Literal["raw", "ema", "swa", "power 0.05", "power 0.1"]
Owner = Literal["paper", "theory", "question"]
Regime = Literal["any", "step noise", "memorised", "neither"]
Form = Literal["log ratio", "difference", "log ratio of gaps per rise", "log ratio of samplers"]


@dataclass(frozen=True)
class Selection:
    """Which rows: of a method, at a dose, with which weights."""

    method: Flattener
    weights: Weights = "raw"
    dose: Dose = "none"


@dataclass(frozen=True)
class Claim:
    """What every claim of the ladder has.

    Attributes:
        group: whose comparisons are corrected together.
        letter: which of the group.
        owner: whose claim it is: the paper's, of our theory, or an open question whose region is a guess.
    """

    group: str
    letter: str
    owner: Owner

    @property
    def identifier(self) -> str:
        """The group's name and the letter: "L1a"."""
        return self.group + self.letter


@dataclass(frozen=True)
class LadderClaim(Claim):
    """One claim.

    Attributes:
        regime: in which it is claimed.
        quantities: each judged apart, and all must lie in the region. "distance" is judged with both distances, in the
            classifier's features and of pixels, at T' = 20 and 100; where the two disagree, the verdict says so.
        subject, against: what is compared.
        form: how.
        region: where the mean must lie, (low, high).
        statement: in plain words.
    """

    regime: Regime
    quantities: tuple[str, ...]
    subject: Selection
    against: Selection
    form: Form
    region: tuple[float, float]
    statement: str

    def is_of(self, regimes: Collection[str]) -> bool:
        """Whether it is made of a study that is in these regimes."""
        return self.regime == "any" or self.regime in regimes


LOWER = (-INFINITE, 0.0)
HIGHER = (0.0, INFINITE)
NOT_LOWER = (-SAME, INFINITE)
UNCHANGED = (-SAME, SAME)
ADM, ADM_EMA = Selection("adm"), Selection("adm", "ema")
IP, IP_EMA = Selection("ip"), Selection("ip", "ema")
SAM, SAM_EMA = Selection("sam", "raw", "chosen"), Selection("sam", "ema", "chosen")
SAM_BEST_EMA = Selection("sam", "ema", "chosen for the average")
SAM_MATCHED, SAM_MATCHED_EMA = Selection("sam", "raw", "matched"), Selection("sam", "ema", "matched")
SAM_MATCHED_RISE, SAM_MATCHED_RISE_EMA = (
    Selection("sam", "raw", "matched rise"),
    Selection("sam", "ema", "matched rise"),
)
SAM_LARGEST, SAM_EACH = Selection("sam", "raw", "largest"), Selection("sam", "raw", "each")
NOISE = Selection("rwp", "raw", "chosen")
NOISE_BEST_EMA = Selection("rwp", "ema", "chosen for the average")
NOISE_EQUAL = Selection("rwp", "raw", "equal fall")

DISTANCE = ("distance-20", "distance-100")
AT_8_BITS = "distance-20 at 8 bits over 32"
GAP = ("mean_absolute_gap-20", "mean_absolute_gap-100")

# fmt: off
CLAIMS: tuple[LadderClaim, ...] = (
    # L1: raw weights by dose
    LadderClaim("L1", "a", "paper", "step noise", DISTANCE, SAM, ADM, "log ratio", LOWER,
        "at its chosen radius SAM's raw weights sample better than plain training's"),
    LadderClaim("L1", "b", "theory", "any", DISTANCE, SAM_LARGEST, SAM, "log ratio", HIGHER,
        "the curve over radii turns up again: at the largest radius raw weights sample worse than at the chosen one"),
    LadderClaim("L1", "c", "paper", "step noise", DISTANCE, SAM_MATCHED, ADM, "log ratio", LOWER,
        "at the paper's dose SAM's raw weights sample better than plain training's"),
    LadderClaim("L1", "d", "theory", "neither", DISTANCE, SAM, ADM, "log ratio", NOT_LOWER,
        "where step noise is small and nothing is memorised, SAM's raw weights sample no better"),
    LadderClaim("L1", "e", "paper", "step noise", DISTANCE, SAM_MATCHED_RISE, ADM, "log ratio", LOWER,
        "where the rise has fallen by the paper's share, SAM's raw weights sample better than plain training's"),
    # L2: averaged weights where data do not run out
    LadderClaim("L2", "a", "paper", "step noise", DISTANCE, SAM_EMA, ADM_EMA, "log ratio", LOWER,
        "with EMA, SAM at its chosen radius samples better than plain training with EMA"),
    LadderClaim("L2", "b", "theory", "step noise", DISTANCE, SAM_BEST_EMA, ADM_EMA, "log ratio", NOT_LOWER,
        "with EMA no radius helps, not even the one chosen for the averaged rows"),
    LadderClaim("L2", "c", "theory", "step noise", ("held_out_loss",), SAM_MATCHED_EMA, ADM_EMA, "log ratio", HIGHER,
        "at the paper's dose flatness costs the averaged weights held-out loss"),
    LadderClaim("L2", "d", "paper", "step noise", DISTANCE, ADM_EMA, ADM, "log ratio", LOWER,
        "averaging alone improves samples"),
    LadderClaim("L2", "e", "question", "step noise", DISTANCE, ADM_EMA, SAM, "log ratio", LOWER,
        "plain training with EMA samples better than SAM's raw weights at their best"),
    LadderClaim("L2", "f", "theory", "step noise", ("held_out_loss",), SAM_MATCHED_RISE_EMA, ADM_EMA, "log ratio",
        HIGHER,
        "where the rise has fallen by the paper's share, flatness costs the averaged weights held-out loss"),
    # L3: averaged weights where the training set is memorised
    LadderClaim("L3", "a", "theory", "memorised", ("held_out_loss",), SAM_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "flatness lowers the held-out loss of averaged weights"),
    LadderClaim("L3", "b", "theory", "memorised", DISTANCE, SAM_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "flatness improves the samples of averaged weights"),
    LadderClaim("L3", "c", "question", "memorised", ("copies-20",), SAM_BEST_EMA, ADM_EMA, "difference", LOWER,
        "flatness makes copies of training images among the samples of averaged weights rarer"),
    LadderClaim("L3", "d", "question", "memorised", ("held_out_loss",), NOISE_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "random weight perturbation lowers the held-out loss of averaged weights"),
    LadderClaim("L3", "e", "question", "memorised", DISTANCE, NOISE_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "random weight perturbation improves the samples of averaged weights"),
    # L4: what averaging takes away, over the rise
    LadderClaim("L4", "a", "theory", "step noise", ("held_out_loss over lpf_rise",), SAM_EACH, ADM,
        "log ratio of gaps per rise", (-0.4, 0.4),
        "raw less averaged loss, over the rise under weight noise, is the same at every radius up to the chosen one"),
    # L5: one pass with random noise against SAM's two
    LadderClaim("L5", "a", "question", "any", DISTANCE, NOISE_EQUAL, SAM, "log ratio", (-AS_WELL, AS_WELL),
        "at an equal fall of the rise, random weight perturbation's raw samples are as good as SAM's"),
    LadderClaim("L5", "b", "question", "step noise", DISTANCE, NOISE, ADM, "log ratio", LOWER,
        "at its chosen noise random weight perturbation's raw weights sample better than plain training's"),
    LadderClaim("L5", "c", "question", "step noise", DISTANCE, NOISE_BEST_EMA, ADM_EMA, "log ratio", NOT_LOWER,
        "with EMA random weight perturbation helps at no noise"),
    # L6: exposure bias
    LadderClaim("L6", "a", "paper", "step noise", GAP, SAM, ADM, "log ratio", LOWER,
        "at its chosen radius SAM's raw weights have less exposure bias"),
    LadderClaim("L6", "b", "paper", "any", GAP, ADM_EMA, ADM, "log ratio", NOT_LOWER,
        "averaging does not lower the exposure bias of plain training"),
    LadderClaim("L6", "c", "theory", "step noise", GAP, SAM_EMA, ADM_EMA, "log ratio", NOT_LOWER,
        "with EMA SAM has no less exposure bias"),
    LadderClaim("L6", "d", "question", "memorised", GAP, SAM_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "where the training set is memorised, SAM's averaged weights have less exposure bias"),
    LadderClaim("L6", "e", "paper", "any", GAP, IP, ADM, "log ratio", LOWER,
        "input perturbation lowers exposure bias"),
    # L7: flatness itself
    LadderClaim("L7", "a", "paper", "any", ("lpf_rise",), SAM, ADM, "log ratio", LOWER,
        "SAM at its chosen radius lowers the rise under weight noise"),
    LadderClaim("L7", "b", "paper", "any", ("lpf_rise",), ADM_EMA, ADM, "log ratio", UNCHANGED,
        "EMA leaves the rise under random weight noise as it is"),
    LadderClaim("L7", "c", "theory", "any", ("worst_case_rise",), ADM_EMA, ADM, "log ratio", LOWER,
        "EMA lowers the rise in the worst direction, which claims on random directions do not see"),
    LadderClaim("L7", "d", "theory", "any", ("worst_case_rise",), SAM, ADM, "log ratio", LOWER,
        "SAM at its chosen radius lowers the rise in the worst direction"),
    LadderClaim("L7", "e", "paper", "any", ("lpf_rise",), IP, ADM, "log ratio", UNCHANGED,
        "input perturbation leaves the rise under random weight noise as it is"),
    # L8: fewer bits. That rounding raises the loss less is the paper's own argument (Section 3.2: the quantised model's
    # loss "remains flat"; its slides go to 4 bits). Both stood as our theory's, by which T5 gives the size, until after
    # the toy's results; whose claim it is was set right then, and nothing else.
    LadderClaim("L8", "a", "paper", "any", (AT_8_BITS,), SAM, SAM, "log ratio", UNCHANGED,
        "rounded to 8 bits, SAM's raw weights at the chosen radius sample as before"),
    LadderClaim("L8", "b", "paper", "any", (AT_8_BITS,), ADM, ADM, "log ratio", (SAME, INFINITE),
        "rounded to 8 bits, plain training's raw weights sample visibly worse"),
    LadderClaim("L8", "c", "paper", "any", ("rounding_rise-4",), SAM, ADM, "log ratio", LOWER,
        "rounding to 4 bits raises the loss of SAM's weights less"),
    LadderClaim("L8", "d", "paper", "any", ("rounding_rise-3",), SAM, ADM, "log ratio", LOWER,
        "rounding to 3 bits raises the loss of SAM's weights less"),
    # L9: which sampler forgets errors of the weights
    LadderClaim("L9", "a", "theory", "any", ("noisy over clean distance-100, ddim over ancestral",), ADM_EMA, ADM_EMA,
        "log ratio of samplers", HIGHER,
        "noise on the weights harms deterministic sampling (DDIM) by a larger factor than ancestral sampling"),
    # L10: input perturbation
    LadderClaim("L10", "a", "paper", "any", DISTANCE, IP, ADM, "log ratio", LOWER,
        "input perturbation's raw weights sample better than plain training's"),
    LadderClaim("L10", "b", "paper", "any", DISTANCE, IP_EMA, ADM_EMA, "log ratio", LOWER,
        "with EMA input perturbation samples better than plain training with EMA"),
)
# fmt: on

RAW_CHECKPOINTS = 5
"""Late checkpoints of a run over which a raw row's numbers are averaged; their scatter stands beside the seeds'."""
SHARES_OF_THE_RUN = (0.2, 0.4, 0.6, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Of a run's steps: where distances and losses are measured. The last five are the raw rows' late checkpoints."""
