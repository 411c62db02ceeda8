"""Theorem T11: the law of the samples of a perturbed score, by the reverse SDE and by the probability-flow ODE.

Holds: (i) p_SDE = p*exp(2*I)/Z; (ii) linear activation implies p_SDE = N((2/m)*((-2/m)*delta*W^T + I)^-1*delta*b, ((-2/m)*delta*W^T + I)^-1); (iii) x_tau ~ N(c_a*(-1 + exp(a*tau/2))/a, exp(a*tau)); (iv) KL(p_tau || p_SDE) <= KL(p_0 || p_SDE)*exp(tau*(-1 + 2*lambda_max(1/m*delta*W^T)))

p = N(0, I), a variance-preserving process, and a score off by the same v(x) = delta phi(x)/m = grad I(x) at all times;
tau = -log alpha_bar. p_tau is the law of the reverse SDE's samples and p_SDE its limit, x_tau a sample of the ODE, from
N(0, I); a is an eigenvalue of A = delta W^T/m, c_a the coordinate of c = delta b/m along its eigenvector, Z the
normaliser. (i) The SDE is Langevin's for e^(2I) p, which is p_hat at -2 delta: not at delta, whose density Theorem 3.3
names, nor at -delta, whose score the model has. The factor 2 is there because the score enters the reverse drift alone,
and the forward drift is not perturbed with it. (ii), (iii) With a linear activation all laws are Gaussian; the ODE's does
not converge. (iv) The SDE forgets its start and errors made long ago; the ODE keeps all of them.

How tight: (i) to (iii) are exact; (iv) is reached by a start whose mean alone is off, along the top eigenvector.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.model.gaussians import Gaussian, kl_divergence
from theory.model.perturbations import perturbed_noise, project_admissible
from theory.model.sampling import ode_law, sde_law
from theory.proof import notation, strategies
from theory.proof.notation import (
    KL,
    A,
    Distributed,
    Implies,
    LargestEigenvalue,
    Normal,
    clauses,
    delta,
    exactly,
    identity,
    numeric,
    p,
    words,
)
from theory.proof.notation import c as shift
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    quadrature,
    symbolic,
)

tau = sympy.Symbol("tau", positive=True)
value, pull = sympy.symbols("a c_a", real=True)
"""An eigenvalue of A, and the coordinate of c along its eigenvector."""
start_mean, start_variance = sympy.symbols("mu_0 V_0", real=True)
law, limit_law, first_law, ode, potential, normaliser = sympy.symbols("p_tau p_SDE p_0 x_tau I Z")

RATE = sympy.Rational(1, 2) - value
SDE_MEAN = sympy.exp(-RATE * tau) * start_mean + (1 - sympy.exp(-RATE * tau)) * pull / RATE
SDE_VARIANCE = sympy.exp(-2 * RATE * tau) * start_variance + (1 - sympy.exp(-2 * RATE * tau)) / (2 * RATE)
"""Of the reverse SDE along an eigenvector of A, from any Gaussian."""
ODE_MEAN = sympy.exp(value * tau / 2) * start_mean + pull * (sympy.exp(value * tau / 2) - 1) / value
ODE_VARIANCE = sympy.exp(value * tau) * start_variance
LIMIT_COVARIANCE = sympy.Inverse(identity - 2 * A)
LIMIT_MEAN = 2 * LIMIT_COVARIANCE * shift
LIMIT = sympy.exp(2 * potential) * p / normaliser
FORGETTING = sympy.exp(-(1 - 2 * LargestEigenvalue(A)) * tau)


def _the_limit_is_stationary() -> Iterable[Comparison]:
    """The current rho (-x/2 + grad I - grad log rho / 2) of e^(2I) p vanishes, for any I, in one and two dimensions."""
    for size in (1, 2):
        x = sympy.symbols(f"x_1:{size + 1}", real=True)
        field = sympy.Function("I")(*x)
        logarithm = sympy.expand_log(sympy.log(LIMIT), force=True)
        logarithm = logarithm.subs(sympy.log(p), -sum(entry**2 for entry in x) / 2).subs(potential, field)
        for entry in x:
            current = -entry / 2 + sympy.diff(field, entry) - sympy.diff(logarithm, entry) / 2
            yield equal(f"current over the density along {entry} of {size}", sympy.expand(current), 0)


def _drifts() -> Iterable[Comparison]:
    """Forward dx = -x/2 dtau + dw; backward the drift is x/2 + s for the SDE and x/2 + s/2 for the ODE, s = -x + v."""
    x, v = sympy.symbols("x v", real=True)
    score = -x + v
    yield equal("SDE's drift", sympy.expand(x / 2 + score - (-x / 2 + v)), 0)
    yield equal("ODE's drift", sympy.expand((x + score) / 2 - v / 2), 0)


def _moments_solve_their_equations() -> Iterable[Comparison]:
    rates = [("SDE", SDE_MEAN, SDE_VARIANCE, value - sympy.Rational(1, 2), pull, 1)]
    rates.append(("ODE", ODE_MEAN, ODE_VARIANCE, value / 2, pull / 2, 0))
    for name, mean, variance, slope, push, spread in rates:
        yield equal(f"{name}: mean' - its drift", sympy.simplify(sympy.diff(mean, tau) - slope * mean - push), 0)
        drift = 2 * slope * variance + spread
        yield equal(f"{name}: variance' - its drift", sympy.simplify(sympy.diff(variance, tau) - drift), 0)
        yield equal(f"{name}: mean at the start", sympy.simplify(mean.subs(tau, 0)), start_mean)
        yield equal(f"{name}: variance at the start", sympy.simplify(variance.subs(tau, 0)), start_variance)


def _limits() -> Iterable[Comparison]:
    """For a < 1/2, a = 1/2 - r with r > 0."""
    rate = sympy.Symbol("r", positive=True)
    at = {value: sympy.Rational(1, 2) - rate}
    variance = sympy.limit(SDE_VARIANCE.subs(at), tau, sympy.oo)
    yield equal("limit of the variance - 1/(1 - 2a)", sympy.simplify(variance - (1 / (1 - 2 * value)).subs(at)), 0)
    mean = sympy.limit(SDE_MEAN.subs(at), tau, sympy.oo)
    yield equal("limit of the mean - 2 c/(1 - 2a)", sympy.simplify(mean - (2 * pull / (1 - 2 * value)).subs(at)), 0)


def _four_densities() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0, delta = 1/5, tau = 12: the SDE's limit, the ODE's law, and Theorem 3.3's densities."""
    fifth = sympy.Rational(1, 5)
    variance = exactly(LIMIT_COVARIANCE, {delta: [[fifth]], notation.W: [[1]]})[0]
    yield equal("limit of the SDE's variance", variance, sympy.Rational(5, 3))
    yield different("which is not that of p_hat at delta, 1/(1 + a)", variance, 1 / (1 + fifth))
    yield different("nor that of p_hat at -delta, whose score the model has", variance, 1 / (1 - fifth))
    flow = ODE_VARIANCE.subs({value: fifth, tau: 12, start_variance: 1})
    yield equal("ODE's variance", flow, sympy.exp(sympy.Rational(12, 5)))
    yield at_most("6 times the SDE's limit, against it", 6 * variance, flow)


