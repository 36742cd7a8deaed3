"""What several test files share: a small data set, algorithms as they were, and the lab of test_never_lose_*.py."""

import pytest
import torch
from training_runs import tiny_data

pytest.register_assert_rewrite("losing_lab")  # imported below, so that a failed comparison says what differs


@pytest.fixture(autouse=True)
def _restore_determinism():
    yield
    if torch.are_deterministic_algorithms_enabled():  # the call imports compilers
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny():
    return tiny_data()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    from losing_lab import Lab
    from losing_runs import Server

    with Server() as server:
        yield Lab(tmp_path_factory.mktemp("lab"), server)


@pytest.fixture(scope="session")
def whole(lab):
    """The run that never stopped; `moments` lists its moments."""
    run, trace = lab.folder / "whole", lab.folder / "trace"
    code, errors = lab(run, trace=str(trace))
    assert code == 0, errors
    return run


@pytest.fixture(scope="session")
def moments(lab, whole):
    from losing_lab import read_trace

    return read_trace(lab.folder / "trace")


@pytest.fixture(scope="session")
def seldom(lab):
    """The moments of a run whose only checkpoints are those of the epochs."""
    from losing_lab import read_trace

    assert lab(lab.folder / "seldom", frequent=False, trace=str(lab.folder / "seldom-trace"))[0] == 0
    return read_trace(lab.folder / "seldom-trace")


@pytest.fixture(scope="session")
def interrupted(lab, whole, moments):
    """A run killed in the middle of its second epoch, with two checkpoints; to be copied."""
    from losing_lab import checkpoints

    run = lab.folder / "interrupted"
    steps = [m["moment"] for m in moments if m["call"] == "step" and m["when"] == "before"]
    assert lab(run, at=steps[8])[0] == -9
    assert len(checkpoints(run)) >= 2
    return run
