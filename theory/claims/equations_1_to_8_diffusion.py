"""Section 2.2, Equations (1) to (8): the score, the two SDEs, the objective, and DDPM's chain.

Printed (equation-1): grad log(p)

Holds (equation-1): grad log(p)

Printed (equation-2): dx = dt*f + dw*g

Holds (equation-2): dx = dt*f + dw*g

Printed (equation-3): dx = dt*(f - g^2*grad log(p_t)) + dwbar*g

Holds (equation-3): dx = dt*(f - g^2*grad log(p_t)) + dwbar*g

Printed (equation-4): E_t[lambda_t*E_p_t[|s_theta - grad log(p_t)|^2]]

Holds (equation-4): E_t[lambda_t*E_p_t[|s_theta - grad log(p_t)|^2]]

Printed (equation-5): q(x[t] | x[-1 + t]) = N(sqrt(1 - beta[t])*x[-1 + t], I*beta[t])

Holds (equation-5): q(x[t] | x[-1 + t]) = N(sqrt(1 - beta[t])*x[-1 + t], I*beta[t])

Printed (equation-6): q(x[-1 + t] | x[t]) = N(mutilde, I*betatilde[t])

Holds (equation-6): q(x[-1 + t] | x[t], x[0]) = N(mutilde, I*betatilde[t])

Printed (equation-7): mutilde = sqrt(alphabar[t])*(1 - alphabar[-1 + t])*x[t]/(1 - alphabar[t]) + sqrt(alphabar[t])*x[0]*beta[t]/(1 - alphabar[t])

Holds (equation-7): mutilde = sqrt(alpha[t])*(1 - alphabar[-1 + t])*x[t]/(1 - alphabar[t]) + sqrt(alphabar[-1 + t])*x[0]*beta[t]/(1 - alphabar[t])

Printed (equation-8): betatilde[t] = (1 - alphabar[-1 + t])*beta[t]/(1 - alphabar[t])

Holds (equation-8): betatilde[t] = (1 - alphabar[-1 + t])*beta[t]/(1 - alphabar[t])

f is the SDE's drift, g its diffusion coefficient, w and wbar Wiener processes forward and backward in time; q is the
forward chain's law, alpha[t] = 1 - beta[t] and alphabar[t] their product. (6) and (7) are what DDPM has (Ho et al.,
2020, Eqs. (6) and (7)) but for the conditioning on x_0, and for the index of one alphabar and the bar of the other:
printed, the weight of x_t is sqrt(alphabar[t-1]) times what it should be, which on DDPM's linear schedule is .28 half
way and .006 at the last step. Nothing in the paper is computed from them.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import sympy

from theory.proof import notation
from theory.proof.notation import Expectation, Gradient, Normal, SquaredNorm, p
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    counterexample,
    different,
    equal,
    less,
    symbolic,
)

Given = notation.operator("Given", r"q\left({0} \,\middle|\, {1}\right)", "q({0} | {1})")
Pair = notation.operator("Pair", "{0}, {1}", "{0}, {1}")
Pair.open_ended = False

step = sympy.Symbol("t", integer=True, positive=True)
time, place = sympy.symbols("t x", real=True)
beta, alpha, alpha_bar = (sympy.IndexedBase(name, positive=True) for name in ("beta", "alpha", "alphabar"))
state = sympy.IndexedBase("x")
score, weight = sympy.Symbol("s_theta"), sympy.Symbol("lambda_t", positive=True)
p_t = sympy.Symbol("p_t")
drift, diffusion = sympy.symbols("f g")
dx, dt, dw, dw_bar = sympy.symbols("dx dt dw dwbar")

SCORE = Gradient(sympy.log(p))
FORWARD = sympy.Eq(dx, drift * dt + diffusion * dw, evaluate=False)
REVERSE = sympy.Eq(dx, (drift - diffusion**2 * Gradient(sympy.log(p_t))) * dt + diffusion * dw_bar, evaluate=False)
OBJECTIVE = Expectation(sympy.Symbol("t"), weight * Expectation(p_t, SquaredNorm(score - Gradient(sympy.log(p_t)))))
FORWARD_STEP = sympy.Eq(
    Given(state[step], state[step - 1]),
    Normal(sympy.sqrt(1 - beta[step]) * state[step - 1], beta[step] * sympy.Symbol("I")),
    evaluate=False,
)
POSTERIOR_MEAN = sympy.Symbol("mutilde")
POSTERIOR_VARIANCE = sympy.IndexedBase("betatilde")
_posterior = Normal(POSTERIOR_MEAN, POSTERIOR_VARIANCE[step] * sympy.Symbol("I"))
PRINTED_BACKWARD = sympy.Eq(Given(state[step - 1], state[step]), _posterior, evaluate=False)
BACKWARD = sympy.Eq(Given(state[step - 1], Pair(state[step], state[0])), _posterior, evaluate=False)


def _mean(of_data: sympy.Expr, of_state: sympy.Expr) -> sympy.Expr:
    data = of_data * beta[step] / (1 - alpha_bar[step]) * state[0]
    return data + of_state * (1 - alpha_bar[step - 1]) / (1 - alpha_bar[step]) * state[step]


PRINTED_MEAN = _mean(sympy.sqrt(alpha_bar[step]), sympy.sqrt(alpha_bar[step]))
MEAN = _mean(sympy.sqrt(alpha_bar[step - 1]), sympy.sqrt(alpha[step]))
VARIANCE = (1 - alpha_bar[step - 1]) / (1 - alpha_bar[step]) * beta[step]


def at(formula: sympy.Expr, alpha_t: Any, before: Any, data: Any = 0, noisy: Any = 0) -> sympy.Expr:
    """A formula of the chain at alpha[t], alphabar[t-1], x_0 and x_t.

    Args:
        formula: in the symbols above.
        alpha_t, before: alpha[t] and alphabar[t-1]; beta[t] and alphabar[t] follow.
        data, noisy: x_0 and x_t.
    """
    values = {
        alpha[step]: alpha_t,
        beta[step]: 1 - alpha_t,
        alpha_bar[step - 1]: before,
        alpha_bar[step]: alpha_t * before,
        state[0]: data,
        state[step]: noisy,
    }
    return sympy.simplify(formula.subs(values, simultaneous=True))


def _score_of_a_gaussian() -> Iterable[Comparison]:
    mean, variance = sympy.Symbol("mu", real=True), sympy.Symbol("v", positive=True)
    log_density = -((place - mean) ** 2) / (2 * variance) - sympy.log(2 * sympy.pi * variance) / 2
    yield equal("gradient of log N(mu, v)", sympy.diff(log_density, place), (mean - place) / variance)
    constant = sympy.Symbol("C", positive=True)
    scaled = sympy.expand_log(sympy.log(constant * sympy.exp(sympy.Symbol("u", real=True) * place)), force=True)
    yield equal("it does not know the normaliser", sympy.diff(scaled, constant, place), 0)


def _linear_sde_gives_the_chain() -> Iterable[Comparison]:
    """f = -b x/2, g = sqrt(b): N(sqrt(a) x_0, 1 - a), a = exp(-b t), solves the Fokker-Planck equation of (2)."""
    rate, start = sympy.symbols("b", positive=True), sympy.Symbol("x_0", real=True)
    now = sympy.Symbol("t", positive=True)
    share = sympy.exp(-rate * now)
    density = sympy.exp(-((place - sympy.sqrt(share) * start) ** 2) / (2 * (1 - share))) / sympy.sqrt(1 - share)
    flow = sympy.diff(-rate * place / 2 * density, place)
    residual = sympy.diff(density, now) + flow - rate / 2 * sympy.diff(density, place, 2)
    yield equal("d/dt p + d/dx (f p) - g^2/2 d^2/dx^2 p", sympy.simplify(residual / density), 0)


def _reverse_has_the_same_marginals() -> Iterable[Comparison]:
    """Fokker-Planck of (3), run backward, has d/dt p of (2); any f, g and positive p, d = 1 and 2."""
    for size in (1, 2):
        places = sympy.symbols(f"x_1:{size + 1}", real=True)
        density = sympy.Function("p", positive=True)(*places, time)
        drifts = [sympy.Function(f"f_{n}")(*places, time) for n in range(size)]
        strength = sympy.Function("g")(time)
        spread = strength**2 / 2 * sum(sympy.diff(density, at_, 2) for at_ in places)
        forward = spread - sum(sympy.diff(f * density, at_) for f, at_ in zip(drifts, places, strict=True))
        reverse = [f - strength**2 * sympy.diff(sympy.log(density), at_) for f, at_ in zip(drifts, places, strict=True)]
        # in s = T - t the drift is that of (3) with its sign turned
        backward = spread + sum(sympy.diff(f * density, at_) for f, at_ in zip(reverse, places, strict=True))
        yield equal(f"d/dt p of (2) plus d/ds p of (3), d={size}", sympy.simplify((forward + backward).doit()), 0)


def _objective_is_least_at_the_score() -> Iterable[Comparison]:
    """Where q(x_t | x_0) has scores g_i at x_t with weights w_i, their mean is grad log p_t, and the losses differ by
    their variance: what denoising score matching trains on has the minimum of (4).
    """
    for number in (2, 3):
        places = sympy.symbols(f"g_1:{number + 1}", real=True)
        shares = sympy.symbols(f"w_1:{number + 1}", positive=True)
        value, total = sympy.Symbol("s", real=True), sum(shares)
        mean = sum(w * g for w, g in zip(shares, places, strict=True)) / total
        spread = sum(w * (g - mean) ** 2 for w, g in zip(shares, places, strict=True)) / total
        denoising = sum(w * (value - g) ** 2 for w, g in zip(shares, places, strict=True)) / total
        difference = sympy.simplify(denoising - (value - mean) ** 2 - spread)
        yield equal(f"E|s - g_i|^2 - |s - mean|^2 - variance, {number} data points", difference, 0)
        kernels = [w * sympy.exp(-((place - sympy.Symbol(f"a_{n}")) ** 2) / 2) for n, w in enumerate(shares)]
        mixture = sympy.diff(sympy.log(sum(kernels)), place)
        weighted = sum(k * sympy.diff(sympy.log(k), place) for k in kernels) / sum(kernels)
        yield equal(f"grad log of a mixture - the weighted mean, {number} parts", sympy.simplify(mixture - weighted), 0)


def _steps_compose() -> Iterable[Comparison]:
    """x_t given x_0 is N(sqrt(alphabar[t]) x_0, 1 - alphabar[t]), by induction over t."""
    alpha_t, before = sympy.symbols("a b", positive=True)
    yield equal("mean", sympy.sqrt(alpha_t) * sympy.sqrt(before), sympy.sqrt(alpha_t * before))
    yield equal("variance", sympy.expand(alpha_t * (1 - before) + (1 - alpha_t)), 1 - alpha_t * before)


def posterior() -> tuple[sympy.Expr, sympy.Expr]:
    """Mean and variance of x[t-1] given x_t and x_0: of the Gaussian with log q(x_t | x) + log q(x | x_0)."""
    x, noisy, data = sympy.symbols("x x_t x_0", real=True)
    alpha_t, before = sympy.symbols("a b", positive=True)
    exponent = -((noisy - sympy.sqrt(alpha_t) * x) ** 2) / (2 * (1 - alpha_t))
    exponent -= (x - sympy.sqrt(before) * data) ** 2 / (2 * (1 - before))
    curvature = -sympy.diff(exponent, x, 2)
    return sympy.solve(sympy.diff(exponent, x), x)[0], 1 / curvature


def _posterior_is_ddpm_s() -> Iterable[Comparison]:
    noisy, data = sympy.symbols("x_t x_0", real=True)
    alpha_t, before = sympy.symbols("a b", positive=True)
    mean, variance = posterior()
    difference = sympy.simplify(mean - at(MEAN, alpha_t, before, data, noisy))
    yield equal("mean by completing the square - the corrected (7)", difference, 0)
    yield equal("variance - (8)", sympy.simplify(variance - at(VARIANCE, alpha_t, before)), 0)


def _variance_is_right() -> Iterable[Comparison]:
    alpha_t, before = sympy.symbols("a b", positive=True)
    yield equal("posterior's variance - (8)", sympy.simplify(posterior()[1] - at(VARIANCE, alpha_t, before)), 0)


QUARTER, EARLIER = sympy.Rational(1, 4), sympy.Rational(4, 9)
"""alpha[t] and alphabar[t-1] of the counterexamples: all roots are rational."""


def _left_side_knows_no_data() -> Iterable[Comparison]:
    """alpha[t] = 1/4, alphabar[t-1] = 4/9: the right side at x_t = 0 for two x_0; the left side for N(0, 1) data."""
    means = [at(MEAN, QUARTER, EARLIER, data, 0) for data in (0, 1)]
    yield different("right side's mean at x_t = 0, for x_0 = 0 and x_0 = 1", *means)
    # for x_0 ~ N(0, 1) both x[t-1] and x_t are N(0, 1) with covariance sqrt(alpha[t])
    yield equal("variance of x[t-1] given x_t alone", 1 - QUARTER, sympy.Rational(3, 4))
    given_both = at(VARIANCE, QUARTER, EARLIER)
    yield less("that given x_0 too, which (8) is, against it", given_both, 1 - QUARTER)


def _printed_mean_is_wrong() -> Iterable[Comparison]:
    """alpha[t] = 1/4, alphabar[t-1] = 4/9, x_0 = x_t = 1."""
    symbols = dict(zip(sympy.symbols("a b x_0 x_t"), (QUARTER, EARLIER, 1, 1), strict=True))
    by_square = posterior()[0]
    values = {symbol: symbols[sympy.Symbol(symbol.name)] for symbol in by_square.free_symbols}
    true = sympy.simplify(by_square.subs(values))
    yield equal("mean by completing the square", true, sympy.Rational(7, 8))
    yield equal("the corrected (7)", at(MEAN, QUARTER, EARLIER, 1, 1), true)
    yield equal("(7) as printed", at(PRINTED_MEAN, QUARTER, EARLIER, 1, 1), sympy.Rational(47, 96))
    yield different("(7) as printed, against the mean", at(PRINTED_MEAN, QUARTER, EARLIER, 1, 1), true)


def linear_schedule(steps: int = 1000) -> list[Fraction]:
    """DDPM's beta_t, from 1e-4 to .02, t = 1, ..., steps."""
    low, high = Fraction(1, 10_000), Fraction(2, 100)
    return [low + (high - low) * Fraction(t, steps - 1) for t in range(steps)]