def _forgetting_is_reached() -> Iterable[Comparison]:
    """A start of the limit's variance whose mean is off by h: KL = h^2 e^(-2 r tau)/(2 V), r = 1/2 - a."""
    off = sympy.Symbol("h", real=True)
    rate = sympy.Symbol("r", positive=True)
    at = {value: sympy.Rational(1, 2) - rate}
    limit_mean, limit_variance = (pull / rate).subs(at), 1 / (2 * rate)
    mean = SDE_MEAN.subs(at).subs(start_mean, limit_mean + off)
    variance = SDE_VARIANCE.subs(at).subs(start_variance, limit_variance)
    yield equal("variance - the limit's", sympy.simplify(variance - limit_variance), 0)
    divergence = (mean - limit_mean) ** 2 / (2 * limit_variance)
    claimed = FORGETTING.subs(LargestEigenvalue(A), at[value]) * off**2 / (2 * limit_variance)
    yield equal("KL - the bound", sympy.simplify(divergence - claimed), 0)


@dataclass(frozen=True)
class Sampling:
    """A model with a perturbation of its score, a time, and the Gaussian that sampling starts from."""

    model: strategies.Perturbed
    time: float
    start: Gaussian

    @property
    def field(self) -> tuple[ndarray, ndarray]:
        """A (d, d), symmetric or not, and c (d,)."""
        m = self.model.m
        return self.model.delta @ self.model.W.T / m, self.model.delta @ self.model.b / m


