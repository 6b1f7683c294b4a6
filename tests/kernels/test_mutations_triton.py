"""The tests of the Triton kernels can fail: each mistake made on purpose is caught."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels.launching import small_tiles
from archwright.testing.kernels import check_kernel

from .mutations import broken, every

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("mutation", [m for m in every() if m.backend == "triton"], ids=str)
def test_a_mistake_is_caught(mutation, tmp_path):
    with broken(mutation, tmp_path) as spec, small_tiles(), pytest.raises(AssertionError, match=mutation.kernel):
        check_kernel(spec, backend="triton", dtypes=[torch.float32], cases=spec.small_cases)
