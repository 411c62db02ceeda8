"""What the figures may import, and what asking for their state may load."""

import subprocess
import sys

from paper_figs import catalogue

FORBIDDEN = {"torch", "flatness", "toy", "experiments"}


def test_figures_import_no_training_code() -> None:
    modules = [entry.module for entry in catalogue.figures().values()]
    reached = catalogue.sources(modules, catalogue.ROOT)
    assert "theory.model.worst_case" in reached  # by way of another module
    for module, source in reached.items():
        imported = {name.split(".")[0] for name in catalogue.imported(module, source)}
        assert not imported & FORBIDDEN, module


def test_asking_for_the_state_loads_nothing_heavy() -> None:
    program = (
        "import sys; from paper_figs.__main__ import main; assert main(['--list']) == 0; "
        "print(sorted({'matplotlib', 'numpy', 'scipy', 'sympy', 'theory', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=catalogue.ROOT, capture_output=True, check=True)
    assert result.stdout.decode().splitlines()[-1] == "[]"