@st.composite
def samplings(draw: st.DrawFn, admissible: bool = True) -> Sampling:
    """A's eigenvalues within +-.45, so that 1 - 2a is above 0; times from none to many; starts N(0, I) and others."""
    rng = np.random.default_rng(draw(strategies.seeds))
    d, m, rank = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    W = rng.standard_normal((d, rank)) @ rng.standard_normal((rank, m))
    delta_value = rng.standard_normal((d, m))
    if admissible:
        delta_value = project_admissible(delta_value, W)
    size = float(np.linalg.norm(delta_value @ W.T / m, 2))
    scaled = delta_value * (draw(st.sampled_from([1e-3, 0.1, 0.45])) / float(np.fmax(size, 1e-3)))
    root, mean = 0 * np.eye(d), np.zeros(d)
    if draw(st.booleans()):
        root, mean = rng.standard_normal((d, d)), rng.standard_normal(d)
    start = Gaussian(mean, root @ root.T + np.eye(d))
    model = strategies.Perturbed(W, rng.standard_normal(m), scaled)
    return Sampling(model, draw(st.sampled_from([0.0, 0.1, 2.0, 12.0])), start)


def evolved(drift: ndarray, push: ndarray, spread: float, time: float, start: Gaussian) -> tuple[ndarray, ndarray]:
    """Mean and covariance of dx = (drift x + push) dtau + sqrt(spread) dw: Taylor's series over a short time, doubled.

    A doubling joins a time with itself: the map E becomes E E, the shift h is E h + h, the noise N is E N E^T + N.
    """
    size = len(push)
    length = max(float(np.linalg.norm(drift)) * time, 0.1)
    doublings = int(np.ceil(np.log2(length / 0.1)))
    step = time / 2**doublings
    map_, integral, noise = np.eye(size), np.zeros((size, size)), np.zeros((size, size))
    power, product, factor = np.eye(size), spread * np.eye(size), 1.0
    for order in range(1, 12):  # .1^11 / 11! is below rounding
        factor *= step / order
        integral, noise = integral + factor * power, noise + factor * product
        power, product = drift @ power, drift @ product + product @ drift.T
        map_ = map_ + factor * power
    shift = integral @ push
    for _ in range(doublings):
        shift, noise, map_ = map_ @ shift + shift, map_ @ noise @ map_.T + noise, map_ @ map_
    return map_ @ start.mean + shift, map_ @ start.covariance @ map_.T + noise


BECAUSE = "rounding, doubled at most a dozen times"


