import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["dainv_kernels.operator", "dainv.objective"])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