def _on_ddpm_s_schedule() -> Iterable[Comparison]:
    """The weight of x_t as printed over the true one is sqrt(alphabar[t-1])."""
    alpha_t, before = sympy.symbols("a b", positive=True)
    ratio = at(PRINTED_MEAN, alpha_t, before, 0, 1) / at(MEAN, alpha_t, before, 0, 1)
    yield equal("ratio of the weights of x_t", sympy.simplify(ratio - sympy.sqrt(before)), 0)
    ratio = at(PRINTED_MEAN, alpha_t, before, 1, 0) / at(MEAN, alpha_t, before, 1, 0)
    yield equal("ratio of the weights of x_0", sympy.simplify(ratio - sympy.sqrt(alpha_t)), 0)
    alpha_bar, shares = Fraction(1), [Fraction(1)]
    for noise in linear_schedule():
        alpha_bar *= 1 - noise
        # rounded to 20 digits: far below what is compared
        alpha_bar = Fraction(round(alpha_bar * 10**20), 10**20)
        shares.append(alpha_bar)
    for t, low, high in ((500, "0.27", "0.29"), (1000, "0.006", "0.007")):
        yield less(f"square of {low}, against alphabar[{t - 1}]", Fraction(low) ** 2, shares[t - 1])
        yield less(f"alphabar[{t - 1}], against the square of {high}", shares[t - 1], Fraction(high) ** 2)


