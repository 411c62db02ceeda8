"""The ladder's claims on its first two rungs, the toy on the ring and on small images, as data made before the runs.

The claims of `findings.ladder_claims` are judged in every regime of both rungs as they stand, with one distance, sliced
W_2 to points that were not trained on. Doses are chosen by other noise and other points than they are reported with.
Raw rows are the weights at the end of a run, and twenty seeds are twenty runs. Below stands what only the toy can
answer, since it has more doses, more flatteners, training sets of several sizes, and runs that differ in the batch
alone.

What was known beforehand: prototypes of 4 to 12 seeds at other radii, on the ring at batches of 16 and 128 and with 24
training points, and on 8 x 8 images with 300 and 40 of them. Where a region comes from one of these, the claim says so
with `seen`. No claim's region was changed after the runs. Of the runs themselves one had been seen when the regimes
were settled: plain training at a batch of 16 and half of today's rate, whose step noise was 1.7%, below the limit.
The radii .354 and 1 were added to the regimes with training sets after the others had been seen there: with 24 points
the best radius was the largest.

Claims between regimes compare one quantity, already set against plain training in its own regime, in two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from findings.ladder_claims import (
    ADM,
    ADM_EMA,
    AT_8_BITS,
    HIGHER,
    LOWER,
    NOT_LOWER,
    SAM,
    SAM_BEST_EMA,
    SAM_LARGEST,
    UNCHANGED,
    Claim,
    Flattener,
    LadderClaim,
    Selection,
    Weights,
)

RUNGS = ("ring", "images")
CLOSE = (-0.1, 0.1)
"""Two flatteners as good as each other."""


@dataclass(frozen=True)
class RungClaim(LadderClaim):
    """A claim on the toy.

    Attributes:
        rungs: where.
        seen: what prototypes had shown of it.
    """

    rungs: tuple[str, ...] = RUNGS
    seen: str = ""


@dataclass(frozen=True)
class BetweenRegimes(Claim):
    """A claim on two regimes of one rung.

    Each side is the mean over seeds of log(quantity of the method at its dose / quantity of plain training), with the
    same weights, in one regime; the difference, first less second, must lie in the region. Seeds are paired.

    Attributes:
        rung: of both regimes.
        quantity: its name.
        method, weights: of both sides.
        sides: (regime, dose), twice; a dose of None is the one chosen for those weights.
        region: (low, high).
        statement: in plain words.
        seen: what prototypes had shown of it.
    """

    rung: str
    quantity: str
    method: Flattener
    weights: Weights
    sides: tuple[tuple[str, float | None], tuple[str, float | None]]
    region: tuple[float, float]
    statement: str
    seen: str = ""


def _chosen(method: Flattener) -> Selection:
    return Selection(method, "raw", "chosen")


ASAM, RANDOM, FRIENDLY = _chosen("asam"), _chosen("random sam"), _chosen("friendly sam")
LATE, FIFTH, HALF, NOISE = _chosen("late sam"), _chosen("sam every 5"), _chosen("sam of half length"), _chosen("rwp")
SAM_EACH = Selection("sam", "raw", "each")
BOTH = ("distance-20", "distance-100")

# fmt: off
WITHIN_A_REGIME = (
    # L11: the other flatteners, at doses chosen by result
    RungClaim("L11", "a", "question", "step noise", BOTH, ASAM, ADM, "log ratio", LOWER,
        "ASAM's raw weights sample better than plain training's"),
    RungClaim("L11", "b", "question", "step noise", BOTH, RANDOM, SAM, "log ratio", CLOSE,
        "a random step before the ascent changes SAM's raw samples little"),
    RungClaim("L11", "c", "theory", "step noise", BOTH, FRIENDLY, SAM, "log ratio", CLOSE,
        "the batch's own part of the gradient is what SAM penalises: "
        "friendly SAM's raw samples are as good as SAM's"),
    RungClaim("L11", "d", "question", "step noise", BOTH, LATE, SAM, "log ratio", CLOSE,
        "SAM in the last fifth of training has full SAM's raw samples"),
    RungClaim("L11", "e", "question", "step noise", BOTH, FIFTH, ADM, "log ratio", LOWER,
        "SAM at every fifth step makes raw samples better"),
    RungClaim("L11", "f", "question", "step noise", BOTH, NOISE, HALF, "log ratio", LOWER,
        "at equal cost, which SAM pays with half the steps, random weight perturbation's raw samples are better"),
    *(
        RungClaim("L11", letter, "theory", "step noise", BOTH, ADM_EMA, flattener, "log ratio", LOWER,
            f"plain training with EMA samples better than raw weights of {flattener.method}")
        for letter, flattener in zip("ghijk", (ASAM, RANDOM, FRIENDLY, LATE, FIFTH), strict=True)
    ),
    RungClaim("L11", "l", "question", "any", BOTH, Selection("adm", "power 0.1"), ADM_EMA, "log ratio", CLOSE,
        "a power-function EMA, of which post-hoc EMAs are made, samples as the EMA does"),
    # L12: the dose curve
    RungClaim("L12", "a", "theory", "any", ("held_out_loss",), SAM_LARGEST, ADM, "log ratio", HIGHER,
        "at the largest radius the held-out loss of raw weights is higher than plain training's",
        seen="loss .4391 against .4235 at the radius .1, batch 16"),
    RungClaim("L12", "b", "theory", "step noise", ("held_out_loss",), SAM, ADM, "log ratio", LOWER,
        "at the chosen radius the held-out loss of raw weights is lower",
        seen="loss .4205 against .4235 at .03, batch 16"),
    # L13: fewer bits, by what samples lose and by the loss
    RungClaim("L13", "a", "question", "any", (AT_8_BITS,), ADM, ADM, "log ratio", UNCHANGED,
        "rounded to 8 bits, plain training's raw weights sample as before"),
    *(
        RungClaim("L13", letter, "paper", "any", (f"distance-20-bits-{bits}",), SAM, ADM, "log ratio", LOWER,
            f"at {bits} bits SAM's raw weights, at the radius chosen at 32 bits, "
            "sample better than plain training's")
        for letter, bits in zip("bcd", (8, 4, 3), strict=True)
    ),
    *(
        RungClaim("L13", letter, "question", "any", (f"distance-20-bits-{bits}",), SAM_BEST_EMA, ADM_EMA,
            "log ratio", LOWER,
            f"with averages too: at {bits} bits SAM's EMA, at the radius "
            "chosen for it, samples better than plain training's")
        for letter, bits in zip("ef", (4, 3), strict=True)
    ),
    # L14: theorems on trained models
    *(
        RungClaim("L14", letter, "theory", "any", ("readout_rise over readout_rise_t3",), selection, selection,
            "log ratio", (-0.05, 0.05),
            f"T3 gives the readout's rise from the feature energy alone: {who}")
        for letter, selection, who in (("a", ADM, "plain training"), ("b", SAM, "SAM"), ("c", ADM_EMA, "EMA"))
    ),
    *(
        RungClaim("L14", letter, "theory", "any", ("dither_rise-4 over dither_rise-4_t5",), selection, selection,
            "log ratio", (-0.05, 0.05),
            f"T5 is exact for dither of one step of 4 bits on the readout: {who}")
        for letter, selection, who in (("d", ADM, "plain training"), ("e", SAM, "SAM"), ("f", ADM_EMA, "EMA"))
    ),
    # L15: images against the plane
    RungClaim("L15", "a", "question", "any", ("mean_absolute_gap-20",), SAM, ADM, "log ratio", HIGHER,
        "on images SAM at the radius chosen by samples has more exposure bias",
        rungs=("images",), seen="gap .208 against .047 at .03, 300 images"),
    RungClaim("L15", "b", "question", "memorised", ("held_out_loss",), SAM_BEST_EMA, ADM_EMA, "log ratio",
        NOT_LOWER,
        "on images averaged weights pay for flatness in held-out loss even "
        "where the training set is memorised in part", rungs=("images",), seen=".2329 against .2271 at .01, 40 images"),
    RungClaim("L15", "c", "theory", "memorised", ("held_out_loss",), SAM_BEST_EMA, ADM_EMA, "log ratio", LOWER,
        "in the plane they do not pay: averaged weights have a lower held-out loss",
        rungs=("ring",), seen=".471 against .478 at .03, 24 points, features twice as many"),
)

BETWEEN_REGIMES = (
    *(
        BetweenRegimes("L16", letter, "theory", "ring", "lpf_rise", "sam", "ema",
            (("fresh, batch 16", small), ("fresh, batch 128", large)), (-0.25, 0.25),
            f"SAM's effect goes as rho over the root of the batch: the EMA's rise falls "
            f"as far by {small:g} at 16 as by {large:g} at 128")
        for letter, small, large in zip("abc", (0.0055, 0.0156, 0.0442), (0.0156, 0.0442, 0.125), strict=True)
    ),
    BetweenRegimes("L16", "d", "theory", "ring", "distance-20", "sam", "raw",
        (("fresh, batch 16", None), ("fresh, batch 128", None)), LOWER,
        "at its own chosen radius SAM helps raw samples more at a batch of 16 than of 128",
        seen="-26% against -12% at the best of five radii"),
    BetweenRegimes("L16", "e", "theory", "images", "distance-20", "sam", "raw",
        (("all images, batch 32", None), ("all images, batch 256", None)), LOWER,
        "at its own chosen radius SAM helps raw samples more at a batch of 32 than of 256"),
    BetweenRegimes("L17", "a", "theory", "ring", "held_out_loss", "sam", "ema",
        (("24 points", None), ("fresh, batch 64", None)), LOWER,
        "SAM lowers the held-out loss of averages by more with 24 training points than with fresh ones"),
    BetweenRegimes("L17", "b", "question", "ring", "held_out_loss", "sam", "ema",
        (("24 points", None), ("384 points", None)), LOWER,
        "and more with 24 than with 384"),
    BetweenRegimes("L17", "c", "question", "ring", "held_out_loss", "rwp", "ema",
        (("24 points", None), ("fresh, batch 64", None)), LOWER,
        "random weight perturbation too, more with 24 points than with fresh ones"),
    BetweenRegimes("L17", "d", "question", "images", "distance-20", "sam", "ema",
        (("40 images", None), ("all images, batch 32", None)), LOWER,
        "on images SAM's averages gain more in samples with 40 training images than with all"),
)
# fmt: on
