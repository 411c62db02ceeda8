"""The Krylov reduction against the dense method, its cost in memory, and the spectral ball's bounds."""

import itertools
import tracemalloc

import mpmath
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from theory.model import krylov, perturbations, worst_case
from theory.model.divergences import DIVERGENCES
from theory.model.gaussians import Gaussian, kl_divergence, squared_wasserstein

# with the shapes of its signature checked at every call
worst_case_divergence = jaxtyped(worst_case.worst_case_divergence, typechecker=beartype)

SPECTRA = {
    "random": lambda rng, n: None,
    "clustered": lambda rng, n: 1 + 1e-3 * rng.random(n),
    "decaying": lambda rng, n: 1 / np.arange(1, n + 1),
    "repeated": lambda rng, n: np.repeat([2.0, 1.0], [n // 2, n - n // 2]),
}


def matrix(spectrum: str, d: int, m: int, rng: np.random.Generator) -> np.ndarray:
    W = rng.standard_normal((d, m))
    s = SPECTRA[spectrum](rng, min(d, m))
    if s is None:
        return W
    left, _, right = np.linalg.svd(W, full_matrices=False)
    return left * s @ right


PLACES = ("general", "zero", "small", "not along v_1", "outside the rows")
CASES = list(
    zip(
        itertools.product(sorted(SPECTRA), PLACES),
        itertools.cycle([("kl", (60, 150)), ("reverse_kl", (90, 40)), ("w2", (40, 90))]),
        strict=False,
    )
)


@pytest.mark.parametrize(("spectrum", "place", "divergence", "shape"), [(*where, *what) for where, what in CASES])
def test_krylov_agrees_with_dense(
    spectrum: str, shape: tuple[int, int], place: str, divergence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    W = matrix(spectrum, *shape, rng)
    b = rng.standard_normal(shape[1])
    right = np.linalg.svd(W)[2]
    if place == "zero":
        b = np.zeros_like(b)
    elif place == "small":
        b = b * 1e-3
    elif place == "not along v_1":
        b = b - right[0] * (right[0] @ b)
    elif place == "outside the rows":
        b = b - right[: min(shape)].T @ (right[: min(shape)] @ b)
    radius = 0.9 * shape[1] / float(np.linalg.norm(W, 2))
    dense = worst_case_divergence(W, b, radius, divergence)
    monkeypatch.setattr(worst_case, "LARGEST_DENSE", 5)
    reduced = worst_case_divergence(W, b, radius, divergence)
    assert reduced.value == pytest.approx(dense.value, rel=1e-9)  # what is promised; 1e-12 is where it stops
    attained = perturbations.perturbation_divergence(reduced.perturbation, W, b, divergence)
    assert attained == pytest.approx(reduced.value, rel=1e-9)


def test_a_krylov_space_of_one_block_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((60, 150)), rng.standard_normal(150)
    dense = worst_case_divergence(W, b, 5.0).value
    monkeypatch.setattr(worst_case, "LARGEST_DENSE", 5)
    monkeypatch.setattr(krylov, "MOST_COLUMNS", krylov.BLOCK)
    assert worst_case_divergence(W, b, 5.0).value < dense * (1 - 1e-6)


def test_no_square_matrix_of_features_is_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """d = 60, m = 6000: the peak stays far below the 288 MB of one (m, m) matrix."""
    monkeypatch.setattr(worst_case, "LARGEST_DENSE", 5)
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((60, 6000)), rng.standard_normal(6000)
    tracemalloc.start()
    worst = worst_case_divergence(W, b, 20.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert worst.exact
    assert peak < 6000 * 6000 * 8 / 3


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_spectral_bounds_bracket_every_perturbation_found(divergence: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        d, m = rng.integers(2, 5, size=2)
        W, b = rng.standard_normal((d, m)), rng.standard_normal(m)
        radius = 0.8 * m / float(np.linalg.norm(W, 2))
        worst = worst_case_divergence(W, b, radius, divergence, "spectral")
        assert worst.value == worst.upper_bound
        assert np.linalg.norm(worst.perturbation, 2) <= radius * (1 + 1e-12)
        attained = perturbations.perturbation_divergence(worst.perturbation, W, b, divergence)
        assert attained == pytest.approx(worst.lower_bound, rel=1e-9)
        assert attained >= worst_case_divergence(W, b, radius, divergence).value * (1 - 1e-12)
        bases = perturbations.frame(W)
        for _ in range(50):
            delta = bases.project(rng.standard_normal((d, m)))
            delta *= radius / np.linalg.norm(delta, 2)
            reached = perturbations.perturbation_divergence(delta, W, b, divergence)
            assert reached <= worst.upper_bound
            assert reached <= worst.lower_bound  # the local search is better than random tries


def test_the_spectral_search_beats_the_known_perturbation() -> None:
    worst = worst_case_divergence(np.diag([1.0, 0.5]), np.array([1.0, 5.0]), 1.8, norm="spectral")
    known_delta = np.array([[-1.4, -1.0], [-0.5, -0.2]])
    known = perturbations.perturbation_divergence(known_delta, np.diag([1, 0.5]), np.array([1.0, 5.0]))
    assert known == pytest.approx(25.31, abs=5e-3)
    assert worst.lower_bound >= known
    assert not worst.exact


def by_search(s: np.ndarray, b: np.ndarray, eta: float, name: str) -> float:
    """max over unit v of scale [term(-|eta S v|) + eta^2 (b.v)^2 weight(-|eta S v|)] for two columns, S diagonal."""
    divergence = DIVERGENCES[name]

    def of_angle(angle: np.ndarray | float) -> np.ndarray:
        v = np.stack([np.cos(angle), np.sin(angle)])
        tau = -eta * np.sqrt((s**2) @ v**2)
        return np.asarray(divergence.scale * (divergence.term(tau) + eta**2 * (b @ v) ** 2 * divergence.weight(tau)))

    angles = np.linspace(0, np.pi, 20001)
    step = angles[1]
    best = float(angles[of_angle(angles).argmax()])
    for _ in range(5):  # ever finer around the best: to 1e-9 of the angle, so to rounding of the value
        around = best + step * np.linspace(-1, 1, 201)
        best, step = float(around[of_angle(around).argmax()]), step / 50
    return float(of_angle(best))


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
@pytest.mark.parametrize("gap", [1e-4, 3e-4, 1e-3])
def test_singular_values_that_lie_close_are_not_one(gap: float, divergence: str) -> None:
    """With b all but across v_1 the best v lies between the two; taken for equal they would give another value."""
    s = np.array([1.0, 1.0 - gap])
    b = np.array([0.3, 1.0]) * np.sqrt(gap)  # so that the gain along b is of the size of the loss along s
    for rho in (0.5, 0.9, 0.999):
        eta = rho / s[0]
        expected = by_search(s, b, eta, divergence)
        worst = worst_case_divergence(np.diag(s), b, 2 * eta, divergence)
        assert worst.exact
        assert worst.value == pytest.approx(expected, rel=1e-11)
        equal = by_search(np.ones(2), b, eta, divergence)
        assert abs(equal / expected - 1) > 1e-6  # what a group of both would give
        v = worst.perturbation.T @ np.linalg.svd(worst.perturbation)[0][:, 0]
        v /= np.linalg.norm(v)
        assert 1e-3 < abs(v[0]) < 1 - 1e-7 or abs(v[1]) > 1e-3


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_a_bound_that_is_all_but_attained_is_not_called_exact(size: float, divergence: str) -> None:
    """b small and across v_1. To second order in b the maximum is at -Delta U V^T, where (b.v_2)^2 counts by the
    weight of s_2; the bound has that of s_1. So they are apart by a share of b^2, and not more."""
    s, radius, chosen = np.array([1.0, 0.5]), 1.2, DIVERGENCES[divergence]
    b = np.array([0.0, size])
    tau = -radius / 2 * s
    terms = chosen.scale * chosen.term(tau).sum()
    shift = chosen.scale * (radius / 2) ** 2 * size**2 * chosen.weight(tau)
    worst = worst_case_divergence(np.diag(s), b, radius, divergence, "spectral")
    assert not worst.exact
    assert worst.value == worst.upper_bound == pytest.approx(terms + shift[0], rel=1e-13)
    # the rest is of fourth order in b, some hundred times which is allowed
    assert worst.lower_bound - terms == pytest.approx(shift[1], rel=100 * size**2 + 1e-15 / shift[1])
    assert worst.lower_bound < worst.upper_bound
    along = worst_case_divergence(np.diag(s), np.array([size, 0.0]), radius, divergence, "spectral")
    assert along.exact
    assert along.value == along.lower_bound == pytest.approx(terms + shift[0], rel=1e-13)


@pytest.mark.parametrize("unequal", [1e-3, 1e-9])
def test_a_law_of_all_but_equal_variances_has_bounds(unequal: float) -> None:
    """W's only column lies along p's narrower axis: the bound takes the wider one's variance, and is not attained."""
    p = Gaussian(np.zeros(2), np.diag([1.0, 1.0 - unequal]))
    W, radius = np.array([[0.0], [1.0]]), 0.5
    worst = worst_case_divergence(W, np.zeros(1), radius, p=p)
    kl = DIVERGENCES["kl"]
    assert not worst.exact
    # tau = -Delta times the variance along the column; in the bound its root, as W is whitened, times that of the ball
    narrow, wide = (float(0.5 * kl.term(np.array(-radius * v))) for v in (1 - unequal, np.sqrt(1 - unequal)))
    assert worst.lower_bound == pytest.approx(narrow, rel=1e-12)
    assert worst.upper_bound == pytest.approx(wide, rel=1e-12)
    other = worst_case_divergence(np.array([[1.0], [0.0]]), np.zeros(1), radius, p=p)
    assert other.exact


@pytest.mark.parametrize("norm", worst_case.NORMS)
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_infinite_where_the_ball_reaches_the_edge(norm: str, factor: float) -> None:
    W = np.diag([2.0, 1.0])
    worst = worst_case_divergence(W, np.ones(2), factor * 2 / 2.0, norm=norm)
    assert worst.value == worst.lower_bound == worst.upper_bound == np.inf
    A = worst.perturbation @ W.T / 2
    assert np.linalg.eigvalsh((A + A.T) / 2)[0] == pytest.approx(-1, abs=1e-12)


def test_without_weights_only_the_mean_moves() -> None:
    worst = worst_case_divergence(np.zeros((2, 3)), np.array([3.0, 0, 4.0]), 0.6)
    assert worst.value == pytest.approx(0.5 * (0.2 * 5) ** 2, rel=1e-13)
    assert worst_case_divergence(np.zeros((2, 3)), np.zeros(3), 0.6).value == 0


def test_tiny_balls_do_not_underflow() -> None:
    W, b = np.array([[1.0, 2.0]]), np.array([1.0, -1.0])
    small = worst_case_divergence(W, b, 1e-100).value
    assert small == pytest.approx(worst_case_divergence(W, b, 1e-8).value * 1e-184, rel=1e-7)  # quadratic in the radius


@pytest.mark.parametrize("gap", [1e-4, 1e-6, 1e-9, 1e-12])
def test_accuracy_near_the_edge_is_what_the_docstring_says(gap: float) -> None:
    """b along v_1: (h(rho) + eta^2 |b|^2 / (1 - rho)) / 2 in 60 digits; within ten times 2e-16 / (1 - rho)."""
    with mpmath.workdps(60):
        W = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])
        values, vectors = mpmath.eigsy(mpmath.matrix(W.T.tolist()) * mpmath.matrix(W.tolist()))
        s = mpmath.sqrt(values[2])
        b = np.array([float(vectors[row, 2]) for row in range(3)])
        radius = float((1 - mpmath.mpf(gap)) * 3 / s)
        rho = mpmath.mpf(radius) / 3 * s
        shift = (mpmath.mpf(radius) / 3) ** 2 / (1 - rho)
        exact = (-rho - mpmath.log(1 - rho) + shift) / 2
        error = abs(mpmath.mpf(worst_case_divergence(W, b, radius).value) / exact - 1)
        assert error <= 10 * 2e-16 / gap


def divergence_under(p: Gaussian, delta: np.ndarray, W: np.ndarray, b: np.ndarray, divergence: str) -> float:
    """Of p and the density that a perturbation makes of it, from both Gaussians."""
    moved = perturbations.perturbed_noise(delta, W, b, p)
    if divergence == "w2":
        return squared_wasserstein(p, moved)
    return kl_divergence(p, moved) if divergence == "kl" else kl_divergence(moved, p)


@pytest.mark.parametrize("norm", worst_case.NORMS)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_under_a_wider_law_the_perturbation_attains_what_is_said(divergence: str, norm: str) -> None:
    """C = v I: worst case, its error and its perturbation are in units of x; no other perturbation found is worse."""
    rng = np.random.default_rng(2)
    W, b, radius = rng.standard_normal((2, 3)), rng.standard_normal(3), 0.2
    p = Gaussian(np.array([0.5, -1.0]), 4.0 * np.eye(2))
    worst = worst_case_divergence(W, b, radius, divergence, norm, p=p)
    assert np.linalg.norm(worst.perturbation, 2) == pytest.approx(radius, rel=1e-9)
    assert divergence_under(p, worst.perturbation, W, b, divergence) == pytest.approx(worst.lower_bound, rel=1e-9)
    assert worst.lower_bound <= worst.upper_bound == worst.value
    assert worst.exact == (worst.lower_bound == worst.upper_bound) == (norm == "frobenius")
    others = [worst_case_divergence(W, b, radius, divergence, other, p=p).upper_bound for other in worst_case.NORMS]
    assert others[0] < others[1]  # a Frobenius ball lies within the spectral one
    assert worst.value in others


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl"])
@pytest.mark.parametrize("m", [2, 5])
def test_under_unequal_variances_no_perturbation_of_rank_one_is_worse(divergence: str, m: int) -> None:
    rng = np.random.default_rng(m)
    W, b, radius = rng.standard_normal((3, m)), rng.standard_normal(m), 0.05 * m
    p = Gaussian(rng.standard_normal(3), np.diag([2.0, 1.0, 0.3]))
    worst = worst_case_divergence(W, b, radius, divergence, p=p)
    assert np.linalg.norm(worst.perturbation) == pytest.approx(radius, rel=1e-12)
    attained = divergence_under(p, worst.perturbation, W, b, divergence)
    assert attained == pytest.approx(worst.lower_bound, rel=1e-9)
    assert worst.lower_bound < worst.upper_bound == worst.value
    assert not worst.exact
    for v in rng.standard_normal((200, m)):
        image = W @ v
        delta = np.multiply.outer(-radius * image / np.linalg.norm(image), v / np.linalg.norm(v))
        assert divergence_under(p, delta, W, b, divergence) <= attained * (1 + 1e-9)


def test_under_unequal_variances_the_edge_is_infinite_and_without_weights_nothing_moves() -> None:
    p = Gaussian(np.zeros(2), np.diag([2.0, 1.0]))
    W = np.array([[1.0], [0.0]])
    inside, outside = (worst_case_divergence(W, np.zeros(1), size / 2.0, p=p) for size in (0.999, 1.001))
    assert np.isfinite(inside.lower_bound)
    assert outside.lower_bound == outside.upper_bound == np.inf
    worst = worst_case_divergence(np.zeros((2, 3)), np.zeros(3), 0.6, p=p)
    assert worst.value == worst.lower_bound == 0.0
    assert worst.perturbation.shape == (2, 3)
    assert np.linalg.norm(worst.perturbation) == pytest.approx(0.6)


def test_the_edge_itself_is_infinite_under_unequal_variances() -> None:
    """Delta v^T W^T C W v / |W v| = m: the density's precision has a zero."""
    p = Gaussian(np.zeros(2), np.diag([2.0, 1.0]))
    worst = worst_case_divergence(np.array([[1.0], [0.0]]), np.zeros(1), 0.5, p=p)
    assert worst.lower_bound == worst.upper_bound == np.inf


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl"])
def test_directions_that_w_does_not_see_move_nothing(divergence: str) -> None:
    """b across all rows of W is one of the search's starts; there W v = 0, and a tiny ball's worst is tiny."""
    p = Gaussian(np.zeros(2), np.diag([2.0, 1.0]))
    W, b = np.eye(2, 3), np.array([0.0, 0.0, 5.0])
    radii = np.array([3e-3, 3e-4])
    worst = [worst_case_divergence(W, b, radius, divergence, p=p) for radius in radii]
    bounds = [one.lower_bound for one in worst]
    for one in worst:
        assert divergence_under(p, one.perturbation, W, b, divergence) == pytest.approx(one.lower_bound, rel=1e-6)
    tau = -radii / 3 * 2.0  # along the wider direction, b^T v = 0: the term alone, tau^2 / 4, or more with b
    assert np.all(np.array(bounds) >= tau**2 / 4 * (1 - 1e-2))
    assert bounds[0] / bounds[1] == pytest.approx(100.0, rel=2e-2)  # of second order in the radius


@pytest.mark.parametrize("rho", [0.9, 1 - 1e-3, 1 - 1e-5])
def test_next_to_the_edge_rounding_is_not_taken_for_a_gap(rho: float) -> None:
    """b along v_1, where the spectral bound is attained; both sides are sums that rounding moves by eps/(1 - rho)^2."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (3, 4))
        W = left @ np.diag([5.0, 3.0, 1.0]) @ right[:3]
        assert worst_case_divergence(W, 0.7 * right[0], 4 * rho / 5, norm="spectral").exact
