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

from flatness.sam import SAM
from flatness.schedules import Always, EveryK, Late

EPS = torch.finfo(torch.float64).eps
RHO = 0.3
ROUNDING = 1e-10
"""Two float64 implementations differ by some 1e-15 per gradient, from the order of sums; a hundred steps, and Adam's
division by a small root, leave that below 1e-12. The mutants are off by more than 1e-4."""
Optimizers: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def data(count: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, k, generator=generator, dtype=torch.float64) for k in (3, 2))  # type: ignore[return-value]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((model(x) - y) ** 2).mean()


def closure_of(sam: SAM, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    return closure


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
        kept = [(p, p.grad.clone()) for p in self._parameters() if p.grad is not None]
        with super().perturbed(set_to_none):
            for p, g in kept:
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


# The contract beyond the equations.


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_radius_zero_and_no_schedule_are_the_plain_optimizer(base: str) -> None:
    for options in ({"rho": 0.0}, {"rho": RHO, "schedule": Late(50)}):
        plain, wrapped = network(), network()
        optimizer = Optimizers[base](plain.parameters())
        sam = SAM(Optimizers[base](wrapped.parameters()), **options)
        for k in range(5):
            x, y = data(seed=k)
            optimizer.zero_grad()
            loss_of(plain, x, y).backward()
            optimizer.step()
            assert not sam.due
            sam.step(closure_of(sam, wrapped, x, y))
        assert same(weights(plain), weights(wrapped))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("factor", [0.0, 1e-38])
def test_zero_gradient_does_not_perturb(factor: float, adaptive: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, 0.0]))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=RHO, adaptive=adaptive)
    seen = []

    def closure() -> Tensor:
        sam.zero_grad()
        seen.append(p.detach().clone())
        loss = (factor * p).sum()
        loss.backward()
        return loss

    sam.step(closure)
    assert same(seen, [torch.tensor([1.0, 0.0])] * 2)
    assert torch.isfinite(p).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("at", ["w", "w_hat", "plain"])
def test_gradient_that_is_not_finite(at: str, adaptive: bool, bad: float) -> None:
    for policy in ("raise", "skip"):
        p, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
        sam = SAM(
            torch.optim.Adam([p, other], lr=0.1),
            rho=0.0 if at == "plain" else RHO,
            adaptive=adaptive,
            on_nonfinite=policy,
        )
        calls = 0

        def closure(bad: float, sam: SAM = sam, p: Tensor = p, other: Tensor = other) -> Tensor:
            nonlocal calls
            sam.zero_grad()
            calls += 1
            loss = (p**2).sum() + (other**2).sum()
            loss.backward()
            assert p.grad is not None
            if at == "plain" or (calls % 2 == 1) == (at == "w"):
                p.grad[0] *= bad
            return loss

        if policy == "raise":
            with pytest.raises(FloatingPointError, match=f"gradient at {'w_hat' if at == 'w_hat' else 'w'} is not"):
                sam.step(lambda: closure(bad))
            assert (sam.steps, sam.skipped) == (0, 0)
        else:
            sam.step(lambda: closure(bad))
            assert (sam.steps, sam.skipped) == (1, 1)
        assert not sam.state
        assert torch.equal(p, torch.ones(2))
        assert torch.equal(other, torch.ones(1))
        sam.step(lambda: closure(1.0))  # and training goes on
        assert float(p.detach().max()) < 1


def test_exception_at_w_hat_puts_weights_back() -> None:
    model = network()
    before = weights(model)
    sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
    x, y = data()

    def closure() -> Tensor:
        sam.zero_grad()
        if not same(weights(model), before):
            raise KeyboardInterrupt
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        sam.step(closure)
    assert same(weights(model), before)
    sam.step(closure_of(sam, model, x, y))
    assert sam.steps == 1


