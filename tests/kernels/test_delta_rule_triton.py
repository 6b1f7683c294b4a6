"""The laws of the delta rule, in the interpreter."""

from __future__ import annotations

import pytest

from archwright.kernels.launching import small_tiles

from .delta_rule_laws import LAWS

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    with small_tiles():
        law("triton", steps=9)
