from collections.abc import Iterator

import jaxtyping
import pytest
from threadpoolctl import threadpool_limits

from theory.proof.statement import register_profiles

register_profiles()
# The matrices of the tests are small: BLAS threads would wait for each other longer than they work.
threadpool_limits(1, "blas")

# The shapes in the signatures of these modules can be checked at run time; `shapes_checked` turns that on. It stays off
# elsewhere because it costs more than the small computations themselves, and refuses the lists that users may pass.
NUMERICAL = ("gaussians", "perturbations", "random_features")
jaxtyping.install_import_hook([f"theory.model.{name}" for name in NUMERICAL], "beartype.beartype")
jaxtyping.config.update("jaxtyping_disable", True)


@pytest.fixture
def shapes_checked() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", False)
    yield
    jaxtyping.config.update("jaxtyping_disable", True)
