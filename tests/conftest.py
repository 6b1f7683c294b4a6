"""Settings that must hold before anything is imported."""

from __future__ import annotations

import os

# Two OpenMP pools on a busy machine are far slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
