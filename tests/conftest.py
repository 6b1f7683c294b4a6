"""Settings that must hold before anything is imported."""

from __future__ import annotations

import os

# Two OpenMP pools on a busy machine are far slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Triton reads TRITON_INTERPRET when it is imported, so these tests need a process of their own: test_kernels_scan.py starts it,
# and by hand it is `TRITON_INTERPRET=1 pytest -m kernels tests`.
collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_kernels_interpreter.py"]
