"""Every measure on every model: what slow loops find too, and nothing is left otherwise than it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

import flatness
from flatness.weights import derived_seed
from tests.flatness.subjects import (
    SEED,
    SUBJECTS,
    At,
    Change,
    check_rise,
    left_alone,
    noise,
    norm,
    weights_of,
)

DRAWS = 2


@pytest.fixture(scope="module", params=SUBJECTS)
def built(request: pytest.FixtureRequest) -> At:
    return At.of(request.param)


@pytest.fixture
def at(built: At) -> Iterator[At]:
    """One model for all measures."""
    with left_alone(built):
        yield built


def along_noise(sigma: float, label: str, draw: int, scale: str = "absolute") -> Change:
    seed = derived_seed(label, SEED, draw)
    return lambda weights: [sigma * z for z in noise(weights, seed, scale)]


@pytest.mark.parametrize("scale", ["absolute", "layer", "filter"])
def test_low_pass_filter(at: At, scale: str) -> None:
    sigma = 0.05 if scale == "absolute" else 0.2
    for eval_mode in (True, False):
        rise = flatness.low_pass_filter(
            at.model, at.subject.loss, at.subject.batches, sigma=sigma, draws=DRAWS, scale=scale, eval_mode=eval_mode
        )
        changes = [along_noise(sigma, "draw", draw, scale) for draw in range(DRAWS)]
        expected, mirrored = (
            sum(at.rise(change, eval_mode, sign) for change in changes) / DRAWS for sign in (1.0, -1.0)
        )
        check_rise(rise.rise.value, at.unmoved, expected, mirrored)
        if eval_mode:
            assert rise.loss.value == pytest.approx(float(at.unmoved.mean()), rel=1e-6)
        assert rise.settings["weights"] == sum(w.numel() for w in weights_of(at.model))
        assert not any("_orig_mod" in name for name in rise.settings["parameters"])


def test_perturbation_curve(at: At) -> None:
    gammas = (0.5, 1.0)
    curve = flatness.perturbation_curve(at.model, at.subject.loss, at.subject.batches, gammas, draws=DRAWS)

    def change(gamma: float, draw: int) -> Change:
        def moves(weights: Sequence[Tensor]) -> list[Tensor]:
            z = noise(weights, derived_seed("draw", SEED, draw))
            return [gamma / norm(z) * part for part in z]

        return moves

    for gamma, rise in zip(gammas, curve.rises, strict=True):
        expected, mirrored = (
            sum(at.rise(change(gamma, draw), sign=sign) for draw in range(DRAWS)) / DRAWS for sign in (1.0, -1.0)
        )
        check_rise(rise.value, at.unmoved, expected, mirrored)


def test_perturbation_curve_along_the_gradient(at: At) -> None:
    curve = flatness.perturbation_curve(
        at.model, at.subject.loss, at.subject.batches, [0.2], directions="gradient", draws=1
    )
    gradient = at.subject.gradient(at.subject.plain())

    def change(weights: Sequence[Tensor]) -> list[Tensor]:
        return [0.2 / norm(gradient) * part for part in gradient]

    expected, mirrored = at.rise(change), at.rise(change, sign=-1.0)
    if at.subject.low:  # gradients in bfloat16, of 8 significant bits, summed over batches in another order
        assert curve.rises[0].value == pytest.approx(expected, rel=0.02)
    else:
        check_rise(curve.rises[0].value, at.unmoved, expected, mirrored)
    assert expected > 0 > mirrored


def test_loss_surface(at: At) -> None:
    first, second = (-0.3, 0.4), (0.5,)
    surface = flatness.loss_surface(at.model, at.subject.loss, at.subject.batches, first, second)

    def change(a: float, b: float) -> Change:
        def moves(weights: Sequence[Tensor]) -> list[Tensor]:
            total = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
            for axis, share in enumerate((a, b)):
                for into, w, z in zip(total, weights, noise(weights, derived_seed("surface", SEED, axis)), strict=True):
                    if w.dim() > 1:  # Li et al.: filters get their weights' norms, biases stay
                        ratio = w.double().flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)
                        into += share * z * ratio.view(-1, *[1] * (w.dim() - 1))
            return total

        return moves

    for i, a in enumerate(first):
        rise, level = surface.rises[i][0].value, surface.losses[i][0].value
        check_rise(rise, at.unmoved, at.rise(change(a, 0.5)), at.rise(change(a, 0.5), sign=-1.0))
        assert level == pytest.approx(surface.loss.value + rise, rel=1e-12)


def test_curvature(at: At) -> None:
    """One probe's v^T H v, and the largest eigenvalue among a few weights, against differences of gradients."""
    measured = (at.model, at.subject.loss, at.subject.batches)
    curvature = flatness.curvature(*measured, probes=1, max_steps=0)
    signs = [z.sign() for z in noise(weights_of(at.model), derived_seed("probe", SEED, 0))]
    product = at.subject.hessian_times(signs)
    expected = sum(float((v * part).sum()) for v, part in zip(signs, product, strict=True))
    # float32 products; in bfloat16 of 8 significant bits
    limit = 0.1 if at.subject.low else 1e-4
    assert curvature.trace.value == pytest.approx(expected, rel=limit)
    few = next(i for i, w in enumerate(weights_of(at.model)) if w.dim() == 1 and w.requires_grad)
    name = list(flatness.modules.selected_parameters(at.model))[few]
    size = weights_of(at.model)[few].numel()
    rows = []
    for entry in range(size):
        unit = [torch.zeros_like(w, dtype=torch.float64) for w in weights_of(at.model)]
        unit[few][entry] = 1.0
        rows.append(at.subject.hessian_times(unit)[few])
    top = float(torch.linalg.eigvalsh(torch.stack(rows))[-1])
    lanczos = flatness.curvature(*measured, probes=0, max_steps=size, parameters=[name], tolerance=1e-6)
    assert lanczos.top_eigenvalue == pytest.approx(top, rel=limit)
    assert top > 0


@pytest.mark.parametrize("name", ["viewed", "compiled mlp"])
def test_curvature_by_either_engine(name: str) -> None:
    built = At.of(name)
    traces = [
        flatness.curvature(built.model, built.subject.loss, built.subject.batches, probes=1, max_steps=0, engine=engine)
        for engine in ("torch", "curvlinops")
    ]
    assert traces[1].trace.value == pytest.approx(traces[0].trace.value, rel=1e-5)  # float32
