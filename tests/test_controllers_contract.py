"""Every registered controller keeps the contract."""

import pytest

from archwright.controllers.registry import CONTROLLERS
from archwright.testing import check_controller


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_registered_controllers_keep_the_contract(name):
    report = check_controller(name)
    assert report.cuts > 60
