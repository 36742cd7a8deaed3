"""`--compile`: the same losses and the same weights as eagerly."""

import shutil

import pytest
import torch
from training_runs import after, trainer_of


def compared(data, **options):
    """Losses and weights after a few updates, compiled and eager."""
    options["deterministic"] = False
    compiled, eager = (after(trainer_of(data, compile=made, **options), 3) for made in (True, False))
    for found, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_step_is_traced_once_and_differentiated_ahead_of_time(tiny, monkeypatch):
    """All of All-CNN-C; not compiled to machine code, which takes minutes."""
    compile_, graphs = torch.compile, []

    def traced(module, **options):
        assert options == {"dynamic": False}
        graphs.append(module)
        return compile_(module, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    compared(tiny)
    assert len(graphs) == 1


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
def test_what_the_inductor_makes_of_it_trains_as_eagerly(tiny, tmp_path, monkeypatch):
    import torch._inductor.config
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counters.clear()
    with torch._inductor.config.patch(compile_threads=1):
        compared(tiny, model="training_runs:smallest_network", layers=("relu",), width=1.0)
    assert counters["inductor"]["fxgraph_cache_miss"] > 0
    assert list(tmp_path.rglob("*.so"))
