"""What the theory's computations cost.

Worst case (Theorem T2), W of shape (d, m), general b. Floor: each product with W or its transpose reads W once, 8 d m
bytes; the Krylov space takes two such passes a block. Dense: one singular value decomposition, O(d m min(d, m)).
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
from numpy import ndarray

from benchmarks.timing import Row, alone, interleaved
from theory.model import brute_force, worst_case
from theory.model.divergences import DIVERGENCES
from theory.model.krylov import dense, krylov

LARGE = ((768, 2048), (1536, 4096), (3072, 8192))


def _model(d: int, m: int, seed: int = 0) -> tuple[ndarray, ndarray, float]:
    """Random W and b, and a radius with rho about 1/2."""
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((d, m)), rng.standard_normal(m)
    return W, b, 0.5 * m / (np.sqrt(d) + np.sqrt(m))


def large(d: int, m: int) -> tuple[float, float]:
    """(worst case, seconds that it took, the making of W left out)."""
    W, b, radius = _model(d, m)
    start = time.perf_counter()
    value = worst_case.worst_case_divergence(W, b, radius).value
    return value, time.perf_counter() - start


def one_pass(d: int, m: int) -> float:
    """Seconds of one product with W and one with its transpose, four columns at a time: a block of the Krylov space."""
    W, _, _ = _model(d, m)
    block = np.random.default_rng(1).standard_normal((m, 4))
    return interleaved({"passes": lambda: W.T @ (W @ block)}, rounds=7)["passes"]


def cost_of_large_models() -> list[Row]:
    """Seconds, memory and growth of the Krylov method."""
    rows = []
    smallest = 0.0
    for d, m in LARGE:
        (_, seconds), _, memory = alone(large, d, m)
        passes = seconds / one_pass(d, m)
        smallest = smallest or seconds / (d * m)
        growth = seconds / (d * m) / smallest
        rows.append(
            (
                f"worst case, d={d}, m={m}",
                f"{seconds:.2f} s, peak {memory / 2**30:.2f} GiB",
                f"{passes:.0f} blocks' passes over W; cost per entry of W {growth:.2f} times that of the first",
            )
        )
    return rows


def krylov_against_dense() -> list[Row]:
    """Agreement and ratio of both methods, interleaved."""
    rows = []
    kl = DIVERGENCES["kl"]
    for d, m in ((384, 1024), (768, 2048)):
        W, b, radius = _model(d, m)
        step = radius / m

        def value(s: ndarray, beta: ndarray, step: float = step) -> float:
            return worst_case.curve_maximum(step * s, step * beta, kl)[0]

        def by_dense(W: ndarray = W, b: ndarray = b) -> float:
            return value(*dense(W, b)[:2])

        def by_krylov(W: ndarray = W, b: ndarray = b) -> float:
            return value(*krylov(W, b, value)[:2])

        seconds = interleaved({"dense": by_dense, "krylov": by_krylov}, rounds=3)
        apart = abs(by_krylov() / by_dense() - 1)
        ratio = seconds["dense"] / seconds["krylov"]
        what = f"Krylov against dense, d={d}, m={m}"
        rows.append((what, f"{ratio:.1f} times as fast", f"values {apart:.1e} apart, relative"))
    return rows


def against_brute_force() -> list[Row]:
    """Ratio to brute-force optimisation from 12 starts, where that can run, and how close it comes."""
    rows = []
    for d, m in ((2, 4), (4, 8), (8, 16)):
        W, b, radius = _model(d, m)

        def formula(W: ndarray = W, b: ndarray = b, radius: float = radius) -> float:
            return worst_case.worst_case_divergence(W, b, radius).value

        def climbed(W: ndarray = W, b: ndarray = b, radius: float = radius) -> float:
            return brute_force.largest_divergence(W, b, radius, DIVERGENCES["kl"])

        seconds = interleaved({"formula": formula, "brute force": climbed}, rounds=3)
        ratio = seconds["brute force"] / seconds["formula"]
        apart = climbed() / formula() - 1
        what = f"worst case against brute force, d={d}, m={m}"
        rows.append((what, f"{ratio:.0f} times as fast", f"brute force {apart:+.1e}, relative"))
    return rows


def suite() -> list[Row]:
    """Seconds of `pytest theory` with the default profile."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "theory"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    lines = done.stdout.strip().splitlines() or ["no output"]
    return [("pytest theory", f"{time.perf_counter() - start:.0f} s", lines[-1])]


PARTS = (cost_of_large_models, krylov_against_dense, against_brute_force, suite)