def test_schedules_call_the_closure_once_where_they_do_not_perturb() -> None:
    assert [s for s in range(7) if Late(4)(s)] == [4, 5, 6]
    assert [s for s in range(7) if EveryK(3)(s)] == [0, 3, 6]
    assert Late.after_share(0.9, 200_000) == Late(180_000)
    assert Late.after_share(0.29, 100) == Late(29)  # 0.29 * 100 is a little less than 29
    assert Always()(0)
    cases = (
        (EveryK(3), [2, 1, 1, 2]),
        (Late(2), [1, 1, 2, 2]),
        (None, [2, 2, 2, 2]),
        (lambda step: step == 1, [1, 2, 1, 1]),
    )
    for schedule, calls in cases:
        model, made = network(), []
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO, schedule=schedule)
        closure = closure_of(sam, model, *data())
        for _ in calls:
            count = 0

            def counted() -> Tensor:
                nonlocal count
                count += 1
                return closure()  # noqa: B023

            sam.step(counted)
            made.append(count)
        assert made == calls


def test_ascent_closure_climbs_its_part_and_descends_on_the_whole() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    loss = sam.step(closure_of(sam, model, x, y), ascent_closure=closure_of(sam, model, x[:2], y[:2]))
    reference = network()
    part = loss_of(reference, x[:2], y[:2])
    g = torch.autograd.grad(part, list(reference.parameters()))
    norm = torch.cat([t.flatten() for t in g]).norm()
    w = weights(reference)
    with torch.no_grad():
        for p, t in zip(reference.parameters(), g, strict=True):
            p.add_(RHO * t / norm)
    descent = torch.autograd.grad(loss_of(reference, x, y), list(reference.parameters()))
    assert loss == part.detach()
    for p, t, d in zip(model.parameters(), w, descent, strict=True):
        torch.testing.assert_close(p.detach(), t - 0.1 * d, rtol=0, atol=ROUNDING)


def test_gradient_accumulation_is_the_whole_batch() -> None:
    whole, parts = network(), network()
    sams = [SAM(torch.optim.Adam(m.parameters(), lr=0.1), rho=RHO) for m in (whole, parts)]
    for k in range(5):
        x, y = data(seed=k)
        sams[0].step(closure_of(sams[0], whole, x, y))

        def accumulate(x: Tensor = x, y: Tensor = y) -> None:
            for i in range(0, 8, 2):
                (loss_of(parts, x[i : i + 2], y[i : i + 2]) / 4).backward()

        sams[1].zero_grad()
        accumulate()
        with sams[1].perturbed():
            accumulate()
        sams[1].step()
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("clears", [True, False])
def test_autocast_around_the_step_sees_the_moved_weights(clears: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast keeps cast weights until its block ends: without emptying that cache, SAM would be a plain step."""
    if not clears:
        monkeypatch.setattr(torch, "clear_autocast_cache", lambda: None)
    model = network(dtype=torch.float32)
    x, y = (t.float() for t in data())
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=2.0)
    losses: list[Tensor] = []

    def closure() -> Tensor:
        sam.zero_grad()
        losses.append(loss_of(model, x, y))
        losses[-1].backward()
        return losses[-1]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        sam.step(closure)
    assert (float(losses[1].detach()) > 1.1 * float(losses[0].detach())) == clears
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_compiled_model_sees_the_moved_weights() -> None:
    """With aot_eager: inductor's first compilation takes most of a minute on one core."""
    results = []
    for compiled in (False, True):
        model = network()
        sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
        run = torch.compile(model, backend="aot_eager") if compiled else model
        for k in range(3):
            sam.step(closure_of(sam, run, *data(seed=k)))  # type: ignore[arg-type]
        results.append(weights(model))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("two_phase", [False, True])
def test_addresses_of_weights_gradients_and_copies_stay(two_phase: bool) -> None:
    model = network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    addresses = []
    for k in range(3):
        x, y = data(seed=k)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            loss = loss_of(model, x, y)
            loss.backward()
            return loss

        sam.zero_grad(set_to_none=False)
        if two_phase:
            closure()
            with sam.perturbed(set_to_none=False):
                closure()
            sam.step()
        else:
            sam.step(closure)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        addresses.append([t.data_ptr() for t in [*model.parameters(), *gradients, *sam._saved.values()]])
    assert addresses[0] == addresses[1] == addresses[2]


def test_weights_that_change_their_type_are_restored_bit_for_bit() -> None:
    model = network(dtype=torch.float32)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    x, y = data()
    sam.step(closure_of(sam, model, x.float(), y.float()))
    model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.pi)
    before = weights(model)
    sam.zero_grad()
    loss_of(model, x, y).backward()
    with sam.perturbed():
        assert not same(weights(model), before)
    assert same(weights(model), before)


