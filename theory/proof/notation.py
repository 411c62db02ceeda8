"""The symbols that the statements are written in, and how formulas are shown.

A statement's formula is one sympy expression. `latex` and `text` show it, `at` evaluates it exactly at given matrices,
`exactly` with symbolic entries, `numerically` and `numeric` as fast functions of arrays;
nothing else in the project writes a formula of the theory down a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import sympy
from numpy import ndarray
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

d, m, i, j, k = sympy.symbols("d m i j k", integer=True, positive=True)
Delta, kappa, rho, eta = sympy.symbols("Delta kappa rho eta", positive=True)
a, t, x1, y, ell = sympy.symbols("a t x_1 y ell", real=True)
"""Scalars: a location, t a ratio in [0, 1), ell the loss at the minimum."""
gap = sympy.Symbol("E", positive=True)
"""The divergence that a minimum tolerates, the paper's calligraphic E."""

W = sympy.MatrixSymbol("W", d, m)
theta = sympy.MatrixSymbol("theta", d, m)
delta = sympy.MatrixSymbol("delta", d, m)
b = sympy.MatrixSymbol("b", m, 1)
x = sympy.MatrixSymbol("x", d, 1)
G = sympy.MatrixSymbol("G", m, m)
mu_delta = sympy.MatrixSymbol("mu_delta", d, 1)
Sigma_delta = sympy.MatrixSymbol("Sigma_delta", d, d)
identity = sympy.Identity(d)
sigma = sympy.IndexedBase("sigma", positive=True)
"""sigma[i]: the eigenvalues of Sigma_delta^-1 = I + delta W^T / m, rising with i."""
p, p_hat = sympy.symbols("p p_hat")
theta_star = sympy.MatrixSymbol("theta^*", d, m)

A = delta * W.T / m
"""A = delta W^T / m."""
c = delta * b / m
"""c = delta b / m."""
_NUMERALS = ("i", "ii", "iii", "iv", "v", "vi")
_NAMES = {"p_hat": r"\hat{p}", "mu_delta": r"\mu_\delta", "Sigma_delta": r"\Sigma_\delta", "ell": r"\ell"}
Rows = Sequence[Sequence[Any]]
_EYE = sympy.MatrixSymbol("I", d, d)


class Operator(sympy.Function):
    """A function symbol that prints itself by a pattern; `{0}`, `{1}`, ... stand for its arguments."""

    latex_pattern = ""
    text_pattern = ""
    open_ended = False
    is_commutative = True  # a number, whatever matrices it is of

    def _eval_is_extended_real(self) -> bool:
        return True  # so that norms, losses and divergences can stand in inequalities

    def _shown(self, printer: Any, opening: str, closing: str) -> list[str]:
        """The arguments as printed; a sum or product at the open end of the pattern is put in brackets."""
        shown = [printer._print(argument) for argument in self.args]
        if self.open_ended and (self.args[-1].is_Add or self.args[-1].is_Mul):
            shown[-1] = f"{opening}{shown[-1]}{closing}"
        return shown

    def _latex(self, printer: LatexPrinter, exp: object = None) -> str:
        shown = self.latex_pattern.format(*self._shown(printer, r"\left[", r"\right]"))
        return shown if exp is None else rf"\left({shown}\right)^{{{exp}}}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return self.text_pattern.format(*self._shown(printer, "[", "]"))


def operator(name: str, latex: str, text: str) -> type[Operator]:
    """A new function symbol, printed by the given patterns."""
    return type(name, (Operator,), {"latex_pattern": latex, "text_pattern": text, "open_ended": text[-1] == "}"})


Loss = operator("Loss", r"\mathcal{{L}}(x; {0}, {1})", "L(x; {0}, {1})")
"""Loss(theta, p): the pointwise score-matching loss |s_theta(x) - grad log p(x)|^2."""
Divergence = operator("Divergence", r"D({0} \,|\, {1})", "D({0} | {1})")
KL = operator("KL", r"\mathrm{{KL}}({0} \,\|\, {1})", "KL({0} || {1})")
Expectation = operator("Expectation", r"\mathbb{{E}}_{{{0}}}\left[{1}\right]", "E_{0}[{1}]")
SquaredNorm = operator("SquaredNorm", r"\left\|{0}\right\|^2", "|{0}|^2")
Norm = operator("Norm", r"\left\|{0}\right\|", "|{0}|")
SpectralNorm = operator("SpectralNorm", r"\left\|{0}\right\|_{{\mathrm{{op}}}}", "|{0}|_op")
Gradient = operator("Gradient", r"\nabla {0}", "grad {0}")
Normal = operator("Normal", r"\mathcal{{N}}\left({0}, {1}\right)", "N({0}, {1})")
Maximum = operator("Maximum", r"\max_{{{0}}} {1}", "max over {0} of {1}")
Infimum = operator("Infimum", r"\inf_{{{0}}} {1}", "inf over {0} of {1}")
ForAll = operator("ForAll", r"\forall\, {0}:\; {1}", "for all {0}: {1}")
Exists = operator("Exists", r"\exists\, {0}:\; {1}", "there is {0}: {1}")
Implies = operator("Implies", r"{0} \;\Rightarrow\; {1}", "{0} implies {1}")
Iff = operator("Iff", r"{0} \;\Longleftrightarrow\; {1}", "{0} iff {1}")
Both = operator("Both", r"{0},\quad {1}", "{0} and {1}")
Clauses = operator(
    "Clauses", r"\text{{(i) }}{0};\quad \text{{(ii) }}{1};\quad \text{{(iii) }}{2}", "(i) {0}; (ii) {1}; (iii) {2}"
)


