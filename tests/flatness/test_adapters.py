"""Losses of every parametrisation at the best network for Gaussian data, how batches are read, and mutants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flatness.diffusion import losses as adapters
from flatness.diffusion import noise_paths
from flatness.diffusion.losses import Batch, edm_loss, epsilon_loss, fixed_batches, flow_loss, v_loss, x_0_loss
from flatness.diffusion.noise_paths import RECTIFIED_FLOW, ContinuousPath, DiscretePath, LogNormal, UniformSteps
from flatness.measuring.low_pass_filter import low_pass_filter
from tests.flatness import measures_common as common
from tests.flatness.adapters_common import BARS, NAMES, Gains, case, data


def losses_by_time(name: str, shift: float = 0.0) -> list[Tensor]:
    """The losses of the best network's samples, its gains shifted, apart for each time."""
    of = case(name)
    model = Gains(of.network_times, of.gains + shift)
    (batch,) = fixed_batches(data(), batch_size=10**6)
    with torch.no_grad():
        values = of.loss(model, batch)
    assert batch.u is not None
    index = (batch.u * len(BARS)).long()
    return [values[index == k] for k in range(len(BARS))]


def check_minimum(name: str) -> None:
    """The loss is the closed form's at each time, and its derivative by the gain is 0."""
    minima = case(name).minima
    # A loss is quadratic in the gain, so that the central difference is its derivative for any step
    here, up, down = (losses_by_time(name, shift) for shift in (0.0, 0.5, -0.5))
    for k, expected in enumerate(minima.tolist()):
        assert len(here[k]) == 1000
        error = float(here[k].std()) / len(here[k]) ** 0.5
        assert abs(float(here[k].mean()) - expected) < common.STANDARD_ERRORS * error
        slope = up[k] - down[k]
        assert abs(float(slope.mean())) < common.STANDARD_ERRORS * float(slope.std()) / len(slope) ** 0.5
        assert float(up[k].mean()) > float(here[k].mean())  # a minimum, and the network's output counts


def flipped_target(*given: Any) -> Tensor:
    """Mutant: the target's sign."""
    from flatness.diffusion.predictions import prediction_target

    return -prediction_target(*given)


def without_noise(batch: Batch) -> tuple[Any, ...]:
    """Mutant: nothing is added to the data."""
    assert batch.noise is not None
    return batch.x_0, batch.labels, torch.zeros_like(batch.noise), batch.u


