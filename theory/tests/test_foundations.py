"""Gaussians, perturbations, features and radii, each against an independent way to the same number."""

from math import comb

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from theory.model import perturbations, random_features
from theory.model.divergences import DIVERGENCES, TAU, excess
from theory.model.gaussians import Gaussian, kl_divergence, squared_wasserstein, standard_normal
from theory.model.perturbations import flat_radius
from theory.model.random_features import ACTIVATIONS, RandomFeatureScore, feature_second_moment, relu_product_moment
from theory.proof import strategies

pytestmark = pytest.mark.usefixtures("shapes_checked")


def test_shapes_are_checked_here() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'W'"):
        perturbations.loss_rise(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(3))


@st.composite
def gaussian_pairs(draw: st.DrawFn) -> tuple[Gaussian, Gaussian]:
    d = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(strategies.seeds))

    def one() -> Gaussian:
        root = rng.standard_normal((d, d + 1))
        return Gaussian(rng.standard_normal(d), root @ root.T + 0.01 * np.eye(d))

    return one(), one()


@given(gaussian_pairs())
def test_log_density_and_kl_against_scipy_and_the_textbook(pair: tuple[Gaussian, Gaussian]) -> None:
    p, q = pair
    x = q.sample(5, np.random.default_rng(0))
    reference = stats.multivariate_normal(p.mean, p.covariance).logpdf(x)
    assert p.log_density(x) == pytest.approx(np.atleast_1d(reference), rel=1e-8, abs=1e-8)  # condition number up to 1e5
    inverse = np.linalg.inv(q.covariance)
    shift = p.mean - q.mean
    textbook = np.trace(inverse @ p.covariance) - p.dimension + shift @ inverse @ shift
    textbook += np.linalg.slogdet(q.covariance)[1] - np.linalg.slogdet(p.covariance)[1]
    assert kl_divergence(p, q) == pytest.approx(textbook / 2, rel=1e-8, abs=1e-10)  # the same
    assert kl_divergence(p, p) == pytest.approx(0, abs=1e-10)


@given(gaussian_pairs())
def test_wasserstein_distance(pair: tuple[Gaussian, Gaussian]) -> None:
    """Against the trace formula with square roots of matrices; symmetric; zero on the diagonal."""
    from scipy.linalg import sqrtm

    p, q = pair
    root = np.real(sqrtm(q.covariance))
    trace = np.trace(p.covariance + q.covariance - 2 * np.real(sqrtm(root @ p.covariance @ root)))
    expected = trace + (p.mean - q.mean) @ (p.mean - q.mean)
    assert squared_wasserstein(p, q) == pytest.approx(expected, rel=1e-7, abs=1e-7)  # sqrtm loses half the digits
    assert squared_wasserstein(q, p) == pytest.approx(squared_wasserstein(p, q), rel=1e-9, abs=1e-12)
    assert squared_wasserstein(p, p) == pytest.approx(0, abs=1e-20)


def test_divergences_of_gaussians_that_almost_coincide_do_not_cancel() -> None:
    tiny = 1e-9
    p, q = standard_normal(3), Gaussian(np.zeros(3), (1 + tiny) * np.eye(3))
    assert kl_divergence(p, q) == pytest.approx(3 * tiny**2 / 4, rel=1e-6)  # tiny itself is stored to 1e-7
    assert squared_wasserstein(p, q) == pytest.approx(3 * tiny**2 / 4, rel=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_kl_of_variances_of_unlike_size(turned: bool) -> None:
    """Below a millionth of the largest, an eigenvalue of p in q's coordinates is lost to rounding: its logarithm then
    comes from p's and q's own. In closed form where both have the same axes."""
    of_p, of_q = np.array([1e-12, 1.0, 300.0]), np.array([2.0, 0.5, 40.0])
    axes = stats.special_ortho_group.rvs(3, random_state=1) if turned else np.eye(3)
    shift = np.array([0.3, -1.0, 2.0])
    p = Gaussian(shift, np.diag(of_p))
    q = Gaussian(np.zeros(3), axes @ np.diag(of_q) @ axes.T)
    inverse = axes @ np.diag(1 / of_q) @ axes.T
    logarithms = np.log(of_p).sum() - np.log(of_q).sum()
    expected = 0.5 * (np.trace(inverse @ np.diag(of_p)) - 3 - logarithms + shift @ inverse @ shift)
    assert kl_divergence(p, q) == pytest.approx(expected, rel=1e-12)  # of terms up to 300, in float64
    # A sixteenth of the digits is left of 1 + (1e-12 / 2 - 1): the other branch would be off by far more
    relative = np.diag(of_p / of_q) if not turned else q.whiten(q.whiten(p.covariance).T)
    eigenvalues = np.linalg.eigvalsh((relative + relative.T) / 2 - np.eye(3)) + 1
    assert eigenvalues[0] < 1e-6 * (1 + eigenvalues[-1])  # so that it is this branch
    assert abs(logarithms) > 20  # and what it computes counts


def test_samples_have_the_moments() -> None:
    covariance = np.array([[2.0, -0.7], [-0.7, 0.5]])
    x = Gaussian(np.array([1.0, -2.0]), covariance).sample(40_000, np.random.default_rng(1))
    assert x.mean(axis=0) == pytest.approx([1, -2], abs=5 * np.sqrt(2 / 40_000))  # five standard errors
    assert np.cov(x.T) == pytest.approx(covariance, abs=5 * np.sqrt(2) * 2 / np.sqrt(40_000))


@given(strategies.admissible())
def test_divergence_by_eigenvalues_is_that_of_the_gaussians(instance: strategies.Perturbed) -> None:
    noise = perturbations.perturbed_noise(instance.delta, instance.W, instance.b)
    p = standard_normal(instance.d)
    eigenvalues = np.linalg.eigvalsh(noise.covariance)
    # the covariance keeps eps of its largest eigenvalue; a divergence that small is not to be had from it
    slack = 1e-13 * eigenvalues[-1] / eigenvalues[0] ** 2
    for name, direct in (
        ("kl", kl_divergence(p, noise)),
        ("reverse_kl", kl_divergence(noise, p)),
        ("w2", squared_wasserstein(p, noise)),
    ):
        value = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b, name)
        assert direct == pytest.approx(value, rel=1e-7, abs=slack * (1 + value))


