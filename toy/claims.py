"""The list of P1 to P9; see `toy.predictions` for what its words mean.

phi is the theory's, what theta multiplies, and E|phi|^2 the feature energy. The study's divisor is 1 and its losses are
means over the d coordinates, so that the factor d/m^2 of T3 and T5 is 1.
"""

from __future__ import annotations

import dataclasses
import itertools

from findings.names import NINE, PAPER_METHODS, SUFFIXES
from findings.verdicts import above, below, within
from toy.predictions import (
    BITS,
    COUNTS,
    SAME,
    SWEEP,
    Comparison,
    Prediction,
    at_radius,
    averaging,
    frozen,
    learnt,
    sam_against_adm,
    stopped,
)

CHEAP = {"sam late tenth": "late tenth", "sam every 5": "every fifth step", "sam quarter batch": "quarter batch"}
"""Cheap schedules of SAM by row; all at the radius of the full one."""
SHIFTS = (1, 2, 3, 4)
"""Indices of the shifted densities, of growing KL; 0 is the data itself."""
SPECTRUM = 1e-8
"""Float64's rounding, some 1e-13 of the largest eigenvalue, over the smallest, some 1e-4 of it; with room."""


def _readout_against_t3(row: str) -> Comparison:
    return Comparison(row, "readout_rise", within(0.05), against="readout_rise_t3")


P1 = (
    Prediction("P1a", "Frozen features: the readout's LPF rise is the same for all nine methods", "theory",
        "excess 0 (T3)", "rise under noise .02 on theta, each method against adm, margin 2%",
        tuple(Comparison(frozen(row), "readout_rise", within(0.02), frozen("adm")) for row in NINE[1:])),
    Prediction("P1b", "Frozen features: the readout's LPF rise equals its closed form", "theory",
        "sigma^2 E|phi|^2 (T3)", "measured against closed form on the same points, margin 5%",
        tuple(_readout_against_t3(frozen(row)) for row in NINE)),
    Prediction("P1c", "Frozen features: the flat radius and the Hessian's largest eigenvalue are the closed form's",
        "theory", "1 (T3)",
        "rise at the flat radius along the Hessian's top eigenvector, both ways, over kappa; margin 1%",
        tuple(Comparison(frozen(row), "top_rise_ratio", within(0.01, 1.0), form="value") for row in NINE),
        revised="restated"),
    Prediction("P1d", "Frozen features: the Hessian's whole spectrum is the closed form's", "theory",
        "(2/d) eigenvalues of E phi phi^T, each d times (T3)",
        "the loss differentiated twice in theta, all d m eigenvalues; largest relative error, margin 1e-8",
        tuple(Comparison(frozen(row), "hessian_error", below(SPECTRUM), form="value") for row in NINE),
        revised="added"),
)  # fmt: skip

P2 = (
    Prediction("P2a", "SAM lowers the LPF rise", "paper", "negative", "rise under noise .02 on all weights, sam "
        "against adm with the same averaging", sam_against_adm("lpf_rise", below())),
    Prediction("P2b", "SAM lowers the LPF value itself, loss included (Table 3)", "paper", "negative",
        "loss under noise .02", sam_against_adm("lpf", below())),
    Prediction("P2c", "EMA does not lower the LPF rise", "paper", "none", "against the raw weights; at most 5% less",
        averaging("lpf_rise", above(-SAME), "ema")),
    Prediction("P2d", "SWA does not lower the LPF rise", "paper", "none", "against the raw weights; at most 5% less",
        averaging("lpf_rise", above(-SAME), "swa")),
    Prediction("P2e", "IP does not lower the LPF rise", "paper", "none", "against adm; at most 5% less",
        tuple(Comparison(learnt("ip" + a), "lpf_rise", above(-SAME), learnt("adm" + a)) for a in SUFFIXES)),
    Prediction("P2f", "SAM at the radius .001 leaves the LPF rise as it is", "paper", "none", "against adm, margin 5%",
        (Comparison(at_radius(1e-3), "lpf_rise", within(SAME), learnt("adm")),)),
    Prediction("P2g", "The LPF rise falls with every radius from .001 to 1", "question", "negative",
        "each radius against the one before",
        tuple(Comparison(at_radius(b), "lpf_rise", below(), at_radius(a))
              for a, b in itertools.pairwise(SWEEP))),
)  # fmt: skip