def swapped(path: type) -> Any:
    """Mutant: alpha and sigma."""
    original: Callable[..., tuple[Tensor, Tensor]] = path.coefficients  # type: ignore[attr-defined]
    return common.patched(path, "coefficients", lambda self, t: original(self, t)[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_best_network_for_gaussian_data_has_the_least_loss(name: str) -> None:
    check_minimum(name)


@pytest.mark.parametrize("name", [name for name in NAMES if "edm" not in name])
def test_mutants_fail(name: str) -> None:
    path = DiscretePath if name not in ("flow", "v, continuous") else ContinuousPath
    mutants = {
        "target": lambda: common.patched(adapters, "prediction_target", flipped_target),
        "alpha and sigma": lambda: swapped(path),
        "no noise": lambda: common.patched(adapters, "completed", without_noise),
    }
    for mutant in mutants.values():
        with mutant(), pytest.raises(AssertionError):
            check_minimum(name)


@pytest.mark.parametrize("name", ["edm", "edm, preconditioned"])
def test_mutants_of_edm_fail(name: str) -> None:
    original = adapters.EDMLoss.denoised
    mutants = (
        common.patched(adapters.EDMLoss, "denoised", lambda self, m, x, s, y: -original(self, m, x, s, y)),
        common.patched(adapters.EDMLoss, "denoised", lambda self, m, x, s, y: original(self, m, x, 2 * s, y)),
        common.patched(adapters.EDMLoss, "_weighted", lambda self, losses, sigma: losses * sigma),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_minimum(name)


def test_edms_weight_makes_the_raw_networks_error_count_once() -> None:
    """lambda c_out^2 = 1 (Karras et al., 2022, Table 1), so that closed forms of the readout apply."""
    model = Gains(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    raised = Gains(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    (batch,) = fixed_batches(data(50), batch_size=50)
    outputs: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, given, output: outputs.append(output))
    raised.register_forward_hook(lambda module, given, output: output + 3.0)
    values, moved = edm_loss()(model, batch), edm_loss()(raised, batch)
    lowered = Gains(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    lowered.register_forward_hook(lambda module, given, output: output - 3.0)
    # second difference of a squared error of weight 1 under a shift of 3: 2 * 9
    second = moved + edm_loss()(lowered, batch) - 2 * values
    assert torch.allclose(second, torch.full_like(second, 18.0), rtol=1e-9)
    hook.remove()
    assert len(outputs) == 1


def test_fixed_batches_make_losses_independent_of_the_batch_size_and_pair_models() -> None:
    of = case("v")
    x = data(30)
    first = fixed_batches(x, batch_size=7, seed=3)
    second = fixed_batches(x, batch_size=30, seed=3)
    assert [len(batch.x_0) for batch in first] == [7, 7, 7, 7, 2]
    for name in ("x_0", "noise", "u"):
        assert torch.equal(torch.cat([getattr(batch, name) for batch in first]), getattr(second[0], name))
    assert not torch.equal(fixed_batches(x, seed=4, batch_size=30)[0].noise, second[0].noise)  # type: ignore[arg-type]
    rises = [
        low_pass_filter(of.model(), of.loss, batches, sigma=0.1, draws=3, seed=seed)
        for batches, seed in ((first, 0), (second, 0))
    ]
    assert rises[0].rise.value == pytest.approx(rises[1].rise.value, rel=1e-12)  # sums in another order
    u = second[0].u
    assert u is not None
    assert sorted((u * 30).long().tolist()) == list(range(30))
    assert u.tolist() != sorted(u.tolist())  # not in the data's order


def check_batches(batches: Callable[..., list[Batch]]) -> None:
    """Every sample keeps what is its own, in later batches and in a last one that is not full: of the numbers drawn
    for all, sample i has the i-th."""
    x_0 = torch.arange(14.0).reshape(7, 2)
    labels = torch.arange(100, 107)
    whole = batches(x_0, labels, batch_size=7, seed=3)[0]
    parts = batches(x_0, labels, batch_size=3, seed=3)
    assert [len(part.x_0) for part in parts] == [3, 3, 1]
    assert torch.equal(whole.x_0, x_0)
    for name, own in (*whole._asdict().items(), ("labels", labels)):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), own), name
    assert len({float(u) for part in parts if part.u is not None for u in part.u}) == 7
    assert all(part.labels is None for part in batches(x_0, batch_size=3))
    vectors = torch.randn(7, 4)
    own_vectors = [part.labels for part in batches(x_0, vectors, batch_size=3) if part.labels is not None]
    assert torch.equal(torch.cat(own_vectors), vectors)


def always_the_first(field: str) -> Callable[..., list[Batch]]:
    """Mutant: later batches get what belongs to the first samples."""

    def batches(*given: Any, **more: Any) -> list[Batch]:
        right = fixed_batches(*given, **more)
        first = getattr(right[0], field)
        return [part if first is None else part._replace(**{field: first[: len(part.x_0)]}) for part in right]

    return batches


def test_every_sample_keeps_its_label_noise_and_time() -> None:
    check_batches(fixed_batches)
    for field in ("x_0", "labels", "noise", "u"):
        with pytest.raises(AssertionError):
            check_batches(always_the_first(field))


def test_bare_tensors_draw_from_the_generators_that_measures_seed() -> None:
    of = case("epsilon")
    batches: list[Any] = [data(8), (data(8),), (data(8), torch.zeros(8))]
    rises = [low_pass_filter(of.model(), of.loss, batches, sigma=0.0, draws=2) for _ in range(2)]
    assert rises[0].loss == rises[1].loss
    assert rises[0].rise.value == 0.0
    other = low_pass_filter(of.model(), of.loss, batches, sigma=0.0, draws=2, seed=1)
    assert other.loss.value != rises[0].loss.value
    torch.manual_seed(0)
    first = of.loss(of.model(), batches[0])
    assert not torch.equal(first, of.loss(of.model(), batches[0]))


@pytest.mark.parametrize("make", [epsilon_loss, x_0_loss, v_loss, flow_loss])
def test_options_reach_the_loss_of_every_prediction(make: Callable[..., Any]) -> None:
    weight = lambda alpha, sigma: alpha  # noqa: E731
    times = noise_paths.GivenTimes([2])
    own = {"times": times, "labels": "y", "keywords": {"mask": None}, "time_scale": 3.0, "weight": weight}
    loss = make(BARS, **own)
    assert torch.equal(loss.path.alphas_cumprod, BARS.double())
    assert (loss.times, loss.weight) == (times, weight)
    assert (loss.call.labels, dict(loss.call.keywords), loss.call.time_scale) == ("y", {"mask": None}, 3.0)


@pytest.mark.parametrize(
    ("path", "times", "expected"),
    [
        (DiscretePath(BARS), [0, 3], torch.tensor([0, 3])),
        (DiscretePath(BARS), torch.tensor([0, 3], dtype=torch.uint8), torch.tensor([0, 3])),
        (DiscretePath(BARS), None, torch.arange(4)),
        (RECTIFIED_FLOW, (0.25, 1), torch.tensor([0.25, 1.0], dtype=torch.float64)),
        (RECTIFIED_FLOW, torch.tensor([0.25, 1.0]), torch.tensor([0.25, 1.0], dtype=torch.float64)),
    ],
)
def test_a_samplers_times_may_be_numbers_or_a_tensor(path: Any, times: Any, expected: Tensor) -> None:
    found = noise_paths.sampler_times(path, times)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_steps_of_any_whole_numbers_type_are_steps() -> None:
    path = DiscretePath(BARS)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        alpha, _ = path.coefficients(torch.tensor([2, 0, 1], dtype=dtype))
        assert torch.equal(alpha, BARS.double()[[2, 0, 1]].sqrt())


def test_whole_times_stay_whole_and_batch_sizes_may_be_numpys() -> None:
    assert noise_paths.GivenTimes([2**53 + 1]).values == (2**53 + 1,)
    assert [len(batch.x_0) for batch in fixed_batches(data(5), batch_size=cast("int", np.int64(3)))] == [3, 2]


def test_times_weights_and_settings() -> None:
    loss = epsilon_loss(BARS, weight=lambda alpha, sigma: alpha / sigma)
    (batch,) = fixed_batches(data(40), batch_size=40)
    assert batch.u is not None
    model = case("epsilon").model()
    bars = BARS[(batch.u * 4).long()]
    expected = epsilon_loss(BARS)(model, batch) * (bars / (1 - bars)).sqrt()
    assert torch.allclose(loss(model, batch), expected, rtol=1e-12)
    assert loss.settings()["times"] == "UniformSteps(total=4)"
    assert loss.settings()["steps"] == 4
    assert flow_loss().settings()["path"].startswith("rectified flow")
    assert edm_loss(0.25).settings()["sigma_data"] == 0.25
    assert edm_loss().settings()["times"] == str(LogNormal(-1.2, 1.2))


class Labelled(nn.Module):
    """Returns its label, in whatever form is asked for."""

    def __init__(self, form: str) -> None:
        """By form's name."""
        super().__init__()
        self.form, self.weight = form, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, *, return_dict: bool = True) -> Any:
        """The labels, spread over x's shape."""
        labels = torch.zeros(len(x)) if y is None else y
        output = labels.to(x).view(-1, 1, 1, 1) + self.weight + torch.zeros_like(x)
        return {
            "tensor": output,
            "tuple": (output, 3),
            "list": [output],
            "dict": {"sample": output, "other": output + 1},
            "only": {"output": output},
            "doubled": torch.cat([output, output + 1], 1),
            "keyword": output if not return_dict else (output + 9,),
            "text": "nothing",
            "narrow": output[:, :1],
            "whole": output.long(),
        }[self.form]


@pytest.mark.parametrize("form", ["tensor", "tuple", "list", "dict", "only", "doubled", "keyword"])
@pytest.mark.parametrize("passed", ["positional", "y"])
def test_labels_reach_the_network_and_outputs_of_all_kinds_are_read(form: str, passed: str) -> None:
    keywords = {"return_dict": False} if form == "keyword" else None
    loss = x_0_loss(BARS, labels=passed, keywords=keywords)
    x = torch.zeros(3, 2, 2, 2)
    values = loss(Labelled(form), Batch(x, torch.tensor([0, 1, 2])))
    assert values.tolist() == [0.0, 1.0, 4.0]
    assert x_0_loss(BARS, keywords=keywords)(Labelled(form), (x, torch.tensor([0, 1, 2]))).tolist() == [0.0, 0.0, 0.0]


def test_weights_in_bfloat16_are_given_their_type() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4).bfloat16()

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            assert t.dtype == torch.float32  # bfloat16 would round times to 3 digits
            return self.layer(x)

    values = flow_loss()(Narrow(), torch.randn(5, 4))
    assert values.dtype == torch.float32
    assert values.shape == (5,)


X = torch.zeros(3, 2, 2, 2)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "text": (lambda: v_loss(BARS)(Labelled("text"), X), "what model returned is 'nothing'"),
    "narrow": (lambda: v_loss(BARS)(Labelled("narrow"), X), r"shape \(3, 1, 2, 2\).*learned variance"),
    "whole": (lambda: v_loss(BARS)(Labelled("whole"), X), "what model returned"),
    "no labels": (lambda: v_loss(BARS, labels="y")(Labelled("tensor"), X), "labels is None"),
    "batch": (lambda: v_loss(BARS)(Labelled("tensor"), "x"), "batch is 'x'"),
    "bytes": (lambda: v_loss(BARS)(Labelled("tensor"), X.byte()), "batch is a tensor"),
    "too many": (lambda: v_loss(BARS)(Labelled("tensor"), (X, None, X)), "batch is"),
    "unlike": (lambda: v_loss(BARS)(Labelled("tensor"), Batch(X, None, X[:2])), "batch's shapes"),
    "path": (lambda: v_loss(3), "path is 3"),  # type: ignore[arg-type]
    "rising": (lambda: v_loss(BARS.flip(0)), "alphas_cumprod is"),
    "times": (lambda: v_loss(BARS, times=3), "times is 3"),
    "steps": (lambda: v_loss(BARS, times=UniformSteps(5))(Labelled("tensor"), torch.zeros(5, 1, 1, 1)), "t is"),
    "keyword": (lambda: v_loss(BARS, labels="a b"), "labels is 'a b'"),
    "sigma": (lambda: edm_loss(0.0), "sigma_data is 0"),
    "data": (lambda: fixed_batches(X.byte()), "x_0 is"),
    "labels": (lambda: fixed_batches(X, torch.zeros(2)), "labels is"),
    "size": (lambda: fixed_batches(X, batch_size=0), "batch_size is 0"),
    "alpha": (
        lambda: flow_loss(ContinuousPath(lambda t: 1 - 2 * t, lambda t: t))(Labelled("tensor"), X),
        "what alpha",
    ),
    "seed": (lambda: fixed_batches(X, seed=-1), "seed is -1"),
    "given": (lambda: noise_paths.GivenTimes([]), "values is"),
    "a number": (lambda: noise_paths.GivenTimes(5), "values is 5"),  # type: ignore[arg-type]
    "digits": (lambda: noise_paths.GivenTimes("12"), "values is '12'"),  # type: ignore[arg-type]
    "raw bytes": (lambda: noise_paths.GivenTimes(b"12"), "values is b'12'"),
    "a set": (lambda: noise_paths.GivenTimes({1, 2}), "values is"),  # type: ignore[arg-type]
    "narrow logarithm": (lambda: LogNormal(std=0.0), "std is 0.0"),
    "narrow log-odds": (lambda: noise_paths.LogitNormal(std=0.0), "std is 0.0"),
    "turned log-odds": (lambda: noise_paths.LogitNormal(std=-1.0), "std is -1.0"),
    "no alpha": (lambda: ContinuousPath(None, torch.ones_like), "alpha is None"),  # type: ignore[arg-type]
    "no sigma": (lambda: ContinuousPath(torch.ones_like, 3), "sigma is 3"),  # type: ignore[arg-type]
    "late times": (lambda: noise_paths.sampler_times(RECTIFIED_FLOW, ["noon"]), "times is 'noon'"),  # type: ignore[list-item]
    "half steps": (lambda: noise_paths.sampler_times(DiscretePath(BARS), [0.5]), "times is 0.5"),
    "steps beyond": (lambda: noise_paths.sampler_times(DiscretePath(BARS), torch.tensor([0, 4])), "times is"),
    "falling times": (lambda: noise_paths.sampler_times(RECTIFIED_FLOW, [0.5, 0.25]), "times is .*rising noise"),
    "times twice": (lambda: noise_paths.sampler_times(DiscretePath(BARS), [2, 2]), "times is .*rising noise"),
    "huge times": (lambda: noise_paths.GivenTimes([2**63]), "values is"),
    "no noise": (lambda: edm_loss(times=noise_paths.GivenTimes([0.0]))(Labelled("tensor"), X), "times is .*greater"),
    "negative noise": (lambda: edm_loss(times=noise_paths.Uniform(-2, 2))(Labelled("tensor"), X), "times is .*greater"),
    "overflow": (lambda: edm_loss(times=LogNormal(1e30))(Labelled("tensor"), X), "what times returned"),
    "underflow": (lambda: edm_loss(times=LogNormal(-1e30))(Labelled("tensor"), X), "times is .*greater"),
    "one time": (lambda: flow_loss(times=lambda u: u[:1])(Labelled("tensor"), X), "what times returned"),
    "one level": (lambda: edm_loss(times=lambda u: u[:1])(Labelled("tensor"), X), "what times returned"),
    "words for times": (lambda: flow_loss(times=lambda u: "now")(Labelled("tensor"), X), "what times returned"),
    "weights of all": (
        lambda: flow_loss(weight=lambda a, s: a[:, None] * s)(Labelled("tensor"), X),
        "what weight returned",
    ),
    "a number for weights": (lambda: flow_loss(weight=lambda a, s: 2.0)(Labelled("tensor"), X), "what weight returned"),
    "positions": (
        lambda: flow_loss()(Labelled("tensor"), Batch(X, None, X, torch.tensor([0.5, 5.0, 0.1]))),
        "batch's u",
    ),
    "position of none": (
        lambda: flow_loss()(Labelled("tensor"), Batch(X, None, X, torch.full((3,), float("nan")))),
        "batch's u",
    ),
    "sparse data": (lambda: flow_loss()(Labelled("tensor"), X.flatten(1).to_sparse()), "batch is"),
    "data of a byte": (lambda: flow_loss()(Labelled("tensor"), (X.to(torch.float8_e4m3fn), None)), "batch is"),
    "sparse times": (lambda: flow_loss(times=lambda u: u.to_sparse())(Labelled("tensor"), X), "what times returned"),
    "times on meta": (lambda: flow_loss(times=lambda u: u.to("meta"))(Labelled("tensor"), X), "what times returned"),
    "no weights": (lambda: flow_loss(weight=lambda a, s: a * float("nan"))(Labelled("tensor"), X), "what weight retu"),
    "endless noise": (lambda: edm_loss().epsilon(Labelled("tensor"), X, torch.full((3,), torch.inf), None), "times is"),
    "sparse steps": (lambda: DiscretePath(BARS).coefficients(torch.tensor([1, 2]).to_sparse()), "t is"),
    "a mask of steps": (lambda: DiscretePath(BARS).coefficients(torch.tensor([True, False, True])), "t is"),
    "a step alone": (lambda: DiscretePath(BARS).coefficients(torch.tensor(2)), "t is"),
    "complex steps": (lambda: DiscretePath(BARS).coefficients(torch.ones(2, dtype=torch.complex64)), "t is"),
    "no times": (lambda: noise_paths.sampler_times(RECTIFIED_FLOW, torch.zeros(0)), "times is"),
    "order": (lambda: noise_paths.Uniform(1.0, 1.0), "high is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
