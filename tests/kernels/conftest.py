"""Triton reads TRITON_INTERPRET when it is imported, so the interpreter's tests need a process of their own:

``TRITON_INTERPRET=1 pytest -m kernels tests/kernels`` runs the files ``*_triton.py``, any other run leaves them out.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["*_triton.py"]
