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
INFINITE = float("inf")

Flattener = Literal[
    "adm", "ip", "sam", "rwp", "asam", "random sam", "friendly sam", "late sam", "sam every 5", "sam of half length"
]
Dose = Literal["none", "chosen", "chosen for the average", "matched", "matched rise", "largest", "each", "equal fall"]
Weights = Literal["raw", "ema", "swa", "power 0.05", "power 0.1"]
Owner = Literal["paper", "theory", "question"]
Regime = Literal["any", "step noise", "memorised", "neither"]
Form = Literal["log ratio", "difference", "log ratio of gaps per rise"]


@dataclass(frozen=True)
class Selection:
    """Which rows: of a method, at a dose, with which weights."""

    method: Flattener
    weights: Weights = "raw"
    dose: Dose = "none"


@dataclass(frozen=True)
class LadderClaim:
    """One claim.

    Attributes:
        identifier: its group's and a letter.
        owner: whose claim it is: the paper's, of our theory, or an open question whose region is a guess.
        regime: in which it is claimed.
        statement: in plain words.
        quantities: each judged apart, and all must lie in the region. "distance" is judged with both distances, in the
            classifier's features and of pixels, at T' = 20 and 100; where the two disagree, the verdict says so.
        subject, against: what is compared.
        form: how.
        region: where the mean must lie, (low, high).
    """

    identifier: str
    owner: Owner
    regime: Regime
    statement: str
    quantities: tuple[str, ...]
    subject: Selection
    against: Selection
    form: Form
    region: tuple[float, float]

    @property
    def group(self) -> str:
        """Whose comparisons are corrected together."""
        return self.identifier.rstrip("abcdefghijklmnopqrstuvwxyz")


LOWER = (-INFINITE, 0.0)
HIGHER = (0.0, INFINITE)
NOT_LOWER = (-SAME, INFINITE)
UNCHANGED = (-SAME, SAME)
ADM, ADM_EMA, ADM_SWA = Selection("adm"), Selection("adm", "ema"), Selection("adm", "swa")
IP, IP_EMA = Selection("ip"), Selection("ip", "ema")
SAM, SAM_EMA = Selection("sam", "raw", "chosen"), Selection("sam", "ema", "chosen")
SAM_BEST_EMA = Selection("sam", "ema", "chosen for the average")
SAM_MATCHED, SAM_MATCHED_EMA = Selection("sam", "raw", "matched"), Selection("sam", "ema", "matched")
SAM_MATCHED_RISE, SAM_MATCHED_RISE_EMA = (
    Selection("sam", "raw", "matched rise"),
    Selection("sam", "ema", "matched rise"),
)
SAM_LARGEST, SAM_EACH = Selection("sam", "raw", "largest"), Selection("sam", "raw", "each")
NOISE, NOISE_EMA = Selection("rwp", "raw", "chosen"), Selection("rwp", "ema", "chosen")
NOISE_BEST_EMA = Selection("rwp", "ema", "chosen for the average")
NOISE_EQUAL = Selection("rwp", "raw", "equal fall")

DISTANCE = ("distance-20", "distance-100")
GAP = ("mean_absolute_gap-20", "mean_absolute_gap-100")