P3 = (
    Prediction("P3a", "SAM lowers the feature energy E|phi|^2", "theory", "negative (T3, T6)",
        "sam against adm with the same averaging", sam_against_adm("feature_energy", below())),
    Prediction("P3b", "Learnt features: T3 predicts the readout's LPF rise from the feature energy, nine methods",
        "theory", "sigma^2 E|phi|^2", "measured against predicted, margin 5%",
        tuple(_readout_against_t3(learnt(row)) for row in NINE)),
    Prediction("P3c", "The same at every radius of SAM", "theory", "sigma^2 E|phi|^2",
        "measured against predicted, margin 5%", tuple(_readout_against_t3(at_radius(rho)) for rho in SWEEP)),
    Prediction("P3d", "The same with frozen features", "theory", "sigma^2 E|phi|^2",
        "measured against predicted, margin 5%", tuple(_readout_against_t3(frozen(row)) for row in PAPER_METHODS)),
)  # fmt: skip

P4 = (
    *(Prediction(f"P4{letter}", f"SAM lowers the loss rise at {bits} bits", "paper", "negative",
        "all weights rounded, one symmetric grid a tensor; sam against adm",
        sam_against_adm(f"quantized_rise_{bits}", below())) for letter, bits in zip("abc", BITS, strict=True)),
    *(Prediction(f"P4{letter}", f"T5 predicts the readout's loss rise at {bits} bits", "theory",
        "(q^2 / 12) E|phi|^2, for rounding in the mean over theta", "theta rounded; excess over prediction, margin 25%",
        tuple(Comparison(learnt(m), f"quantized_readout_rise_{bits}", within(0.25),
                         against=f"quantized_readout_rise_{bits}_t5") for m in PAPER_METHODS))
      for letter, bits in zip("def", BITS, strict=True)),
    Prediction("P4g", "Part of SAM's gain comes from a smaller max|theta|", "question", "negative",
        "log of the squared step, sam less adm", sam_against_adm("log_step_part", below(), "difference")),
    Prediction("P4h", "Part of SAM's gain comes from a smaller feature energy", "theory", "negative",
        "log E|phi|^2, sam less adm", sam_against_adm("log_energy_part", below(), "difference")),
    Prediction("P4i", "The feature energy's part is the larger", "question", "negative",
        "log of energy less log of squared step, sam less adm",
        sam_against_adm("log_energy_less_step", below(), "difference")),
    Prediction("P4j", "EMA and SWA do not lower the loss rise at 4 bits", "theory", "none",
        "against the raw weights; at most 5% less",
        averaging("quantized_rise_4", above(-SAME), "ema") + averaging("quantized_rise_4", above(-SAME), "swa")),
    *(Prediction(f"P4{letter}", f"At {bits} bits SAM's samples lose less quality (Table 4)", "paper", "negative",
        "rise of the sliced W2 at T' = 20, sam less adm",
        sam_against_adm(f"sw_rise_{bits}", below(), "difference"))
      for letter, bits in zip("kl", BITS[:2], strict=True)),
    *(Prediction(f"P4{letter}", f"T5 predicts the readout's loss rise at {bits} bits but for its linear part", "theory",
        "(q^2 / 12) E|phi|^2", "mean of the rises at both signs of the rounding error; excess over prediction, "
        "margin 25%", tuple(Comparison(learnt(m), f"quantized_readout_even_{bits}", within(0.25),
                                       against=f"quantized_readout_rise_{bits}_t5") for m in PAPER_METHODS))
      for letter, bits in zip("mno", BITS, strict=True)),
    *(Prediction(f"P4{letter}", f"T5 is exact for dither of one step of {bits} bits on the readout", "theory",
        "(q^2 / 12) E|phi|^2", "uniform dither on theta; excess over prediction, margin 5%",
        tuple(Comparison(learnt(m), f"dithered_readout_rise_{bits}", within(0.05),
                         against=f"quantized_readout_rise_{bits}_t5") for m in PAPER_METHODS), revised="added")
      for letter, bits in zip("pqr", BITS, strict=True)),
)  # fmt: skip


