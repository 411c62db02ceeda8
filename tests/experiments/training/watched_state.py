"""A run as a watcher sees it, its EMA unlike its raw weights, and the check that a watcher leaves it as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.adm import ADM
from experiments.configuration import Configuration
from experiments.diffusion import Process
from experiments.training.events import RunState, StepReport
from flatness import EMA, Shadows
from tests.experiments.training.small_runs import configured, run_options


def state_of(out: Path, configuration: Configuration | None = None, **options: Any) -> RunState:
    """Random weights everywhere, the output layer too; the EMA is that of other ones; training mode, dropout on."""
    configuration = configured(dropout=0.5) if configuration is None else configuration
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ADM(configuration.network).train()
        _randomize(model)
        shadows = Shadows(model, {"ema": EMA(0.5)})
        _randomize(model)
    return RunState(configuration, run_options(out, **options), model, shadows, Process(configuration.process))


@torch.no_grad()
def _randomize(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.copy_(0.2 * torch.randn(parameter.shape))


def report(step: int, loss: float = 1.0, **changes: Any) -> StepReport:
    """A step of 8 images in half a second, a tenth of a second of it waiting."""
    fields: dict[str, Any] = {"mse": loss / 2, "vb": loss / 2, "perturbed_loss": None, "images": 8}
    return StepReport(**{"step": step, "loss": loss, "seconds": 0.5, "seconds_waited": 0.1, **fields, **changes})


def check_leaves_alone(state: RunState, action: Callable[[], object]) -> None:
    """Weights and buffers of both models, all modes, and torch's default generator are after it as before."""
    models = (state.model, state.shadows["ema"])
    # A mode of its own in one part: putting the whole module into training mode is not putting it back
    next(iter(state.model.children())).eval()
    before = [
        ({k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()])
        for model in models
    ]
    random = torch.get_rng_state()
    action()
    assert torch.equal(torch.get_rng_state(), random)
    for model, (tensors, modes) in zip(models, before, strict=True):
        assert [m.training for m in model.modules()] == modes
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
