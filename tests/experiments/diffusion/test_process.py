"""The process against figures of ADM's public implementation, and against its definitions in float64."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from experiments.adm import ADM, golden
from experiments.diffusion import Process, ProcessOptions, cosine_betas, linear_betas
from flatness.diffusion.sampling import reverse_steps, variance_of

Schedule = Literal["cosine", "linear"]


@pytest.fixture(scope="module")
def tiny() -> ADM:
    model = ADM(golden.PUBLISHED["tiny"]).eval()
    golden.fill(model)
    return model


def made_up_output(learned: bool) -> tuple[Tensor, Tensor, Tensor]:
    """x, noise, and what stands for the network's output."""
    x, noise = golden.inputs(side=16)
    epsilon = 0.7 * noise + 0.2 * x
    return x, noise, torch.cat([epsilon, 0.9 * x.roll(1, 1)], 1) if learned else epsilon


def test_tables() -> None:
    figures, process = golden.arrays("tiny_diffusion"), Process(ProcessOptions())
    assert process.alphas_cumprod.dtype == torch.float64
    # A thousand float64 products; relative to each entry.
    torch.testing.assert_close(process.alphas_cumprod, torch.from_numpy(figures["alphas_cumprod"]), rtol=1e-12, atol=0)
    assert process.respaced(20).timesteps == tuple(figures["steps20"])
    assert process.respaced(100).timesteps == tuple(figures["steps100"])
    assert process.respaced(35).timesteps == tuple(golden.arrays("switches")["steps35"])
    assert process.respaced(1).timesteps == (0,)
    assert process.respaced(1000).timesteps == process.timesteps == tuple(range(1000))


def test_schedules() -> None:
    cosine, linear = cosine_betas(1000), linear_betas(1000)
    assert cosine.dtype == linear.dtype == torch.float64
    assert float(cosine.max()) == 0.999
    assert (float(linear[0]), float(linear[-1])) == (1e-4, 0.02)
    assert float(linear_betas(500)[0]) == 2e-4
    for schedule, steps in ((linear_betas, 20), (linear_betas, 0), (cosine_betas, 0)):
        with pytest.raises(ValueError, match=f"^steps is {steps}"):
            schedule(steps)


def test_losses(tiny: ADM) -> None:
    figures, process = golden.arrays("tiny_diffusion"), Process(ProcessOptions())
    x, noise = golden.inputs()
    t = torch.tensor(golden.TIMESTEPS)
    x_0 = x.clamp(-1.0, 1.0)
    x_t = process.q_sample(x_0, t, noise)
    with torch.no_grad():
        losses = process.losses(tiny(x_t, t), x_0, x_t, t, noise)
    for name, value in losses._asdict().items():
        # Relative to each image's own loss.
        torch.testing.assert_close(value, torch.from_numpy(figures[name]), rtol=golden.RELATIVE, atol=0)