def check_laws(instance: Sampling) -> Iterable[Comparison]:
    """Mean and covariance at the time, from the moments' equations, against the formulas along A's eigenvectors."""
    A_value, c_value = instance.field
    values, vectors = np.linalg.eigh((A_value + A_value.T) / 2)
    arguments = (value, pull, tau, start_mean, start_variance)
    first = vectors.T @ instance.start.mean
    second = vectors.T @ instance.start.covariance @ vectors
    safe = np.where(np.abs(values) < 1e-6, 1e-6, values)  # the formulas' 0/0 at a = 0, off by 1e-6 of the time
    identity_ = np.eye(len(values))
    cases = (
        ("SDE", A_value - identity_ / 2, c_value, 1.0, SDE_MEAN, SDE_VARIANCE, values),
        ("ODE", A_value / 2, c_value / 2, 0.0, ODE_MEAN, ODE_VARIANCE, safe),
    )
    for name, drift, push, spread, mean, variance, own in cases:
        law = evolved(drift, push, spread, instance.time, instance.start)
        expected = numeric(mean, *arguments)(own, vectors.T @ c_value, instance.time, first, np.diag(second))
        size = 1 + float(np.abs(law[1]).max() + np.abs(law[0]).max())
        slack = 3e-5 * size if (safe != values).any() and name == "ODE" else 1e-9 * size
        yield equal(f"{name}'s mean", vectors.T @ law[0], expected, slack, BECAUSE)
        variances = numeric(variance, *arguments)(own, vectors.T @ c_value, instance.time, first, np.diag(second))
        yield equal(f"{name}'s variances", np.diag(vectors.T @ law[1] @ vectors), variances, slack, BECAUSE)


def check_limit(instance: Sampling) -> Iterable[Comparison]:
    """The SDE's law after a long time against the Gaussian of the formula, and how fast it is forgotten."""
    A_value, c_value = instance.field
    identity_ = np.eye(len(c_value))
    drift = A_value - identity_ / 2
    slowest = 1 - 2 * float(np.linalg.eigvalsh((A_value + A_value.T) / 2)[-1])
    mean, covariance = evolved(drift, c_value, 1.0, 80 / slowest, instance.start)
    claimed = np.linalg.inv(identity_ - 2 * A_value)
    yield equal("covariance in the limit", covariance, claimed, 1e-8 * (1 + np.abs(claimed).max()), BECAUSE)
    yield equal("mean in the limit", mean, 2 * claimed @ c_value, 1e-8 * (1 + np.abs(mean).max()), BECAUSE)
    limit = Gaussian(mean, (covariance + covariance.T) / 2)
    now = Gaussian(*evolved(drift, c_value, 1.0, instance.time, instance.start))
    first = kl_divergence(instance.start, limit)
    bound = first * float(np.exp(-slowest * instance.time))
    yield at_most("KL left after the time", kl_divergence(now, limit), bound, 1e-7 * (1 + first), BECAUSE)


def check_functions(instance: Sampling) -> Iterable[Comparison]:
    """`sde_law` and `ode_law` against the moments' equations; the limit against the density of -2 delta."""
    model, (A_value, c_value) = instance.model, instance.field
    arguments = (model.delta, model.W, model.b)
    identity_ = np.eye(model.d)
    for name, law, drift, push, spread in (
        ("SDE", sde_law(*arguments, instance.time, instance.start), A_value - identity_ / 2, c_value, 1.0),
        ("ODE", ode_law(*arguments, instance.time, instance.start), A_value / 2, c_value / 2, 0.0),
    ):
        mean, covariance = evolved(drift, push, spread, instance.time, instance.start)
        slack = 1e-9 * (1 + float(np.abs(covariance).max() + np.abs(mean).max()))
        yield equal(f"{name}'s mean", law.mean, mean, slack, BECAUSE)
        yield equal(f"{name}'s covariance", law.covariance, covariance, slack, BECAUSE)
    limit, named = sde_law(*arguments), perturbed_noise(-2 * model.delta, model.W, model.b)
    slack = 1e-9 * float(1 + np.abs(named.covariance).max() + np.abs(named.mean).max())
    yield equal(
        "limit's covariance against that of p_hat at -2 delta", limit.covariance, named.covariance, slack, BECAUSE
    )
    yield equal("limit's mean against that of p_hat at -2 delta", limit.mean, named.mean, slack, BECAUSE)


