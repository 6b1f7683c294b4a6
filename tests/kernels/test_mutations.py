"""The tests of the fast paths can fail: each mistake made on purpose is caught."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels import KERNELS
from archwright.testing.kernels import check_case, check_kernel

from .mutations import broken, every


@pytest.mark.parametrize("mutation", [m for m in every() if m.backend == "fast"], ids=str)
def test_a_mistake_is_caught(mutation, tmp_path):
    with broken(mutation, tmp_path) as spec, pytest.raises(AssertionError, match=mutation.kernel):
        check_kernel(spec, backend="fast", dtypes=[torch.float32], cases=spec.small_cases)
    check_case(KERNELS[mutation.kernel], KERNELS[mutation.kernel].small_cases[0], torch.float32, backend="fast")


def test_every_kernel_has_a_mistake_made_on_purpose():
    families = {mutation.kernel for mutation in every()}
    missing = set(KERNELS) - families
    assert not missing, f"no mutation for {sorted(missing)}"
