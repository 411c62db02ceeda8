"""Finite training sets: each seed's own, of the source's law, and drawn from evenly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toy.data import generator_of, ring
from toy.process import cosine_process
from toy.training import BLOCK, Minibatches
from toy.training_sets import Points, TrainingSets, source_of, training_sets


def test_sets_are_functions_of_the_seed_and_differ() -> None:
    sets = training_sets(ring(), 24, (0, 5))
    again = training_sets(ring(), 24, (5,))
    assert torch.equal(sets.sets[5].x, again.sets[5].x)
    assert not torch.equal(sets.sets[0].x, sets.sets[5].x)
    assert len(sets.sets[0]) == 24
    assert sets.dimension == 2
    assert float(ring().log_density(sets.sets[0].x).min()) > -20  # each on its mode


@settings(max_examples=25, deadline=None)
@given(total=st.integers(1, 30), share=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_a_set_of_points_holds_none_twice_and_grows_by_adding(total: int, share: float, seed: int) -> None:
    source = Points(torch.arange(total, dtype=torch.float64)[:, None])
    number = max(round(share * total), 1)
    small, large = (training_sets(source, n, (seed,)).sets[seed].x.flatten().tolist() for n in (number, total))
    assert len(set(small)) == number
    assert large[:number] == small
    assert sorted(large) == list(range(total))


def test_points_are_drawn_evenly() -> None:
    points = Points(torch.arange(5.0)[:, None])
    counts = torch.bincount(points.sample(50_000, 3).flatten().long(), minlength=5).double()
    # chi^2 of 4 degrees of freedom: mean 4, standard deviation 2.8
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 4 + 6 * 2.8
    assert torch.equal(points.sample(7, 3), points.sample(7, generator_of("data", 3)))
    assert points.extent == 4.0


def test_minibatches_come_from_the_seeds_own_set_alone() -> None:
    process, sets = cosine_process(100), training_sets(ring(), 6, (2, 3))
    drawn = Minibatches(sets, process, (2, 3), 64, dtype=torch.float64).step(BLOCK + 1)
    for index, seed in enumerate((2, 3)):
        early = drawn.t[index] < 50  # where alpha_bar > .5, so that rounding is not enlarged
        bars = process.alphas_cumprod[drawn.t[index][early]][:, None]
        x_0 = (drawn.x_t[index][early] - (1 - bars).sqrt() * drawn.epsilon[index][early]) / bars.sqrt()
        apart = torch.cdist(x_0, sets.sets[seed].x).amin(1)
        assert float(apart.max()) < 1e-7  # cdist expands the square
        assert float(torch.cdist(x_0, sets.sets[5 - seed].x).amin(1).max()) > 1e-3


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"x is .*allowed: a tensor \(N, d\)"):
        Points(torch.zeros(3))
    with pytest.raises(ValueError, match="x is"):
        Points(torch.full((2, 2), float("nan")))
    with pytest.raises(ValueError, match="number is 3; allowed: at most 2"):
        training_sets(Points(torch.zeros(2, 2)), 3, (0,))
    with pytest.raises(ValueError, match="number is 0"):
        training_sets(ring(), 0, (0,))
    with pytest.raises(ValueError, match="sets is"):
        TrainingSets({})
    with pytest.raises(ValueError, match="sets is"):
        TrainingSets({0: Points(torch.zeros(2, 2)), 1: Points(torch.zeros(2, 3))})
    with pytest.raises(ValueError, match=r"seed is 4; allowed: one with a training set: \[0\]"):
        source_of(training_sets(ring(), 2, (0,)), 4)
    with pytest.raises(ValueError, match="data is 3; allowed: a GaussianMixture, Points or TrainingSets"):
        Minibatches(3, cosine_process(10), (0,))  # type: ignore[arg-type]