def test_mean_and_variance(tiny: ADM) -> None:
    """x_0 = (x - sqrt(1 - alpha_bar) epsilon) / sqrt(alpha_bar) cancels: rounding is relative to the larger terms."""
    figures, whole = golden.arrays("tiny_diffusion"), Process(ProcessOptions())
    x, noise = golden.inputs()
    t = torch.tensor(golden.TIMESTEPS)
    noisy = whole.q_sample(x.clamp(-1.0, 1.0), t, noise)
    for process, suffix, at, images in (
        (whole, "", t, noisy),
        (whole.respaced(20), "20", torch.tensor((3, 17)), noise),
    ):
        with torch.no_grad():
            output = tiny(images, process.network_timesteps(at))
        reverse = process.p_mean_variance(output, images, at)
        c = process.at(at, images)
        scale = (c.recip_noise * output[:, :3].abs().amax((1, 2, 3), keepdim=True)).clamp(min=1.0)
        expected = {name: torch.from_numpy(figures[name + suffix]) for name in ("mean", "logvar")}
        tolerance = golden.RELATIVE * scale
        assert bool(((reverse.mean - expected["mean"]).abs() <= tolerance * c.mean_of_start.clamp(max=1.0)).all())
        assert golden.distance(reverse.log_variance, figures["logvar" + suffix]) < golden.RELATIVE
        if not suffix:
            assert bool(((reverse.x_start - torch.from_numpy(figures["xstart"])).abs() <= tolerance).all())


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_fixed_variance_at_the_first_step_too(schedule: Schedule) -> None:
    """At t = 0 the posterior's variance is 0, and the public implementation takes the one of the step after."""
    process, figures = Process(ProcessOptions(schedule=schedule, learn_sigma=False)), golden.arrays("switches")
    x, _, output = made_up_output(learned=False)
    t = torch.tensor((0, 500))
    reverse = process.p_mean_variance(output, x, t)
    expected = torch.from_numpy(figures[f"{schedule}_fixed_logvar"])
    torch.testing.assert_close(reverse.log_variance[:, 0, 0, 0], expected, rtol=golden.RELATIVE, atol=0)
    assert torch.equal(reverse.log_variance, reverse.log_variance[:, :1, :1, :1].expand_as(x))
    assert golden.distance(reverse.mean, figures[f"{schedule}_fixed_mean"]) < golden.RELATIVE
    # Neither beta at t = 0 nor the posterior's variance at t = 500 would pass
    c = process.at(t, x)
    assert abs(float(c.log_beta[0]) - float(expected[0])) > 0.1
    assert abs(float(c.posterior_log_variance[1]) - float(expected[1])) > 1e-4


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("learned", [True, False])
def test_losses_of_both_schedules_at_the_first_step_too(schedule: Schedule, learned: bool) -> None:
    process = Process(ProcessOptions(schedule=schedule, learn_sigma=learned))
    x, noise, output = made_up_output(learned)
    t, x_0 = torch.tensor((0, 500)), x.clamp(-1.0, 1.0)
    losses = process.losses(output, x_0, process.q_sample(x_0, t, noise), t, noise)
    figures = golden.arrays("switches")[f"{schedule}_{'learned' if learned else 'fixed'}_loss"]
    torch.testing.assert_close(losses.loss, torch.from_numpy(figures), rtol=golden.RELATIVE, atol=0)
    torch.testing.assert_close(losses.loss, losses.mse + losses.vb, rtol=1e-6, atol=0)
    assert bool((losses.vb != 0).all()) == learned


def test_the_bound_trains_the_variance_and_the_mean_square_the_noise() -> None:
    process = Process(ProcessOptions())
    x, noise, output = made_up_output(learned=True)
    t = torch.tensor((0, 500))
    output.requires_grad_()
    losses = process.losses(output, x, process.q_sample(x, t, noise), t, noise)
    of_vb, of_mse = (torch.autograd.grad(part.sum(), output, retain_graph=True)[0] for part in (losses.vb, losses.mse))
    assert not of_vb[:, :3].any()
    assert bool((of_vb[:, 3:] != 0).any(dim=1).all())
    assert not of_mse[:, 3:].any()
    torch.testing.assert_close(of_mse[:, :3], 2.0 * (output[:, :3] - noise) / noise[0].numel())