def test_a_gradient_written_by_hand_does_not_save_a_void_step() -> None:
    """As a replayed CUDA graph writes it, past all hooks."""
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=RHO)
    p.grad = torch.full_like(p, math.nan)
    with sam.perturbed():
        p.grad = torch.ones_like(p)
    with pytest.raises(FloatingPointError, match="gradient at w is not"):
        sam.step()
    assert torch.equal(p, torch.ones(2))


def test_closures_run_with_gradients_on() -> None:
    model = network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    with torch.no_grad():
        loss = sam.step(closure_of(sam, model, *data()))
    assert isinstance(loss, Tensor)
    assert not loss.requires_grad


@pytest.mark.parametrize("on_sam", [True, False])
def test_learning_rate_schedulers_and_groups(on_sam: bool) -> None:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    base = torch.optim.SGD([first], lr=1.0)
    sam = SAM(base, rho=RHO)
    sam.add_param_group({"params": [second], "lr": 0.5})
    scheduler = torch.optim.lr_scheduler.StepLR(sam if on_sam else base, step_size=1, gamma=0.1)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = first.sum() + second.sum()
        loss.backward()
        return loss

    for _ in range(2):
        sam.step(closure)
        scheduler.step()
    assert [g["lr"] for g in sam.param_groups] == pytest.approx([0.01, 0.005], rel=1e-12)
    # gradient 1 at each: 1 + .1 off the first, half of that off the second, in float32
    assert (first.item(), second.item()) == pytest.approx((-0.1, 0.45), abs=1e-6)


def scaled_step(scaler: Any, sam: SAM, model: nn.Module, x: Tensor, y: Tensor) -> None:
    sam.zero_grad()
    scaler.scale(loss_of(model, x, y)).backward()
    if sam.due:
        with sam.perturbed():
            scaler.scale(loss_of(model, x, y)).backward()
    scaler.step(sam)
    scaler.update()


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_grad_scaler_in_two_phases_is_exact(base: str) -> None:
    """The scale is a power of two, so no digit changes."""
    plain, scaled = network(dtype=torch.float32), network(dtype=torch.float32)
    sam, amp = (SAM(Optimizers[base](m.parameters()), rho=RHO, schedule=EveryK(2)) for m in (plain, scaled))
    scaler = torch.amp.GradScaler("cpu")
    for k in range(4):
        x, y = (t.float() for t in data(seed=k))
        sam.step(closure_of(sam, plain, x, y))
        scaled_step(scaler, amp, scaled, x, y)
    assert same(weights(plain), weights(scaled))


@pytest.mark.parametrize("at", ["w", "w_hat"])
def test_grad_scaler_skips_overflows_and_backs_off(at: str) -> None:
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.Adam([p], lr=0.1), rho=RHO)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale((p**2).sum() * (math.inf if at == "w" else 1)).backward()
    with sam.perturbed():
        scaler.scale((p**2).sum() * (math.inf if at == "w_hat" else 1)).backward()
    scaler.step(sam)
    scaler.update()
    assert torch.equal(p, torch.ones(2))
    assert (sam.steps, sam.skipped, scaler.get_scale()) == (1, 1, 2.0**9)


