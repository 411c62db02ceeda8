"""The shapes in the toy's signatures, checked while all of it runs once.

In an interpreter of its own: the check has to be in place before the modules are imported.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import jaxtyping
jaxtyping.install_import_hook(["toy", "benchmarks.toy", "tests.toy"], "beartype.beartype")
import torch
from benchmarks import toy as workload
from flatness.measuring.quantization import Grid
from tests.toy import exact, linear_chain, moments
from toy import data, distances, models, process, sampling, training

torch.set_num_threads(1)
steps = process.cosine_process(100)
mixture = data.random_mixture(3, 2)
for learn, prediction in ((False, "noise"), (True, "score")):
    start = models.random_models(2, 3, 8, steps, embedding=4, prediction=prediction, learn_features=learn)
    rows = training.train_rows(start, mixture, training.Plan(steps=60, batch=4), (0, 1))
    for row in (rows["adm"], rows["sam+swa"]):
        drawn = sampling.sample(row.epsilon, steps, 3, 5, (0, 1), points=30, clip=3.0)
        real = sampling.training_norms(row.epsilon, steps, mixture, 5, (0, 1), points=30)
        sampling.gap(drawn.norms, real)
        target = mixture.sample(30, 0)
        distances.sliced_wasserstein(drawn.points, target, distances.projections(3))
        row.single(0)(target.float(), torch.zeros(30, dtype=torch.int64))
        for found in (moments.exact_moments(row, 0, mixture, (3,)), moments.sampled_moments(row, 0, mixture, 100)):
            theta = exact.minimiser(found).theta
            exact.hessian_spectrum(found)
            exact.relative_noise_rise(found, theta, 0.1)
            exact.quantization_rise(found, theta, Grid(4)), exact.worst_quantization_rise(found, theta, Grid(4))
            exact.flat_radius(found, 0.1), exact.gap_radius(found, 0.1)
exact.least_loss(mixture, steps, 100)
mixture.log_density(torch.zeros(2, 5, 3), torch.ones(2, 5)), mixture.noised(0.5).score(torch.zeros(3))
normal = data.gaussian(torch.eye(2), torch.ones(2))
linear = models.random_models(1, 2, 4, steps, activation="linear")
linear_chain.chain_law(linear_chain.linear_model(linear, 0), normal, steps, 5)
linear_chain.chain_law(linear_chain.optimal_denoiser(normal, steps), normal, steps, 5)
workload.seed_by_seed(workload.ring_models(1, 4), 3)
try:
    models.predicted_noise(torch.ones(2, 3, 8), torch.ones(2, 5, 8), torch.ones(2, 9, 4), 1.0, "relu")
except jaxtyping.TypeCheckError:
    print("shapes are checked")
"""


def test_signatures_state_the_shapes() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "shapes are checked\n"
