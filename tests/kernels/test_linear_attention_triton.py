"""The laws of linear attention, in the interpreter; and what its Triton kernel refuses."""

from __future__ import annotations

import pytest
import torch

from archwright.kernels.dispatch import BackendError
from archwright.kernels.launching import small_tiles
from archwright.kernels.linear_attention import linear_attention

from .linear_attention_laws import LAWS

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    with small_tiles():
        law("triton", steps=5)


def test_keys_too_wide_for_one_program_are_refused():
    wide = torch.zeros(1, 2, 1, 129)
    with pytest.raises(BackendError, match="129 wide"):
        linear_attention(wide, wide, wide, backend="triton")
