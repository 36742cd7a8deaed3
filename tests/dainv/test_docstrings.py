"""The examples in docstrings hold, in every module of every package."""

import doctest
import importlib
import pkgutil

import pytest

import dainv
import dainv_bench
import dainv_kernels

PACKAGES = (dainv, dainv_kernels, dainv_bench)
FINDER = doctest.DocTestFinder(exclude_empty=True)


def modules():
    """Names of all modules with an example, but those that run something when they are imported."""
    for package in PACKAGES:
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield found.name


def with_examples():
    for name in modules():
        path = importlib.util.find_spec(name).origin
        with open(path, encoding="utf-8") as file:
            if ">>> " in file.read():
                yield name


@pytest.mark.parametrize("name", sorted(with_examples()))
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(name)
    tests = [test for test in FINDER.find(module, name) if test.examples]
    assert tests
    for test in tests:
        result = doctest.DocTestRunner().run(test)
        assert result.failed == 0, test.name


@pytest.mark.parametrize("package", [dainv, dainv_kernels], ids=lambda package: package.__name__)
def test_what_is_public_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name).__doc__ or name.startswith("__"), name