def _at_both(identifier: str, statement: str, measure: str, pairs: tuple[tuple[str, str], ...], how: str
             ) -> tuple[Prediction, ...]:  # fmt: skip
    return tuple(
        Prediction(
            f"{identifier}{count}",
            f"{statement} at T' = {count}",
            "paper",
            "negative",
            how,
            tuple(Comparison(learnt(a), f"{measure}_{count}", below(), learnt(b)) for a, b in pairs),
            revised="restated" if measure == "absolute_gap" else "",
        )
        for count in COUNTS
    )


_SAM_PAIRS = (("sam", "adm"), ("sam+ema", "adm+ema"), ("sam+swa", "adm+swa"))
_EMA_PAIRS = (("adm+ema", "adm"), ("ip+ema", "ip"), ("sam+ema", "sam"))
_SWA_PAIRS = (("adm+swa", "adm"), ("ip+swa", "ip"), ("sam+swa", "sam"))
_IP_PAIRS = (("ip", "adm"), ("ip+ema", "adm+ema"), ("ip+swa", "adm+swa"))
_GAP = "mean over steps of the magnitude of the epsilon norm's gap between sampling and training"
_SW = "sliced W2 to the data, at equal steps"

P5 = (
    *_at_both("P5a-", "SAM narrows the epsilon-norm gap", "absolute_gap", _SAM_PAIRS, _GAP),
    *_at_both("P5b-", "IP narrows the epsilon-norm gap", "absolute_gap", _IP_PAIRS, _GAP),
    *_at_both("P5c-", "EMA narrows the epsilon-norm gap", "absolute_gap", _EMA_PAIRS, _GAP),
    *_at_both("P5d-", "SWA narrows the epsilon-norm gap", "absolute_gap", _SWA_PAIRS, _GAP),
)

P6 = (
    *_at_both("P6a-", "SAM gives better samples", "sw", _SAM_PAIRS, _SW),
    *_at_both("P6b-", "IP gives better samples", "sw", _IP_PAIRS, _SW),
    *_at_both("P6c-", "EMA gives better samples", "sw", _EMA_PAIRS, _SW),
    *_at_both("P6d-", "SWA gives better samples", "sw", _SWA_PAIRS, _SW),
    *(Prediction(f"P6e-{count}", f"At equal final training loss SAM gives better samples at T' = {count}", "question",
        "negative", "sliced W2, against adm stopped at SAM's final training loss",
        tuple(Comparison(learnt("sam" + a), f"sw_{count}", below(), stopped("adm" + a)) for a in SUFFIXES))
      for count in COUNTS),
    *(Prediction(f"P6f-{count}", f"At equal final training loss IP gives better samples at T' = {count}", "question",
        "negative", "sliced W2, ip against adm, each stopped at SAM's final training loss",
        tuple(Comparison(stopped("ip" + a), f"sw_{count}", below(), stopped("adm" + a)) for a in SUFFIXES),
        revised="added")
      for count in COUNTS),
)  # fmt: skip

