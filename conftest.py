"""What all tests share: threads, and Hypothesis's profile for hours of sweeping.

One thread for each worker and its child processes: teams of threads that share cores wait for each other.
"""

import os

from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))  # read by torch, MKL and OpenBLAS when they are loaded
settings.register_profile("thorough", max_examples=10_000, deadline=None)
"""The theory's tests have their own of that name."""
