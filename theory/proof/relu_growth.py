"""When e^-I p can be normalised for ReLU features, delta_j = c_j w_j and p = N(0, I): the sign of Q (Theorem T1)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st

from theory.proof import strategies
from theory.proof.gradient_fields import Coefficients, relu_model
from theory.proof.notation import j, m

coefficient, y = sympy.IndexedBase("c"), sympy.IndexedBase("y")
"""c_j; y_j = w_j^T u."""
RELU_GROWTH = 1 + sympy.Sum(coefficient[j] * sympy.Max(y[j], 0) ** 2, (j, 1, m)) / m
"""Q(u): -log(e^-I p) grows like Q(u) r^2 / 2 along x = r u, for ReLU and p = N(0, I)."""


def growth_at(projections: Any, coefficients: Any) -> Any:
    """RELU_GROWTH at given y_j = w_j^T u, of shape (..., m), and c_j."""
    return _growth(len(coefficients))(*np.moveaxis(np.asarray(projections), -1, 0), *coefficients)


@cache
def _growth(columns: int) -> Any:
    arguments = [*(y[n + 1] for n in range(columns)), *(coefficient[n + 1] for n in range(columns))]
    plain = sympy.symbols(f"a:{2 * columns}")
    formula = RELU_GROWTH.subs(m, columns).doit().subs(dict(zip(arguments, plain, strict=True)))
    return sympy.lambdify(plain, formula, "numpy")


def decided(instance: Coefficients) -> bool:
    """Whether the least Q is far enough from 0 for quadrature to tell."""
    return abs(least_growth(instance)) > 0.02


RELU_MODELS = st.builds(
    relu_model, st.just(1), st.integers(1, 4), strategies.seeds, st.sampled_from([0.5, 1.0, 3.0])
).filter(decided)
"""ReLU in d = 1 with any c_j, on either side of normalisability."""


def least_growth(instance: Coefficients) -> float:
    """The minimum of Q over the unit sphere, d = 1 and 2: on an arc without kinks Q is a quadratic form."""
    if instance.d == 1:
        directions = np.array([[1.0], [-1.0]])
    else:
        kinks = np.arctan2(instance.W[1], instance.W[0]) + np.pi / 2
        cuts = np.unique(np.concatenate([kinks, kinks + np.pi]) % (2 * np.pi))
        middles = (cuts + np.diff(cuts, append=cuts[0] + 2 * np.pi) / 2)[:, None]
        active = np.stack([np.cos(middles), np.sin(middles)], axis=-1)[:, 0] @ instance.W > 0
        forms = (instance.W * (active * instance.c)[:, None]) @ instance.W.T
        axes = np.linalg.eigh(forms)[1].transpose(0, 2, 1).reshape(-1, 2)
        directions = np.concatenate([np.stack([np.cos(cuts), np.sin(cuts)], axis=-1), axes, -axes])
    return float(growth_at(directions @ instance.W, instance.c).min())