def test_grad_scaler_misuse_is_refused() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
    before = weights(model)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(model, x, y)
        scaler.scale(loss).backward()
        return loss

    scaler = torch.amp.GradScaler("cpu")
    closure()
    with pytest.raises(RuntimeError, match="two-phase"):
        scaler.step(sam, closure)
    scaler = torch.amp.GradScaler("cpu")
    closure()
    with pytest.raises(RuntimeError, match="no perturbed pass"):
        scaler.step(sam)
    for early in (True, False):
        scaler = torch.amp.GradScaler("cpu")
        closure()
        if early:
            scaler.unscale_(sam)
        with sam.perturbed():
            closure()
        if not early:
            scaler.unscale_(sam)
        with pytest.raises(RuntimeError, match="unscale_"):
            scaler.step(sam)
        sam.zero_grad()
    assert same(weights(model), before)
    sam.step(closure_of(sam, model, x, y))  # nothing of the scaler is left behind
    assert sam.steps == 1


def test_misuse_of_the_two_phases_is_refused() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    with pytest.raises(RuntimeError, match="no parameter has a gradient"), sam.perturbed():
        pass
    loss_of(model, x, y).backward()
    with pytest.raises(RuntimeError, match="no perturbed pass"):
        sam.step()
    with sam.perturbed():
        loss_of(model, x, y).backward()
        with pytest.raises(RuntimeError, match="begun before"), sam.perturbed():
            pass
    with pytest.raises(RuntimeError, match="begun before"):
        sam.step(closure_of(sam, model, x, y))
    sam.zero_grad()  # drops it
    with pytest.raises(ValueError, match="closure returned None"):
        sam.step(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="closure is None"):
        sam.step(None, lambda: 0.0)
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        sam.step(lambda: loss_of(model, x, y))
    with pytest.raises(ValueError, match="written by SAM"):
        sam.load_state_dict(sam.optimizer.state_dict())
    assert sam.steps == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": -0.1}, "rho is -0.1; allowed: a finite number of at least 0"),
        ({"rho": math.nan}, "rho is nan"),
        ({"rho": "0.1"}, "rho is '0.1'"),
        ({"adaptive": 1}, "adaptive is 1; allowed: True or False"),
        ({"schedule": 3}, "schedule is 3"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite is 'ignore'; allowed: one of 'raise', 'skip'"),
        ({"gradients": "global"}, "gradients is 'global'"),
        ({"model": 1}, "model is 1"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"same_randomness": None}, "same_randomness is None"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(torch.optim.SGD(network().parameters(), lr=0.1), **options)


def test_optimizers_that_cannot_be_wrapped() -> None:
    parameters = list(network().parameters())
    sgd = torch.optim.SGD(parameters, lr=0.1)
    for optimizer, message in (
        ("sgd", "optimizer is 'sgd'"),
        (SAM(sgd), "not SAM"),
        (torch.optim.LBFGS(parameters), "without a closure"),
        (torch.optim.SGD(parameters, lr=0.1, maximize=True), "minimises"),
        (torch.optim.SGD(network(dtype=torch.bfloat16).parameters(), lr=0.1), "bfloat16; allowed: float32, float64"),
    ):
        with pytest.raises(ValueError, match=message):
            SAM(optimizer)  # type: ignore[arg-type]
    for make, argument in ((Late, -1), (EveryK, 0), (EveryK, 1.5), (Late, True)):
        with pytest.raises(ValueError, match="allowed: a whole number"):
            make(argument)  # type: ignore[arg-type]
    sam = SAM(sgd)
    with pytest.raises(ValueError, match="float16; allowed: float32, float64"):
        sam.add_param_group({"params": [nn.Parameter(torch.ones(1, dtype=torch.float16))]})
    assert len(sam.param_groups) == 1
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        Late.after_share(1.5, 10)
    embedding = nn.Embedding(3, 2, sparse=True)
    sam = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1))
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"), sam.perturbed():
        pass
