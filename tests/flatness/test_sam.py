"""SAM against closed forms, an independent numpy implementation, and mutants that the checks must find out.

A check is a function of the implementation; KILLED_BY says which checks a mutant has to fail.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flatness.training.perturbed_optimizer import EveryK
from flatness.training.sam import SAM
from tests.flatness.sam_common import EPS, RHO, ROUNDING, Optimizers, closure_of, data, loss_of, network, same, weights

# Checks, each of one implementation.


def check_perturbation(make: type[SAM]) -> None:
    """w_hat - w is rho g / |g| with the norm over all parameters of all groups, and where g came to none, zero."""
    w = [torch.tensor([3.0, -1.0], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64), torch.ones(2)]
    parameters = [nn.Parameter(t.clone()) for t in w]
    sam = make(torch.optim.SGD(parameters[:1], lr=0.1), rho=RHO)
    sam.add_param_group({"params": parameters[1:], "lr": 0.5})
    curvature = (4.0, 30.0)  # loss 1/2 sum h |w|^2, gradient h w
    torch.stack([h / 2 * (p**2).sum() for h, p in zip(curvature, parameters, strict=False)]).sum().backward()
    g = [h * t for h, t in zip(curvature, w, strict=False)]
    norm = math.sqrt(sum(float((t**2).sum()) for t in g))
    with sam.perturbed():
        assert all(p.grad is None for p in parameters)
        for p, t, gradient in zip(parameters, w, g, strict=False):
            # one rounding each of the product, of w + e and of the difference here
            torch.testing.assert_close(
                p.detach() - t, RHO * gradient / norm, rtol=0, atol=4 * EPS * float(t.abs().max())
            )
        assert torch.equal(parameters[2], w[2])


def check_restored(make: type[SAM]) -> None:
    """Bit for bit, in place, also where the pass at w_hat, or neither pass, brought a gradient."""
    torch.manual_seed(0)
    used, first_only, unused = (nn.Parameter(torch.randn(50) * 10.0**k) for k in (-3, 0, 2))
    sam = make(torch.optim.SGD([used, first_only, unused], lr=0.0), rho=RHO)
    before = [p.detach().clone() for p in (used, first_only, unused)]
    addresses = [p.data_ptr() for p in (used, first_only, unused)]
    for _ in range(3):
        ((used**2).sum() + (first_only**3).sum()).backward()
        with sam.perturbed():
            (used**2).sum().backward()
            with torch.no_grad():
                unused.add_(1)  # whatever happens within is undone
        assert same([used, first_only, unused], before)
        sam.step()
        sam.zero_grad()
    assert [p.data_ptr() for p in (used, first_only, unused)] == addresses


class NumpySAM:
    """SAM on a network of one hidden layer, tanh and squares, gradients by hand."""

    def __init__(self, w: list[np.ndarray], base: str, adaptive: bool) -> None:
        self.w, self.base, self.adaptive, self.t = w, base, adaptive, 0
        self.m = [np.zeros_like(a) for a in w]
        self.v = [np.zeros_like(a) for a in w]

    @staticmethod
    def gradient(w: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
        W1, b1, W2, b2 = w
        a = np.tanh(x @ W1.T + b1)
        r = a @ W2.T + b2 - y
        dr = 2 * r / r.size
        dz = (dr @ W2) * (1 - a**2)
        return float((r**2).mean()), [dz.T @ x, dz.sum(0), dr.T @ a, dr.sum(0)]

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        loss, g = self.gradient(self.w, x, y)
        T = [abs(a) + 0.01 if self.adaptive else np.ones_like(a) for a in self.w]
        norm = math.sqrt(sum(float(((s * a) ** 2).sum()) for s, a in zip(T, g, strict=True)))
        w_hat = [a + RHO * s * s * b / norm for a, s, b in zip(self.w, T, g, strict=True)]
        _, g = self.gradient(w_hat, x, y)
        self.t += 1
        if self.base == "sgd":
            self.m = [0.9 * m + a for m, a in zip(self.m, g, strict=True)]
            self.w = [a - 0.1 * m for a, m in zip(self.w, self.m, strict=True)]
        else:
            self.m = [0.9 * m + 0.1 * a for m, a in zip(self.m, g, strict=True)]
            self.v = [0.999 * v + 0.001 * a**2 for v, a in zip(self.v, g, strict=True)]
            for a, m, v in zip(self.w, self.m, self.v, strict=True):
                a -= 0.01 * (m / (1 - 0.9**self.t)) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-8)
        return loss


def check_trajectory(make: type[SAM], base: str = "adam", adaptive: bool = False) -> None:
    """100 steps of changing batches, weights and losses, as the numpy implementation makes them."""
    model = network()
    reference = NumpySAM([p.detach().numpy().copy() for p in model.parameters()], base, adaptive)
    sam = make(Optimizers[base](model.parameters()), rho=RHO, adaptive=adaptive)
    for k in range(100):
        x, y = data(seed=k)
        loss = sam.step(closure_of(sam, model, x, y))
        assert loss is not None
        assert abs(float(loss) - reference.step(x.numpy(), y.numpy())) <= ROUNDING
    for p, a in zip(model.parameters(), reference.w, strict=True):
        assert np.abs(p.detach().numpy() - a).max() <= ROUNDING


def check_randomness(make: type[SAM]) -> None:
    """Both passes draw the same numbers; the next step draws others, those a plain step would leave for it."""
    p = nn.Parameter(torch.ones(3))
    sam = make(torch.optim.SGD([p], lr=0.1), rho=RHO)
    drawn: list[Tensor] = []

    def closure() -> Tensor:
        sam.zero_grad()
        drawn.append(torch.rand(3))
        loss = (drawn[-1] * p**2).sum()
        loss.backward()
        return loss

    torch.manual_seed(0)
    plain = [torch.rand(3) for _ in range(2)]
    torch.manual_seed(0)
    sam.step(closure)
    sam.step(closure)
    assert same(drawn, [plain[0], plain[0], plain[1], plain[1]])


def check_resume(make: type[SAM]) -> None:
    """Saved, loaded into new objects and continued equals never stopped, bit for bit; the file loads weights_only."""
    schedule = EveryK(2)
    results = []
    for stop in (False, True):
        model = network()
        sam = make(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO, adaptive=True, eta=0.5, schedule=schedule)
        sam.skipped = 7
        for k in range(6):
            if stop and k == 3:
                file = io.BytesIO()
                torch.save({"model": model.state_dict(), "sam": sam.state_dict()}, file)
                file.seek(0)
                state = torch.load(file, weights_only=True)
                model = network(seed=5)
                model.load_state_dict(state["model"])
                sam = make(torch.optim.Adam(model.parameters(), lr=0.7), rho=1.0, schedule=schedule)
                sam.load_state_dict(state["sam"])
            sam.step(closure_of(sam, model, *data(seed=k)))
        results.append(weights(model))
        assert (sam.steps, sam.skipped) == (6, 7)
    assert same(*results)


def check_two_phases(make: type[SAM]) -> None:
    """The two-phase form is the closure form: the same dropout in both passes, gradients cleared between them."""
    x, y = data()
    results = []
    for two_phase in (False, True):
        model = nn.Sequential(network(), nn.Dropout(0.5))
        sam = make(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
        for _ in range(3):
            if two_phase:
                sam.zero_grad()
                with sam.first_pass():
                    loss_of(model, x, y).backward()
                with sam.perturbed():
                    loss_of(model, x, y).backward()
                sam.step()
            else:
                sam.step(closure_of(sam, model, x, y))
        results.append(weights(model))
    assert same(*results)


def check_buffers(make: type[SAM]) -> None:
    """Running statistics are updated once a step, at w."""
    (x, y), models = data(), [nn.Sequential(nn.BatchNorm1d(3), network()).double() for _ in range(2)]
    sam = make(torch.optim.SGD(models[0].parameters(), lr=0.1), rho=RHO, model=models[0])
    sam.step(closure_of(sam, models[0], x, y))
    models[1](x)
    assert same(list(models[0].buffers()), list(models[1].buffers()))


def check_large_norm(make: type[SAM]) -> None:
    """|e| is rho for four million float32 weights too, where a plain float32 sum loses its last digits."""
    p = nn.Parameter(torch.zeros(2**22))
    sam = make(torch.optim.SGD([p], lr=0.1), rho=RHO)
    p.grad = torch.full_like(p, 0.1)
    with sam.perturbed():
        # each weight is rho / 2^11, rounded twice in float32
        assert (p.detach() * 2**11 / RHO - 1).abs().max() <= 2 * torch.finfo(torch.float32).eps


# Mutants: what an implementation can get wrong.


class DoesNothing(SAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        return True


class Descends(SAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        self._rho = -self._rho
        moved = super()._ascend(parameters)
        self._rho = -self._rho
        return moved


class NormPerLayer(SAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        return all(super(NormPerLayer, self)._ascend([p]) for p in parameters if p.grad is not None)


class RestoresWithGradient(SAM):
    def _put_back(self, parameters: list[Tensor]) -> None:
        super()._put_back([p for p in parameters if p.grad is not None])


class Subtracts(SAM):
    @torch.no_grad()
    def _ascend(self, parameters: list[Tensor]) -> bool:
        norm = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in parameters if p.grad is not None))
        self.moves = {p: p.grad * (self.rho / norm) for p in parameters if p.grad is not None}
        torch._foreach_add_(list(self.moves), list(self.moves.values()))
        return True

    @torch.no_grad()
    def _put_back(self, parameters: list[Tensor]) -> None:
        torch._foreach_sub_(list(self.moves), list(self.moves.values()))


class DrawsAnew(SAM):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, same_randomness=False, **options)


class KeepsGradients(SAM):
    @contextlib.contextmanager
    def perturbed(self, set_to_none: bool = True) -> Iterator[None]:
        gradients = [(p, p.grad.clone()) for p in self._parameters() if p.grad is not None]
        with super().perturbed(set_to_none):
            for p, g in gradients:
                p.grad = g
            yield


class KeepsNoBuffers(SAM):
    def __init__(self, *args: Any, model: nn.Module | None = None, **options: Any) -> None:
        super().__init__(*args, **options)


class ForgetsMoments(SAM):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": {}}


class ForgetsSteps(SAM):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.steps = 0


class PlainNorm(SAM):
    @torch.no_grad()
    def _ascend(self, parameters: list[Tensor]) -> bool:
        for p in parameters:
            if p.grad is not None:
                p.add_(p.grad, alpha=self.rho / torch.linalg.vector_norm(p.grad).item())
        return True


KILLED_BY: dict[type[SAM], list[Callable[[type[SAM]], None]]] = {
    DoesNothing: [check_perturbation, check_trajectory, check_large_norm],
    Descends: [check_perturbation, check_trajectory, check_large_norm],
    NormPerLayer: [check_perturbation, check_trajectory],
    RestoresWithGradient: [check_restored],
    Subtracts: [check_restored],
    DrawsAnew: [check_randomness],
    KeepsGradients: [check_two_phases],
    KeepsNoBuffers: [check_buffers],
    ForgetsMoments: [check_resume],
    ForgetsSteps: [check_resume],
    PlainNorm: [check_large_norm],
}
CHECKS = [
    check_perturbation,
    check_restored,
    check_randomness,
    check_resume,
    check_two_phases,
    check_buffers,
    check_large_norm,
]


@pytest.mark.parametrize("check", CHECKS)
def test_check(check: Callable[[type[SAM]], None]) -> None:
    check(SAM)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_trajectory(base: str, adaptive: bool) -> None:
    check_trajectory(SAM, base, adaptive)


@pytest.mark.parametrize(("mutant", "check"), [(m, c) for m, checks in KILLED_BY.items() for c in checks])
def test_mutant_is_found_out(mutant: type[SAM], check: Callable[[type[SAM]], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    scale=st.floats(-20, 20),
    rho=st.floats(1e-6, 1e3),
    adaptive=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_perturbation_has_length_rho(
    shapes: list[list[int]], scale: float, rho: float, adaptive: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
    w = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 10.0**scale
    sam = SAM(torch.optim.SGD(parameters, lr=0.1), rho=rho, adaptive=adaptive, eta=0.5)
    with sam.perturbed():
        e = torch.cat([(p.detach() - t).flatten() for p, t in zip(parameters, w, strict=True)])
    T = torch.cat([t.abs().flatten() + 0.5 if adaptive else torch.ones(t.numel(), dtype=torch.float64) for t in w])
    size = torch.cat([t.flatten() for t in w]).norm()
    # half an ulp in w + e, four more in the products, over the smallest T
    bound = 4 * EPS * (rho + float(size)) / (0.5 if adaptive else 1)
    assert abs(float((e / T).norm()) - rho) <= bound or e.numel() == 0