STATEMENTS = (
    Statement(
        label="equation-1",
        title="the score function",
        source="Equation (1)",
        verdict=Verdict.HOLDS,
        reason="The definition of the score; it does not depend on the density's normaliser.",
        printed=SCORE,
        holds=SCORE,
        evidence=(symbolic("of a Gaussian, and without a normaliser", _score_of_a_gaussian),),
        paper_labels=("Eq. (1)",),
    ),
    Statement(
        label="equation-2",
        title="the forward SDE",
        source="Equation (2)",
        verdict=Verdict.HOLDS,
        reason="The standard one; with f = -b x/2 and g = sqrt(b) its marginals are those of the chain of Eq. (5).",
        printed=FORWARD,
        holds=FORWARD,
        evidence=(
            symbolic("its marginals for the linear drift, by the Fokker-Planck equation", _linear_sde_gives_the_chain),
        ),
        paper_labels=("Eq. (2)",),
    ),
    Statement(
        label="equation-3",
        title="the reverse SDE",
        source="Equation (3)",
        verdict=Verdict.HOLDS,
        reason="Run backward in time it has the marginals of the forward SDE, for every f, g and positive p_t.",
        printed=REVERSE,
        holds=REVERSE,
        evidence=(symbolic("the two Fokker-Planck equations cancel", _reverse_has_the_same_marginals),),
        paper_labels=("Eq. (3)",),
    ),
    Statement(
        label="equation-4",
        title="the score matching objective",
        source="Equation (4)",
        verdict=Verdict.HOLDS,
        reason=(
            "For weights above 0 it is least at the score, and it differs from the denoising objective that is trained "
            "on by a constant. That the constant is not 0 is why a denoiser's loss cannot vanish."
        ),
        printed=OBJECTIVE,
        holds=OBJECTIVE,
        evidence=(symbolic("it and the denoising objective differ by a variance", _objective_is_least_at_the_score),),
        paper_labels=("Eq. (4)",),
    ),
    Statement(
        label="equation-5",
        title="one step of the forward chain",
        source="Equation (5)",
        verdict=Verdict.HOLDS,
        reason="The steps compose to N(sqrt(alphabar[t]) x_0, (1 - alphabar[t]) I).",
        printed=FORWARD_STEP,
        holds=FORWARD_STEP,
        evidence=(symbolic("the steps compose", _steps_compose),),
        paper_labels=("Eq. (5)",),
    ),
    Statement(
        label="equation-6",
        title="the backward conditional",
        source="Equation (6)",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "The right side is the law of x[t-1] given x_t and x_0; the left side leaves x_0 out. Without x_0 the law "
            "is wider, and Gaussian only for Gaussian data."
        ),
        printed=PRINTED_BACKWARD,
        holds=BACKWARD,
        evidence=(
            counterexample("the right side depends on x_0, and has another variance", _left_side_knows_no_data),
            symbolic("it is the law given x_t and x_0", _posterior_is_ddpm_s),
        ),
        paper_labels=("Eq. (6)",),
    ),
    Statement(
        label="equation-7",
        title="the backward mean",
        source="Equation (7)",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "The weights are sqrt(alphabar[t-1]) on x_0 and sqrt(alpha[t]) on x_t, where sqrt(alphabar[t]) is printed "
            "twice. On DDPM's linear schedule the printed weight of x_t is .28 of the true one at t = 500 and .006 at "
            "t = 1000. DDPM, which is cited, has it right, and nothing is computed from it here."
        ),
        printed=sympy.Eq(POSTERIOR_MEAN, PRINTED_MEAN, evaluate=False),
        holds=sympy.Eq(POSTERIOR_MEAN, MEAN, evaluate=False),
        evidence=(
            counterexample("at alpha[t] = 1/4, alphabar[t-1] = 4/9, x_0 = x_t = 1", _printed_mean_is_wrong),
            symbolic("the corrected mean, by completing the square", _posterior_is_ddpm_s),
            symbolic("how far off, on DDPM's linear schedule", _on_ddpm_s_schedule),
        ),
        paper_labels=("Eq. (7)",),
    ),
    Statement(
        label="equation-8",
        title="the backward variance",
        source="Equation (8)",
        verdict=Verdict.HOLDS,
        reason="It is the variance of x[t-1] given x_t and x_0.",
        printed=sympy.Eq(POSTERIOR_VARIANCE[step], VARIANCE, evaluate=False),
        holds=sympy.Eq(POSTERIOR_VARIANCE[step], VARIANCE, evaluate=False),
        evidence=(symbolic("by the curvature of the exponent", _variance_is_right),),
        paper_labels=("Eq. (8)",),
    ),
)