@given(strategies.weight_matrices(), strategies.seeds)
def test_admissible_basis_and_projection(W: np.ndarray, seed: int) -> None:
    d, m = W.shape
    basis = perturbations.admissible_basis(W)
    rank = perturbations.frame(W).rank
    assert len(basis) == d * m - comb(d, 2) + comb(d - rank, 2)
    flat = basis.reshape(len(basis), -1)
    assert flat @ flat.T == pytest.approx(np.eye(len(basis)), abs=1e-12)
    assert all(perturbations.is_admissible(element, W) for element in basis)
    delta = np.random.default_rng(seed).standard_normal((d, m))
    projected = perturbations.project_admissible(delta, W)
    onto_basis = np.tensordot(flat @ delta.ravel(), basis, 1)
    assert projected == pytest.approx(onto_basis, abs=1e-9)  # s_i / s_j down to 1e-5 is resolved to 1e-11
    assert perturbations.is_admissible(projected, W)
    assert perturbations.project_admissible(projected, W) == pytest.approx(projected, abs=1e-9)


def test_the_basis_holds_every_admissible_direction() -> None:
    """The kernel of delta -> delta W^T - W delta^T, found by singular values, has the dimension of the basis."""
    for d, m, rank in [(1, 3, 1), (3, 2, 2), (4, 6, 2), (3, 3, 0), (5, 1, 1)]:
        rng = np.random.default_rng(d * m)
        W = rng.standard_normal((d, rank)) @ rng.standard_normal((rank, m))
        units = np.eye(d * m).reshape(-1, d, m)
        skew = np.array([(e @ W.T - W @ e.T).ravel() for e in units])
        assert len(perturbations.admissible_basis(W)) == d * m - np.linalg.matrix_rank(skew, tol=1e-9)


def test_excess_near_zero_and_everywhere() -> None:
    from fractions import Fraction

    for t in (1e-12, -1e-7, 3e-3, -9.9e-3, 9.999e-3):
        exact = sum(Fraction((-1) ** n, n) * Fraction(t) ** n for n in range(2, 40))
        assert float(excess(np.array(t))) == pytest.approx(float(exact), rel=4e-16)  # two roundings
    wide = np.array([-0.999, -0.5, 0.3, 7.0])
    assert excess(wide) == pytest.approx(wide - np.log1p(wide), rel=1e-15)


