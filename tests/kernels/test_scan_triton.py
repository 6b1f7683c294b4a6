"""The laws of the scan, in the interpreter."""

from __future__ import annotations

import pytest

from archwright.kernels.launching import small_tiles

from .scan_laws import LAWS

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    with small_tiles():
        law("triton", steps=11, width=3)
