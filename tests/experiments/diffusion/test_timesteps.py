"""Draws of timesteps: the published weights, unbiasedness, and state."""

from collections.abc import Callable

import pytest
import torch

from experiments.adm import golden
from experiments.diffusion import SecondMomentTimesteps, UniformTimesteps

Kind = Callable[[int], UniformTimesteps | SecondMomentTimesteps]
DRAWS = 200_000
ERRORS = 5.0
"""Standard errors allowed; the seeds are fixed."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def warmed(steps: int = 8, history: int = 10) -> SecondMomentTimesteps:
    """Losses that grow with the timestep, as 1 + t."""
    timesteps = SecondMomentTimesteps(steps, history)
    t = torch.arange(steps).repeat(history)
    timesteps.update(t, 1.0 + t)
    return timesteps


def test_probabilities_are_the_published_ones() -> None:
    figures, timesteps = golden.arrays("switches"), SecondMomentTimesteps(4)
    i = torch.arange(90)
    t, losses = (7 * i * i + i // 3) % 4, 0.2 + ((37 * i) % 11).double() / 7
    for k in range(3):
        timesteps.update(t[30 * k : 30 * k + 30], losses[30 * k : 30 * k + 30])
        expected = torch.from_numpy(figures[f"second_moment_{k}"])
        torch.testing.assert_close(timesteps.probabilities(), expected, rtol=1e-14, atol=0)  # float64 rounding
        assert timesteps.warm == (k > 0)


def test_updates_at_once_or_one_by_one_are_the_same() -> None:
    """Also where one batch tells a timestep more losses than a history holds."""
    t = torch.randint(0, 5, (200,), generator=seeded())
    losses = torch.rand(200, generator=seeded(1))
    at_once, one_by_one = SecondMomentTimesteps(5, 4), SecondMomentTimesteps(5, 4)
    at_once.update(t, losses)
    histories: dict[int, list[float]] = {}
    for k in range(200):
        one_by_one.update(t[k : k + 1], losses[k : k + 1])
        histories.setdefault(int(t[k]), []).append(float(losses[k]))
    assert torch.equal(at_once.losses, one_by_one.losses)
    assert torch.equal(at_once.counts, one_by_one.counts)
    for step, values in histories.items():
        assert sorted(at_once.losses[step].tolist()) == sorted(values[-4:])


@pytest.mark.parametrize("missing", range(3))
def test_uniform_until_every_history_is_full(missing: int) -> None:
    timesteps = SecondMomentTimesteps(3, 2)
    t = torch.tensor([step for step in range(3) for _ in range(2)] * 3)
    timesteps.update(t[t != missing], 1.0 + t[t != missing])
    timesteps.update(torch.tensor([missing]), torch.tensor([9.0]))
    assert not timesteps.warm
    drawn, weights = timesteps.draw(1000, seeded())
    assert torch.equal(weights, torch.ones(1000))
    assert set(drawn.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("kind", [lambda steps: UniformTimesteps(steps), warmed])
def test_frequencies_are_the_probabilities_and_the_weights_keep_the_mean(kind: Kind) -> None:
    timesteps = kind(8)
    drawn, weights = timesteps.draw(DRAWS, seeded(3))
    assert (drawn.dtype, weights.dtype) == (torch.int64, torch.float32)
    if isinstance(timesteps, SecondMomentTimesteps):
        expected = timesteps.probabilities()
        shares = 1.0 + torch.arange(8).double()
        torch.testing.assert_close(expected, 0.999 * shares / shares.sum() + 0.001 / 8)
    else:
        expected = torch.full((8,), 1 / 8, dtype=torch.float64)
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert bool(((torch.bincount(drawn) / DRAWS - expected).abs() < ERRORS * error).all())
    torch.testing.assert_close(weights.double(), 1 / (8 * expected[drawn]), rtol=1e-6, atol=0)  # float32
    values = (1.0 + drawn.double()) * weights.double()
    assert abs(float(values.mean()) - 4.5) < ERRORS * float(values.std()) / DRAWS**0.5 + 1e-5


def test_a_draw_is_a_function_of_generator_and_history() -> None:
    a, b = warmed(), warmed()
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(a.draw(50, seeded(5))[0], b.draw(50, seeded(5))[0])
    assert not torch.equal(a.draw(50, seeded(5))[0], a.draw(50, seeded(6))[0])


@pytest.mark.parametrize("make", [UniformTimesteps, SecondMomentTimesteps])
def test_a_draw_has_one_time_or_more(make: Callable[[int], UniformTimesteps | SecondMomentTimesteps]) -> None:
    generator = torch.Generator().manual_seed(0)
    t, weights = make(4).draw(1, generator)
    assert (len(t), weights.tolist()) == (1, [1.0])
    with pytest.raises(ValueError, match=r"^n is 0;"):
        make(4).draw(0, generator)


def test_state_resumes() -> None:
    timesteps, resumed = warmed(), SecondMomentTimesteps(8)
    state = timesteps.state_dict()
    timesteps.update(torch.tensor([0]), torch.tensor([100.0]))  # the saved state is a copy
    resumed.load_state_dict(state)
    assert torch.equal(resumed.probabilities(), warmed().probabilities())
    resumed.update(torch.tensor([0]), torch.tensor([100.0]))
    assert torch.equal(resumed.losses, timesteps.losses)
    with pytest.raises(ValueError, match=r"^state is "):
        SecondMomentTimesteps(9).load_state_dict(state)
    UniformTimesteps(8).load_state_dict(UniformTimesteps(8).state_dict())
    with pytest.raises(ValueError, match=r"^state is "):
        UniformTimesteps(8).load_state_dict(state)


def test_losses_of_nothing_leave_it_uniform() -> None:
    timesteps = SecondMomentTimesteps(2, 1)
    timesteps.update(torch.tensor([0, 1]), torch.zeros(2))
    assert torch.equal(timesteps.probabilities(), torch.full((2,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("t", "losses", "named"),
    [([0, 8], [1.0, 1.0], "t"), ([-1], [1.0], "t"), ([0, 1], [1.0], "losses"), ([0], [float("nan")], "losses")],
)
def test_a_refused_update_changes_nothing(t: list[int], losses: list[float], named: str) -> None:
    timesteps = warmed()
    before = timesteps.state_dict()
    with pytest.raises(ValueError, match=rf"^{named} is "):
        timesteps.update(torch.tensor(t), torch.tensor(losses))
    assert all(torch.equal(before[name], tensor) for name, tensor in timesteps.state_dict().items())