def sampled(steps: int, a: float, kind: str, length: float = 12.0) -> float:
    """The variance of samples after DDPM's ancestral or DDIM's steps on the line, with the score -x + a x."""
    bars = np.exp(-length * np.arange(1, steps + 1) / steps)
    variance = 1.0
    for index in range(steps - 1, -1, -1):
        bar, before = bars[index], bars[index - 1] if index else 1.0
        slope = a - 1
        if kind == "ancestral":
            beta = 1 - bar / before
            variance = ((1 + beta * slope) / np.sqrt(1 - beta)) ** 2 * variance + beta
        else:
            factor = np.sqrt(before / bar) * (1 + (1 - bar) * slope) - np.sqrt((1 - before) * (1 - bar)) * slope
            variance = factor**2 * variance
    return float(variance)


def _by_the_samplers_own_steps() -> Iterable[Comparison]:
    """a = 1/5, tau = 12: the discrete samplers' variances near the laws', as 1/steps; DDIM's as log(steps)/steps."""
    model = (np.array([[0.2]]), np.ones((1, 1)), np.zeros(1))
    for kind, law in (("ancestral", sde_law(*model, 12.0)), ("ddim", ode_law(*model, 12.0))):
        exact = float(law.covariance[0, 0])
        errors = [abs(sampled(steps, 0.2, kind) - exact) for steps in (2000, 4000)]
        yield at_most(f"{kind}: error at 4000 steps over that at 2000", errors[1] / errors[0], 0.6)
        because = "twice the error at 2000 steps"
        yield equal(f"{kind}: variance at 4000 steps", sampled(4000, 0.2, kind), exact, 2 * errors[0], because)


def check(instance: Sampling) -> Iterable[Comparison]:
    """All three."""
    yield from check_laws(instance)
    yield from check_limit(instance)
    yield from check_functions(instance)


_converges = sympy.Eq(limit_law, LIMIT, evaluate=False)
_gaussian = Implies(
    words("linear activation"), sympy.Eq(limit_law, Normal(LIMIT_MEAN, LIMIT_COVARIANCE), evaluate=False)
)
_at_rest = {start_mean: 0, start_variance: 1}
_flows = Distributed(ode, Normal(ODE_MEAN.subs(_at_rest), ODE_VARIANCE.subs(_at_rest)))
_forgets = sympy.Le(KL(law, limit_law), FORGETTING * KL(first_law, limit_law))

STATEMENT = Statement(
    label="theorem-t11",
    title="the law of the samples under a perturbed score",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "With the score off by a constant gradient grad I the reverse SDE's samples converge to e^(2I) p, the "
        "perturbed density of -2 delta, and forget how they began; the probability-flow ODE's have the variance "
        "e^(a tau) and do not converge. So ancestral sampling forgets weight errors, and DDIM accumulates them."
    ),
    printed=None,
    holds=clauses(_converges, _gaussian, _flows, _forgets),
    conditions=(
        "p = N(0, I), a variance-preserving process, the score exact but for the same admissible delta at all times",
        "(i), (ii), (iv): I - 2 delta W^T/m positive definite",
        "(ii) to (iv): linear activation",
    ),
    evidence=(
        symbolic("e^(2I) p has no current, whatever I is", _the_limit_is_stationary),
        symbolic("the drifts of both samplers", _drifts),
        symbolic("means and variances solve their equations", _moments_solve_their_equations),
        symbolic("the limits of the SDE's moments", _limits),
        counterexample("the SDE's limit is neither of the densities of Theorem 3.3", _four_densities),
        symbolic("how tight: the rate of forgetting is reached", _forgetting_is_reached),
        holds_for_all(
            "both laws at any time from any Gaussian, the limit and its rate, and the functions", samplings(), check
        ),
        fails_without("delta W^T symmetric", samplings(admissible=False), check_laws),
        fails_without("delta W^T symmetric, for the limit", samplings(admissible=False), check_limit),
        quadrature("by the samplers' own steps, DDPM's and DDIM's", _by_the_samplers_own_steps),
    ),
)