@pytest.mark.parametrize(("whole", "count"), [(1000, 1000), (250, 250), (1000, 50)])
def test_the_bound_is_the_divergence_of_the_gaussians(whole: int, count: int) -> None:
    """Against torch.distributions in float64, with input perturbation: x_t is not made of x_0 and the target.

    It counts by T / 1000, T the steps of the process itself, also where these are some of another's.
    """
    process, generator = Process(ProcessOptions(steps=whole)).respaced(count), torch.Generator().manual_seed(0)
    x_0, noise, extra, v = torch.randn(4, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor((1, count * 3 // 5))
    x_t = process.q_sample(x_0, t, noise + 0.1 * extra)
    epsilon = noise + 0.3 * extra
    losses = process.losses(torch.cat([epsilon, v], 1), x_0, x_t, t, noise)
    steps = reverse_steps(process.alphas_cumprod, range(count))
    for n, number in enumerate(t.tolist()):
        step = steps[number]
        variance = variance_of("learned", v[n], step)
        predicted = (x_t[n] - (1 - step.alpha_bar) ** 0.5 * epsilon[n]) / step.alpha_bar**0.5
        model = torch.distributions.Normal(step.mean(x_t[n], predicted), torch.as_tensor(variance).sqrt())
        posterior = torch.distributions.Normal(step.mean(x_t[n], x_0[n]), torch.tensor(step.posterior_variance).sqrt())
        bits = torch.distributions.kl_divergence(posterior, model).mean() / math.log(2.0)
        # The posterior's scale is float32 here; float64 otherwise.
        assert float(losses.vb[n]) == pytest.approx(float(bits) * count / 1000, rel=1e-6)
        assert float(losses.mse[n]) == pytest.approx(float((0.3 * extra[n]).square().mean()), rel=1e-12)


def test_the_likelihood_sums_to_one_over_the_256_levels() -> None:
    process = Process(ProcessOptions())
    levels = (torch.arange(256, dtype=torch.float64) * 2 / 255 - 1).view(-1, 1, 1, 1)
    x_t = torch.full_like(levels, 0.11)
    output = torch.cat([torch.zeros_like(levels), torch.full_like(levels, 0.4)], 1)
    t = torch.zeros(256, dtype=torch.int64)
    bits = process.losses(output, levels, x_t, t, torch.zeros_like(levels)).vb
    # Bins of no mass count 1e-12 each.
    assert float(torch.exp2(-bits).sum()) == pytest.approx(1.0, abs=256e-12)


@pytest.mark.parametrize("choice", ["learned", "fixed"])
def test_the_reverse_step_agrees_with_the_coefficients_of_the_instruments(choice: str) -> None:
    """`flatness.diffusion.sampling` states the same step; float64, so to rounding."""
    process = Process(ProcessOptions(learn_sigma=choice == "learned")).respaced(50)
    x, _, output = (tensor.double() for tensor in made_up_output(choice == "learned"))
    steps = reverse_steps(Process(ProcessOptions()).alphas_cumprod, process.timesteps)
    t = torch.tensor((1, 33))
    reverse = process.p_mean_variance(output, x, t)
    for n, number in enumerate(t.tolist()):
        step = steps[number]
        x_start = (x[n] - (1 - step.alpha_bar) ** 0.5 * output[n, :3]) / step.alpha_bar**0.5
        variance = variance_of("learned" if choice == "learned" else "large", output[n, 3:], step)
        torch.testing.assert_close(reverse.mean[n], step.mean(x[n], x_start.clamp(-1.0, 1.0)), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(reverse.log_variance[n].exp(), torch.as_tensor(variance).double().expand(3, 16, 16))
    unclipped = process.p_mean_variance(output, x, t, clip=False).x_start
    assert float(unclipped.abs().max()) > 1.0
    assert torch.equal(unclipped.clamp(-1.0, 1.0), reverse.x_start)


def test_respacing_a_respaced_process_keeps_original_steps() -> None:
    process = Process(ProcessOptions()).respaced(100).respaced(2)
    assert process.timesteps == (0, 999)
    assert torch.equal(process.network_timesteps(torch.tensor((1, 0, 1))), torch.tensor((999, 0, 999)))


def test_float16_output_is_taken_in_the_images_type() -> None:
    process = Process(ProcessOptions())
    x, noise, output = made_up_output(learned=True)
    losses = process.losses(output.bfloat16(), x, x, torch.tensor((3, 4)), noise)
    assert {part.dtype for part in losses} == {torch.float32}


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"^schedule is 'sigmoid'"):
        ProcessOptions(schedule="sigmoid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^steps is 1;"):
        ProcessOptions(steps=1)
    with pytest.raises(ValueError, match=r"^learn_sigma is 1;"):
        ProcessOptions(learn_sigma=1)  # type: ignore[arg-type]
    process = Process(ProcessOptions())
    x, noise, output = made_up_output(learned=False)
    with pytest.raises(ValueError, match=r"^output is .*learn_sigma is True"):
        process.losses(output, x, x, torch.tensor((3, 4)), noise)
    for count in (0, 1001):
        with pytest.raises(ValueError, match=f"^count is {count};"):
            process.respaced(count)
    with pytest.raises(ValueError, match=r"^steps is "):
        Process(ProcessOptions(), [5, 3])