@cache
def _clauses(count: int) -> type[Operator]:
    numbered = list(enumerate(_NUMERALS[:count]))
    return operator(
        f"Clauses{count}",
        r";\quad ".join(rf"\text{{{{({numeral}) }}}}{{{place}}}" for place, numeral in numbered),
        "; ".join(f"({numeral}) {{{place}}}" for place, numeral in numbered),
    )


def clauses(*parts: sympy.Basic) -> sympy.Basic:
    """Up to six numbered clauses of one statement."""
    return _clauses(len(parts))(*parts)


LargestEigenvalue = operator("LargestEigenvalue", r"\lambda_{{\max}}\left({0}\right)", "lambda_max({0})")
Distributed = operator("Distributed", r"{0} \sim {1}", "{0} ~ {1}")
PositiveDefinite = operator("PositiveDefinite", r"{0} \succ 0", "{0} positive definite")
Entry = operator("Entry", "{0}", "{0}")
"""Entry(M): the number in a 1 by 1 matrix."""
Entry.open_ended = False
Words = operator("Words", r"\text{{{0}}}", "{0}")
"""Words(Symbol("...")): a condition that is said, not written as a formula."""


def words(text: str) -> sympy.Basic:
    """A condition in words, inside a formula."""
    return Words(sympy.Symbol(text))


class _Latex(LatexPrinter):
    def _print_Symbol(self, expr: sympy.Symbol, style: str = "plain") -> str:
        return _NAMES.get(expr.name) or super()._print_Symbol(expr, style)

    def _print_MatrixSymbol(self, expr: sympy.MatrixSymbol) -> str:
        return _NAMES.get(expr.name) or super()._print_MatrixSymbol(expr)

    def _print_Identity(self, expr: sympy.Identity, exp: object = None) -> str:
        return "I"

    def _print_Transpose(self, expr: sympy.Transpose) -> str:
        return rf"{self.parenthesize(expr.arg, 100)}^\top"

    def _print_Words(self, expr: Operator) -> str:
        return rf"\text{{{expr.args[0].name}}}"


class _Text(StrPrinter):
    def _print_Transpose(self, expr: sympy.Transpose) -> str:
        return f"{self.parenthesize(expr.arg, 100)}^T"

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        return super()._print_Pow(expr, rational).replace("**", "^")

    def _print_Inverse(self, expr: sympy.Inverse) -> str:
        return f"{self.parenthesize(expr.arg, 100)}^-1"

    def _print_Words(self, expr: Operator) -> str:
        return str(expr.args[0].name)

    def _print_Relational(self, expr: sympy.Rel) -> str:
        sign = {"==": "="}.get(expr.rel_op, expr.rel_op)
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"


def latex(formula: sympy.Basic) -> str:
    """The formula in LaTeX, without dollar signs."""
    return _Latex({"mat_str": "matrix", "fold_short_frac": False}).doprint(formula)


def text(formula: sympy.Basic) -> str:
    """The formula on one line of plain text."""
    return _Text({"order": "none"}).doprint(formula)


def exact_matrix(rows: Sequence[Sequence[object]]) -> sympy.ImmutableMatrix:
    """A matrix of exact rationals; strings such as "9/5" and integers are taken as they are, floats refused."""
    entries = [
        [sympy.Rational(entry) if isinstance(entry, str) else sympy.sympify(entry) for entry in row] for row in rows
    ]
    if any(entry.is_Float for row in entries for entry in row):
        raise ValueError(f"rows is {rows!r}; allowed: exact numbers, no floats")
    return sympy.ImmutableMatrix(entries)


def at(formula: sympy.Basic, matrices: Mapping[sympy.MatrixSymbol, Sequence[Sequence[object]]], **sizes: Any) -> Any:
    """The formula evaluated exactly at the given matrices (rows of rationals); `d` and `m` follow from W or delta.

    Args:
        formula: an expression in this module's symbols.
        matrices: a value for each matrix symbol of the formula.
        sizes: d or m, where no matrix says them.
    """
    values = {symbol: exact_matrix(rows) for symbol, rows in matrices.items()}
    known: dict[sympy.Symbol, Any] = {{"d": d, "m": m}[name]: sympy.Integer(size) for name, size in sizes.items()}
    for symbol, value in values.items():
        for size, length in zip(symbol.shape, value.shape, strict=True):
            if size in (d, m):
                known[size] = sympy.Integer(length)
    concrete = formula.subs(known)
    for symbol, value in values.items():
        concrete = concrete.subs(sympy.MatrixSymbol(symbol.name, *value.shape), value)
    return concrete.doit()


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
