"""The theory's pages, built once in a process."""

from __future__ import annotations

import pytest

from tests.docs.small_site import Site, build_theory

WIDE = r"""# Wide

```{math}
:label: wide

a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a = b
```

$$
\hat{a} + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a = b_{c_d}
$$

Beside {eq}`wide`, $\frac{\hat{p}}{\Delta_\kappa}$.
"""


@pytest.fixture(scope="session")
def theory_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """As they are, and beside them a page `wide` of formulas that no phone holds in a line."""
    return build_theory(tmp_path_factory.mktemp("theory"), wide="---\norphan: true\n---\n" + WIDE)