def test_excess_ends_at_minus_one() -> None:
    assert excess(np.array(-1.0)) == np.inf
    for t in (-1.5, -1.0 - 1e-12, float("nan")):
        with pytest.raises(ValueError, match=r"^t (is|has) .*at least -1$"):
            excess(np.array([0.5, t]))


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_numeric_and_symbolic_forms_of_a_divergence_agree(name: str) -> None:
    import sympy

    divergence = DIVERGENCES[name]
    for tau in (sympy.Rational(-9, 10), sympy.Rational(1, 1000), sympy.Rational(5, 2)):
        number = np.array(float(tau))
        assert float(divergence.term(number)) == pytest.approx(float(divergence.term_formula.subs(TAU, tau)), rel=1e-12)
        assert float(divergence.weight(number)) == pytest.approx(float(divergence.weight_formula.subs(TAU, tau)))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_consistent(name: str) -> None:
    """Derivative and antiderivative by central differences, and the Lipschitz constant on a fine grid."""
    sigma = ACTIVATIONS[name]
    z = np.random.default_rng(0).standard_normal(50) * 4
    step = 1e-5
    slope = (sigma(z + step) - sigma(z - step)) / (2 * step)
    assert sigma.derivative(z) == pytest.approx(slope, abs=1e-8)  # step^2 and eps / step
    integral = sigma.antiderivative(z + step) - sigma.antiderivative(z - step)
    assert integral / (2 * step) == pytest.approx(sigma(z), abs=1e-8)
    steepest = np.abs(sigma.derivative(np.linspace(-12, 12, 200_001))).max()
    assert steepest <= sigma.lipschitz + 1e-12
    assert steepest == pytest.approx(sigma.lipschitz, rel=1e-4)  # softplus only tends to 1


@pytest.mark.parametrize(("h", "k", "r"), [(0.3, -0.7, 0.5), (0.0, 0.4, -0.9), (1.0, 0.0, 0.2), (0.0, 0.0, 0.6)])
def test_relu_moment_by_one_dimensional_quadrature(h: float, k: float, r: float) -> None:
    """E[(u+h)_+ E[(ru + sv + k)_+ | u]], the inner expectation in closed form."""
    root = np.sqrt(1 - r * r)

    def integrand(u: float) -> float:
        mean = k + r * u
        inner = mean * stats.norm.cdf(mean / root) + root * stats.norm.pdf(mean / root)
        return (u + h) * inner * stats.norm.pdf(u)

    expected = integrate.quad(integrand, -h, 40, epsabs=1e-13, limit=200)[0]
    moment = relu_product_moment(np.array([h, k]), np.ones(2), np.array([[1, r], [r, 1]]))
    assert moment[0, 1] == pytest.approx(expected, abs=1e-12)  # the quadrature's


def test_relu_moment_at_zero_bias_is_the_arc_cosine_kernel() -> None:
    r = np.linspace(-1, 1, 9)
    kernel = (np.sqrt(1 - r**2) + r * (np.pi - np.arccos(r))) / (2 * np.pi)
    moments = [relu_product_moment(np.zeros(2), np.ones(2), np.array([[1, c], [c, 1]]))[0, 1] for c in r]
    assert moments == pytest.approx(kernel, abs=1e-15)


def test_relu_moment_is_continuous_where_features_become_proportional() -> None:
    for sign in (1.0, -1.0):
        near, at = (
            relu_product_moment(np.array([0.3, -0.2]), np.ones(2), np.array([[1, r], [r, 1]]))[0, 1]
            for r in (sign * (1 - 1e-8), sign)
        )
        assert near == pytest.approx(at, abs=2e-8)  # O(1 - |r|)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_second_moment_by_sampling(name: str) -> None:
    rng = np.random.default_rng(4)
    W = rng.standard_normal((2, 5)) * 0.7
    W[:, 3], W[:, 4] = -2 * W[:, 2], 0.0  # antiparallel features, and one that does not see x
    b = rng.standard_normal(5)
    x = rng.standard_normal((200_000, 2))
    features = RandomFeatureScore(np.zeros((2, 5)), W, b[None, :], name).features(x, np.ones(1))
    products = features[:, :, None] * features[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(x))
    deviation = np.abs(products.mean(axis=0) - feature_second_moment(W, b, name))
    assert np.all(deviation <= 5 * error + 1e-9)  # five standard errors; rounding where a feature is constant


@pytest.mark.parametrize(("size", "bound"), [(1.0, 1e-10), (2.0, 1e-4)])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu", "erf"])
def test_second_moment_by_three_times_the_nodes(
    name: str, size: float, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    W = size * np.array([[1.0, 0.6, -1.0], [0.0, 0.8, 0.0]])
    b = np.array([0.3, -0.5, 0.1])
    moment = feature_second_moment(W, b, name)
    monkeypatch.setattr(random_features, "QUADRATURE_NODES", 240)
    assert moment == pytest.approx(feature_second_moment(W, b, name), abs=bound)  # what its docstring says


def test_score_model() -> None:
    model = RandomFeatureScore(np.array([[1.0, 2.0]]), np.array([[1.0, -1.0]]), np.array([[0.5, 0.0]]), "relu")
    # features at x = 2, e = 2: max(2 + 1, 0), max(-2, 0)
    assert model(np.array([2.0]), np.array([2.0])) == pytest.approx([1.5])


def test_flat_radius() -> None:
    assert flat_radius(np.diag([1.0, 4.0]), 0.5) == pytest.approx(2 * np.sqrt(0.5 / 4))
    assert flat_radius(np.zeros((3, 3)), 0.5) == np.inf
