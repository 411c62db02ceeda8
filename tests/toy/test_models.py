"""The batched model against the theory's, one seed at a time, and its gradients against automatic differentiation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from theory.model.random_features import RandomFeatureScore
from toy.models import ACTIVATIONS, PREDICTIONS, ScoreModels, losses_and_gradients, random_models
from toy.process import cosine_process

ROUNDING = 1e-12
"""Float64 sums of some hundred terms in another order."""
PROCESS = cosine_process(100)


def small(**settings: object) -> ScoreModels:
    return random_models(3, 2, 10, PROCESS, embedding=6, dtype=torch.float64, **settings)  # type: ignore[arg-type]


def inputs(models: ScoreModels, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x, epsilon = torch.randn(2, models.seeds, n, models.dimension, generator=generator, dtype=torch.float64)
    return x, torch.randint(100, (models.seeds, n), generator=generator), epsilon


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_each_seed_is_the_theorys_model(activation: str, prediction: str) -> None:
    models = small(activation=activation, prediction=prediction)
    x, t, _ = inputs(models)
    outputs = models.epsilon(x, t)
    for s in range(models.seeds):
        score = RandomFeatureScore(models.theta[s].numpy(), models.W[s].numpy(), models.U[s].numpy(), activation)
        for n in range(x.shape[1]):
            output = score(x[s, n].numpy(), models.embedding[t[s, n]].numpy())
            factor = 1.0 if prediction == "noise" else -float((1 - PROCESS.alphas_cumprod[t[s, n]]) ** 0.5)
            np.testing.assert_allclose(outputs[s, n].numpy(), factor * output, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("divisor", [None, 1.0])
def test_a_single_seed_is_the_same_model(prediction: str, divisor: float | None) -> None:
    models = small(prediction=prediction, divisor=divisor)
    x, t, _ = inputs(models)
    outputs = models.epsilon(x, t)
    for s in range(models.seeds):
        torch.testing.assert_close(models.single(s)(x[s], t[s]), outputs[s], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(models.epsilon(x, 7), models.epsilon(x, torch.full_like(t, 7)))
    torch.testing.assert_close(
        models.features(x, t)[1], torch.relu(x[1] @ models.W[1] + models.embedding[t[1]] @ models.U[1])
    )


def test_a_single_seed_shares_no_memory() -> None:
    models = small(learn_features=True)
    module = models.single(1)
    before = [tensor.clone() for tensor in (models.theta, models.W, models.U)]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, (models.theta, models.W, models.U), strict=True))


@pytest.mark.parametrize("learn", [False, True])
def test_trainable_parameters_of_a_single_seed(learn: bool) -> None:
    module = small(learn_features=learn).single(0)
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trainable == ({"readout.weight", "W", "U"} if learn else {"readout.weight"})


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_gradients_by_hand_are_the_derivatives(activation: str, prediction: str) -> None:
    models = small(activation=activation, prediction=prediction, learn_features=True)
    x, t, epsilon = inputs(models)
    leaves = [tensor.clone().requires_grad_() for tensor in (models.theta, models.W, models.U)]
    expected = models.replaced(*leaves).losses(x, t, epsilon).mean(1)
    theta, W, U = torch.autograd.grad(expected.sum(), leaves)
    V = torch.cat([models.W, models.U], dim=1)
    scale = models.scales[t][..., None]
    joined = torch.cat([x, models.embedding[t]], dim=-1)
    loss, gradients = losses_and_gradients(models.theta, V, joined, scale, epsilon, activation, True)
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(gradients[0], theta, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(gradients[1], torch.cat([W, U], dim=1), rtol=0, atol=ROUNDING)
    _, frozen = losses_and_gradients(models.theta, V, joined, scale, epsilon, activation, False)
    assert len(frozen) == 1


def test_the_divisor_is_a_unit_of_theta() -> None:
    eq9, network = small(), small(divisor=1.0)
    x, t, _ = inputs(eq9)
    torch.testing.assert_close(eq9.theta, 10 * network.theta)
    torch.testing.assert_close(eq9.epsilon(x, t), network.epsilon(x, t), rtol=0, atol=ROUNDING)


def test_rescaling_leaves_a_homogeneous_model_unchanged() -> None:
    models = small()
    x, t, _ = inputs(models)
    rescaled = models.replaced(models.theta / 3, 3 * models.W, 3 * models.U)
    torch.testing.assert_close(rescaled.epsilon(x, t), models.epsilon(x, t), rtol=0, atol=ROUNDING)


def test_initial_weights_are_functions_of_the_seed() -> None:
    whole, part = small(), random_models(range(1, 3), 2, 10, PROCESS, embedding=6, dtype=torch.float64)
    assert torch.equal(whole.theta[1:], part.theta)
    assert torch.equal(whole.U[1:], part.U)
    assert not torch.equal(whole.W[0], whole.W[1])


def test_bad_input_is_named() -> None:
    models = small()
    x, t, _ = inputs(models)
    for name in ("W", "U"):
        with pytest.raises(ValueError, match=f"{name} is a tensor of shape"):
            models.replaced(**{name: torch.zeros(3, 6, 4)})
    with pytest.raises(ValueError, match="theta is a tensor of shape"):
        models.replaced(theta=models.theta[0])
    for bad in ({"activation": "sine"}, {"prediction": "x_0"}, {"divisor": 0}, {"learn_features": "no"}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
            small(**bad)
    with pytest.raises(ValueError, match="x is a tensor of shape"):
        models.epsilon(x[:2], t[:2])
    with pytest.raises(ValueError, match="t is a tensor of shape"):
        models.epsilon(x, t[0])
    with pytest.raises(ValueError, match="t is 100"):
        models.epsilon(x, 100)
    with pytest.raises(ValueError, match="seed is 3"):
        models.single(3)
    with pytest.raises(ValueError, match="seeds is"):
        random_models(0, 2, 10, PROCESS)