CLAIMS: tuple[LadderClaim, ...] = (
    # L1: raw weights by dose
    LadderClaim(
        "L1a",
        "paper",
        "step noise",
        "at its chosen radius SAM's raw weights sample better than plain training's",
        DISTANCE,
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L1b",
        "theory",
        "any",
        "the curve over radii turns up again: at the largest radius raw weights sample worse than at the chosen one",
        DISTANCE,
        SAM_LARGEST,
        SAM,
        "log ratio",
        HIGHER,
    ),
    LadderClaim(
        "L1c",
        "paper",
        "step noise",
        "at the paper's dose SAM's raw weights sample better than plain training's",
        DISTANCE,
        SAM_MATCHED,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L1d",
        "theory",
        "neither",
        "where step noise is small and nothing is memorised, SAM's raw weights sample no better",
        DISTANCE,
        SAM,
        ADM,
        "log ratio",
        NOT_LOWER,
    ),
    LadderClaim(
        "L1e",
        "paper",
        "step noise",
        "where the rise has fallen by the paper's share, SAM's raw weights sample better than plain training's",
        DISTANCE,
        SAM_MATCHED_RISE,
        ADM,
        "log ratio",
        LOWER,
    ),
    # L2: averaged weights where data do not run out
    LadderClaim(
        "L2a",
        "paper",
        "step noise",
        "with EMA, SAM at its chosen radius samples better than plain training with EMA",
        DISTANCE,
        SAM_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L2b",
        "theory",
        "step noise",
        "with EMA no radius helps, not even the one chosen for the averaged rows",
        DISTANCE,
        SAM_BEST_EMA,
        ADM_EMA,
        "log ratio",
        NOT_LOWER,
    ),
    LadderClaim(
        "L2c",
        "theory",
        "step noise",
        "at the paper's dose flatness costs the averaged weights held-out loss",
        ("held_out_loss",),
        SAM_MATCHED_EMA,
        ADM_EMA,
        "log ratio",
        HIGHER,
    ),
    LadderClaim(
        "L2d",
        "paper",
        "step noise",
        "averaging alone improves samples",
        DISTANCE,
        ADM_EMA,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L2e",
        "question",
        "step noise",
        "plain training with EMA samples better than SAM's raw weights at their best",
        DISTANCE,
        ADM_EMA,
        SAM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L2f",
        "theory",
        "step noise",
        "where the rise has fallen by the paper's share, flatness costs the averaged weights held-out loss",
        ("held_out_loss",),
        SAM_MATCHED_RISE_EMA,
        ADM_EMA,
        "log ratio",
        HIGHER,
    ),
    # L3: averaged weights where the training set is memorised
    LadderClaim(
        "L3a",
        "theory",
        "memorised",
        "flatness lowers the held-out loss of averaged weights",
        ("held_out_loss",),
        SAM_BEST_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L3b",
        "theory",
        "memorised",
        "flatness improves the samples of averaged weights",
        DISTANCE,
        SAM_BEST_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L3c",
        "question",
        "memorised",
        "flatness makes copies of training images among the samples of averaged weights rarer",
        ("copies-20",),
        SAM_BEST_EMA,
        ADM_EMA,
        "difference",
        LOWER,
    ),
    LadderClaim(
        "L3d",
        "question",
        "memorised",
        "random weight perturbation lowers the held-out loss of averaged weights",
        ("held_out_loss",),
        NOISE_BEST_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L3e",
        "question",
        "memorised",
        "random weight perturbation improves the samples of averaged weights",
        DISTANCE,
        NOISE_BEST_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    # L4: what averaging takes away, over the rise
    LadderClaim(
        "L4a",
        "theory",
        "step noise",
        "raw less averaged loss, over the rise under weight noise, is the same at every radius up to the chosen one",
        ("held_out_loss over lpf_rise",),
        SAM_EACH,
        ADM,
        "log ratio of gaps per rise",
        (-0.4, 0.4),
    ),
    # L5: one pass with random noise against SAM's two
    LadderClaim(
        "L5a",
        "question",
        "any",
        "at an equal fall of the rise, random weight perturbation's raw samples are as good as SAM's",
        DISTANCE,
        NOISE_EQUAL,
        SAM,
        "log ratio",
        (-0.1, 0.1),
    ),
    LadderClaim(
        "L5b",
        "question",
        "step noise",
        "at its chosen noise random weight perturbation's raw weights sample better than plain training's",
        DISTANCE,
        NOISE,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L5c",
        "question",
        "step noise",
        "with EMA random weight perturbation helps at no noise",
        DISTANCE,
        NOISE_BEST_EMA,
        ADM_EMA,
        "log ratio",
        NOT_LOWER,
    ),
    # L6: exposure bias
    LadderClaim(
        "L6a",
        "paper",
        "step noise",
        "at its chosen radius SAM's raw weights have less exposure bias",
        GAP,
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L6b",
        "paper",
        "any",
        "averaging does not lower the exposure bias of plain training",
        GAP,
        ADM_EMA,
        ADM,
        "log ratio",
        NOT_LOWER,
    ),
    LadderClaim(
        "L6c",
        "theory",
        "step noise",
        "with EMA SAM has no less exposure bias",
        GAP,
        SAM_EMA,
        ADM_EMA,
        "log ratio",
        NOT_LOWER,
    ),
    LadderClaim(
        "L6d",
        "question",
        "memorised",
        "where the training set is memorised, SAM's averaged weights have less exposure bias",
        GAP,
        SAM_BEST_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L6e",
        "paper",
        "any",
        "input perturbation lowers exposure bias",
        GAP,
        IP,
        ADM,
        "log ratio",
        LOWER,
    ),
    # L7: flatness itself
    LadderClaim(
        "L7a",
        "paper",
        "any",
        "SAM at its chosen radius lowers the rise under weight noise",
        ("lpf_rise",),
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L7b",
        "paper",
        "any",
        "EMA leaves the rise under random weight noise as it is",
        ("lpf_rise",),
        ADM_EMA,
        ADM,
        "log ratio",
        UNCHANGED,
    ),
    LadderClaim(
        "L7c",
        "theory",
        "any",
        "EMA lowers the rise in the worst direction, which claims on random directions do not see",
        ("worst_case_rise",),
        ADM_EMA,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L7d",
        "theory",
        "any",
        "SAM at its chosen radius lowers the rise in the worst direction",
        ("worst_case_rise",),
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L7e",
        "paper",
        "any",
        "input perturbation leaves the rise under random weight noise as it is",
        ("lpf_rise",),
        IP,
        ADM,
        "log ratio",
        UNCHANGED,
    ),
    # L8: fewer bits
    LadderClaim(
        "L8a",
        "paper",
        "any",
        "rounded to 8 bits, SAM's raw weights at the chosen radius sample as before",
        ("distance-20 at 8 bits over 32",),
        SAM,
        SAM,
        "log ratio",
        UNCHANGED,
    ),
    LadderClaim(
        "L8b",
        "paper",
        "any",
        "rounded to 8 bits, plain training's raw weights sample visibly worse",
        ("distance-20 at 8 bits over 32",),
        ADM,
        ADM,
        "log ratio",
        (SAME, INFINITE),
    ),
    LadderClaim(
        "L8c",
        "theory",
        "any",
        "rounding to 4 bits raises the loss of SAM's weights less",
        ("rounding_rise-4",),
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L8d",
        "theory",
        "any",
        "rounding to 3 bits raises the loss of SAM's weights less",
        ("rounding_rise-3",),
        SAM,
        ADM,
        "log ratio",
        LOWER,
    ),
    # L9: which sampler forgets errors of the weights
    LadderClaim(
        "L9a",
        "theory",
        "any",
        "noise on the weights harms deterministic sampling (DDIM) by a larger factor than ancestral sampling",
        ("noisy over clean distance-100, ddim over ancestral",),
        ADM_EMA,
        ADM_EMA,
        "log ratio",
        HIGHER,
    ),
    # L10: input perturbation
    LadderClaim(
        "L10a",
        "paper",
        "any",
        "input perturbation's raw weights sample better than plain training's",
        DISTANCE,
        IP,
        ADM,
        "log ratio",
        LOWER,
    ),
    LadderClaim(
        "L10b",
        "paper",
        "any",
        "with EMA input perturbation samples better than plain training with EMA",
        DISTANCE,
        IP_EMA,
        ADM_EMA,
        "log ratio",
        LOWER,
    ),
)

RAW_CHECKPOINTS = 5
"""Late checkpoints of a run over which a raw row's numbers are averaged; their scatter stands beside the seeds'."""
SHARES_OF_THE_RUN = (0.2, 0.4, 0.6, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Of a run's steps: where distances and losses are measured. The last five are the raw rows' late checkpoints."""