GAP_ROWS = tuple(f"gap/a={a:g}" for a in (0.5, 1.0, 2.0))
P7 = (
    Prediction("P7a", "The loss on a perturbed density rises by J(delta), whatever the flatness", "theory", "1 (T4)",
        "linear model: measured on a sample of p over J; margin 2%",
        tuple(Comparison(row, "rise_over_j", within(0.02, 1.0), form="value") for row in GAP_ROWS)),
    Prediction("P7b", "The least KL at which the loss rises by kappa is E_kappa, whatever the flatness", "theory",
        "[sqrt(kappa) - log(1 + sqrt(kappa))] / 2 (T4)",
        "least KL over random admissible directions and T4's own, against E_kappa; margin .1%",
        tuple(Comparison(row, "gap_radius", within(0.001), against="gap_radius_t4") for row in GAP_ROWS)),
    Prediction("P7c", "Models that are four times as flat tolerate no larger KL (Remark 3.10 fails)", "theory",
        "0, at flat radii 4 : 1", "gap radius at a = 1/2 against a = 2, margin .1%; flat radius 4 times",
        (Comparison(GAP_ROWS[0], "gap_radius", within(0.001), GAP_ROWS[2]),
         Comparison(GAP_ROWS[0], "flat_radius", within(1e-6, 4.0), GAP_ROWS[2], form="ratio")),
        revised="restated"),
    Prediction("P7d", "No perturbation in a ball moves the density further than T2's worst case, which is attained",
        "theory", "at most 1; 1", "KL of scaled directions, and of T2's own perturbation, over T2's value",
        (*(Comparison(row, "largest_share_of_t2", below(1.0 + 1e-9), form="value") for row in GAP_ROWS),
         *(Comparison(row, "attained_share_of_t2", within(1e-6, 1.0), form="value") for row in GAP_ROWS))),
    *(Prediction(f"P7e-{shift}", f"Trained models: SAM's loss rises less on data that are wider, shift {shift}",
        "paper", "negative (Remark 3.10)", "loss on shifted data less loss on data, sam less adm",
        sam_against_adm(f"shift_rise_{shift}", below(), "difference")) for shift in SHIFTS),
    *(Prediction(f"P7f-{shift}", f"At equal final training loss SAM's loss rises less on data that are wider, shift "
        f"{shift}", "question", "negative (Remark 3.10)",
        "loss on shifted data less loss on data, sam less adm stopped at SAM's final training loss",
        tuple(Comparison(learnt("sam" + a), f"shift_rise_{shift}", below(), stopped("adm" + a), form="difference")
              for a in SUFFIXES), revised="added") for shift in SHIFTS),
)  # fmt: skip

P8 = (
    Prediction("P8a", "SAM lowers the rise under noise relative to each tensor's size", "question",
        "negative, unless all is scale (T7)", "noise of 5% of each tensor's root mean square",
        sam_against_adm("relative_rise", below())),
    Prediction("P8b", "SAM lowers |theta|^2 E|phi|^2, which one factor for all neurons leaves as it is", "question",
        "negative, unless all is scale (T7)",
        "sam against adm; the readout's LPF rise once every theta has norm 1",
        sam_against_adm("energy_times_norm", below())),
    Prediction("P8c", "SAM lowers the LPF rise after every model is rescaled to |theta| = |(W, U)|", "question",
        "negative, unless all is scale (T7)", "absolute noise .02 on all weights",
        sam_against_adm("balanced_rise", below())),
    Prediction("P8d", "Part of SAM's gain in the LPF rise is scale", "theory", "positive (T7)",
        "log of relative over absolute rise, sam less adm",
        sam_against_adm("log_relative_less_absolute", above(), "difference")),
)  # fmt: skip

P9 = (
    *(Prediction(f"P9{letter}", f"SAM on the {name} lowers the LPF rise", "question", "negative",
        "against adm", (Comparison(learnt(row), "lpf_rise", below(), learnt("adm")),))
      for letter, (row, name) in zip("abc", CHEAP.items(), strict=True)),
    *(Prediction(f"P9{letter}", f"SAM on the {name} gets at least half of full SAM's reduction", "question",
        "above 1/2", "share of full SAM's reduction of the LPF rise",
        (Comparison(learnt(row), "share_of_reduction", above(0.5), form="value"),))
      for letter, (row, name) in zip("def", CHEAP.items(), strict=True)),
)  # fmt: skip


def _at_one_radius(prediction: Prediction) -> Prediction:
    """The prediction, saying so where it rests on SAM at the nine methods' one radius, which proved an overdose.

    P2f, P2g and P3c are on radii; everything by dose is in `findings.ladder_claims`.
    """
    rows = {side for c in prediction.comparisons for side in (c.row, c.baseline)}
    rests = any(row in rows for row in (*(learnt("sam" + a) for a in SUFFIXES), *map(learnt, CHEAP)))
    if not rests or prediction.identifier in ("P2f", "P2g", "P3c"):
        return prediction
    statement = f"{prediction.statement} (SAM at the radius .1 alone)"
    return dataclasses.replace(prediction, statement=statement, revised=prediction.revised or "restated")


PREDICTIONS = tuple(_at_one_radius(p) for p in (*P1, *P2, *P3, *P4, *P5, *P6, *P7, *P8, *P9))
