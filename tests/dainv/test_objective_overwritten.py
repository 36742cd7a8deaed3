"""A layer whose output is overwritten by what comes after it is measured as it was put out, or refused by name."""

import pytest
import torch
from torch import nn

import dainv
from dainv_kernels import invariance_loss


@pytest.fixture
def images():
    return torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def source():
    return torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


class OverwritesItsFirstLayer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).relu_())


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_in_a_compiled_model_a_layer_is_measured_as_it_was_put_out(images, source, known, mode):
    model = OverwritesItsFirstLayer()
    objective = dainv.InvarianceObjective(model, "first", groups=source if known else None)
    compiled = torch.compile(model, backend="aot_eager")
    with mode():
        compiled(images)
    expected = invariance_loss(model.first(images.flatten(1)), source)
    assert objective.measure(None if known else source)["first"] == pytest.approx(expected.item(), rel=1e-6)


def test_under_inference_mode_a_layer_is_measured_as_it_was_put_out(images, source):
    model = OverwritesItsFirstLayer()
    objective = dainv.InvarianceObjective(model, "first")
    with torch.inference_mode():
        model(images)
        got = objective.measure(source)["first"].item()
    assert got == pytest.approx(invariance_loss(model.first(images.flatten(1)), source).item(), rel=1e-6)


@pytest.mark.parametrize("known", [False, True])
def test_an_output_that_is_overwritten_is_named_also_where_its_loss_is_taken(images, source, known):
    model = OverwritesItsFirstLayer()
    objective = dainv.InvarianceObjective(model, "first", groups=source if known else None)
    task = model(images).square().mean()
    with pytest.raises(dainv.UserError, match="'first': its output was overwritten"):
        objective(task, None if known else source)
