"""Formulas at given matrices: exactly, with symbolic entries, or as fast functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import sympy
from numpy import ndarray

from theory.proof.notation import Entry, at, d, delta, identity, m

Rows = Sequence[Sequence[Any]]

_EYE = sympy.MatrixSymbol("I", d, d)
_NUMPY = [{"Entry": lambda M: M[0, 0], "Determinant": np.linalg.det, "Trace": np.trace}, "numpy"]


@cache
def numeric(formula: sympy.Basic, *arguments: sympy.Basic) -> Callable[..., Any]:
    """The formula as a numpy function of these symbols: matrices for matrix symbols, vectors as columns."""
    return cast(Callable[..., Any], sympy.lambdify(arguments, formula, [{"Trace": np.trace}, "numpy"]))


def generic(symbol: sympy.MatrixSymbol, rows: int, columns: int) -> list[list[sympy.Symbol]]:
    """Real symbols for the entries of a matrix symbol, as rows for `notation.at`."""
    return [[sympy.Symbol(f"{symbol.name}_{i}{j}", real=True) for j in range(columns)] for i in range(rows)]


def exactly(formula: sympy.Basic, matrices: Mapping[sympy.MatrixSymbol, Rows]) -> Any:
    """The formula at matrices of exact or symbolic entries: a number, or an explicit matrix."""
    size = next(len(rows) for symbol, rows in matrices.items() if symbol.shape[0] == d)
    formula = formula.replace(Entry, sympy.Trace).subs(identity, _EYE)
    value = at(formula, {**matrices, _EYE: sympy.eye(size).tolist()})
    return sympy.ImmutableMatrix(value.as_explicit()) if value.is_Matrix else value


@cache
def _compiled(formula: sympy.Basic, symbols: tuple[sympy.Basic, ...]) -> Callable[..., Any]:
    return cast(Callable[..., Any], sympy.lambdify((*symbols, d, m, _EYE), formula.subs(identity, _EYE), _NUMPY))


def numerically(formula: sympy.Basic, matrices: Mapping[sympy.MatrixSymbol, ndarray]) -> Any:
    """The formula at float matrices (columns for vectors), compiled once: a number, or a matrix. `delta` is needed."""
    rows, columns = matrices[delta].shape
    return _compiled(formula, tuple(matrices))(*matrices.values(), rows, columns, np.eye(rows))
