import copy
import io
import shutil

import pytest
import torch
from torch import nn

import dainv
from dainv.objective import combine
from dainv_kernels import Groups, invariance_loss

PUBLISHED_WEIGHTS = [0.002704, 0.003606, 0.004808, 0.006412, 0.008550, 0.011402, 0.015205, 0.020276, 0.027038]


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def small_batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(8, 3, 2, 2, generator=generator)
    return images, torch.tensor([0, 0, 1, 1, 2, 2, 0, 0]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def test_exponential_weights_of_nine_layers_are_the_published_ones():
    assert dainv.layer_weights(9) == pytest.approx(PUBLISHED_WEIGHTS, abs=5e-7)


@pytest.mark.parametrize("scheme", ["exponential", "linear", "uniform"])
@pytest.mark.parametrize("n_layers", [1, 2, 9])
def test_weights_sum_to_alpha_and_grow_by_spread(scheme, n_layers):
    weights = dainv.layer_weights(n_layers, alpha=0.3, spread=4.0, scheme=scheme)
    assert sum(weights) == pytest.approx(0.3)
    if n_layers > 1:
        assert weights[-1] / weights[0] == pytest.approx(1 if scheme == "uniform" else 4)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_layers": 0},
        {"alpha": 1.5},
        {"alpha": -0.1},
        {"spread": 0.0},
        {"spread": float("inf")},
        {"spread": float("nan")},
        {"scheme": "quadratic"},
    ],
)
def test_weights_name_the_argument_that_is_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        dainv.layer_weights(**{"n_layers": 3, **bad})


def test_total_is_equation_4():
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, ["2", "4"], alpha=0.4, spread=3.0)
    task = nn.functional.cross_entropy(model(images), labels)
    total, returned_task, losses = objective(task, sources)
    expected = 0.6 * task + sum(w * losses[name] for w, name in zip((0.1, 0.3), ("2", "4"), strict=True))
    assert returned_task is task
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_losses_are_those_of_the_tapped_activations():
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    losses = objective(nn.functional.cross_entropy(model(images), labels), sources).invariance
    assert torch.equal(losses["2"], invariance_loss(model[:3](images), sources))


def test_gradient_is_that_of_the_weighted_sum():
    images, labels, sources = small_batch()
    grads = []
    for by_hand in (False, True):
        model = small_model().double()
        objective = dainv.InvarianceObjective(model, "[24]", alpha=0.5)
        task = nn.functional.cross_entropy(model(images.double()), labels)
        if by_hand:
            objective.remove()
            first = model[:3](images.double())
            second = model[3:5](first)
            w1, w2 = dainv.layer_weights(2, 0.5)
            total = 0.5 * task + w1 * invariance_loss(first, sources) + w2 * invariance_loss(second, sources)
        else:
            total = objective(task, sources).total
        total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-15)


def test_alpha_zero_measures_without_gradient():
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "[24]", alpha=0.0)
    task = nn.functional.cross_entropy(model(images), labels)
    total, _, losses = objective(task, sources)
    assert total.item() == task.item()
    assert all(loss > 0 and not loss.requires_grad for loss in losses.values())


def test_class_labels_may_be_the_groups():
    model, (images, labels, _) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    losses = objective(nn.functional.cross_entropy(model(images), labels), labels).invariance
    assert torch.equal(losses["2"], invariance_loss(model[:3](images), labels))


def test_ids_and_groups_object_agree():
    features = {"a": torch.rand(8, 5), "b": torch.rand(8, 7)}
    ids = combine(torch.ones(()), features, torch.arange(8) // 2, (0.1, 0.2))
    shared = combine(torch.ones(()), features, Groups.consecutive(4, 2), (0.1, 0.2))
    assert ids.total.item() == pytest.approx(shared.total.item(), rel=1e-6)


def test_unknown_layer_is_answered_with_near_names():
    with pytest.raises(dainv.UserError, match="layer1"):
        dainv.InvarianceObjective(dainv.AllCNNC(width=0.05), "layr1")


def test_no_layer_at_all_is_refused_by_the_name_of_the_argument():
    with pytest.raises(dainv.UserError, match="layers: expected at least one"):
        dainv.InvarianceObjective(small_model(), [])


def test_patterns_select_layers_in_the_order_of_the_model():
    objective = dainv.InvarianceObjective(dainv.AllCNNC(width=0.05), ["layer9", "layer[1-3]"])
    assert objective.layers == ["layer1", "layer2", "layer3", "layer9"]


def test_depth_is_the_order_in_which_the_layers_run():
    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(8, 3), nn.Linear(12, 8)

        def forward(self, x):
            return self.head(self.body(x.flatten(1)))

    model, (images, labels, sources) = HeadFirst(), small_batch()
    objective = dainv.InvarianceObjective(model, ["head", "body"], alpha=0.4, spread=3.0)
    total, task, losses = objective(nn.functional.cross_entropy(model(images), labels), sources)
    assert objective.layers == list(losses) == ["body", "head"]
    assert total.item() == pytest.approx((0.6 * task + 0.1 * losses["body"] + 0.3 * losses["head"]).item(), rel=1e-6)


@pytest.mark.parametrize("known", [False, True], ids=["groups at the call", "groups beforehand"])
@pytest.mark.parametrize("copied", ["deepcopy", "averaged", "saved"])
def test_a_copy_of_the_model_is_not_listened_to(known, copied):
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, ["2", "4"], groups=sources if known else None)
    if copied == "deepcopy":
        other = copy.deepcopy(model)
    elif copied == "averaged":
        other = torch.optim.swa_utils.AveragedModel(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)  # our own, made above
    task = nn.functional.cross_entropy(model(images), labels)
    with torch.no_grad():
        other(images + 1)
    losses = objective(task, None if known else sources).invariance
    assert torch.equal(losses["2"], invariance_loss(model[:3](images), sources))
    assert losses["2"].requires_grad


def test_an_evaluation_between_forward_pass_and_objective_is_refused():
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    task = nn.functional.cross_entropy(model(images), labels)
    with torch.no_grad():
        model(images)
    with pytest.raises(RuntimeError, match="have no gradient"):
        objective(task, sources)


@pytest.mark.parametrize("known", [False, True], ids=["groups at the call", "groups beforehand"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_gives_the_same_gradients_or_is_refused(reentrant, known):
    first, inside, head = nn.Linear(12, 9), nn.Sequential(nn.Linear(9, 9), nn.Tanh()), nn.Linear(9, 3)
    model, (images, labels, sources) = nn.ModuleList([first, inside, head]), small_batch()
    gradients = []
    for block in (inside, lambda x: torch.utils.checkpoint.checkpoint(inside, x, use_reentrant=reentrant)):
        objective = dainv.InvarianceObjective(model, ["0", "1.1"], alpha=0.5, groups=sources if known else None)
        task = nn.functional.cross_entropy(head(block(first(images.flatten(1)))), labels)
        if reentrant and gradients:
            with pytest.raises(RuntimeError, match=r"losses of \['1\.1'\] have no gradient"):
                objective(task, None if known else sources)
        else:
            objective(task, None if known else sources).total.backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
            model.zero_grad()
        objective.remove()
    for one, other in zip(gradients[0], gradients[-1], strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("known", [False, True], ids=["groups at the call", "groups beforehand"])
def test_a_part_that_runs_without_gradients_is_measured_and_not_trained(known):
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, ["2", "4"], groups=sources if known else None)
    call = () if known else (sources,)

    def forward():
        with torch.no_grad():
            hidden = model[:3](images)
        return nn.functional.cross_entropy(model[3:](hidden), labels)

    task = forward()
    with pytest.raises(RuntimeError, match=r"losses of \['2'\] have no gradient"):
        objective(task, *call)
    forward()
    losses = objective.measure(*call)
    with torch.no_grad():
        expected = model[:3](images), model[:5](images)
    for loss, features in zip(losses.values(), expected, strict=True):
        torch.testing.assert_close(loss, invariance_loss(features, sources))


@pytest.mark.parametrize("task", [torch.zeros(8), 2.0], ids=["one for each view", "a number"])
def test_a_task_loss_is_one_tensor_without_dimensions(task):
    model, (images, _, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    model(images)
    with pytest.raises(ValueError, match="task_loss: expected a tensor without dimensions"):
        objective(task, sources)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("known", [False, True], ids=["groups at the call", "groups beforehand"])
def test_a_compiled_model_gives_the_same(known):
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, ["2", "4"], groups=sources if known else None)
    totals = []
    for forward in (model, torch.compile(model)):
        task = nn.functional.cross_entropy(forward(images), labels)
        totals.append(objective(task, None if known else sources).total)
    torch.testing.assert_close(totals[1], totals[0])
    gradients = [torch.autograd.grad(total, list(model.parameters()), retain_graph=True) for total in totals]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


def test_layers_of_a_compiled_model_have_the_names_that_they_have_in_the_model():
    model, (images, labels, sources) = small_model(), small_batch()
    compiled = torch.compile(model, backend="eager")  # traced; the model of it is called "_orig_mod"
    totals = []
    for given, forward in ((model, model), (compiled, compiled)):
        objective = dainv.InvarianceObjective(given, ["2", "4"])
        totals.append(objective(nn.functional.cross_entropy(forward(images), labels), sources).total)
        assert objective.layers == ["2", "4"]
        objective.remove()
    torch.testing.assert_close(totals[1], totals[0])


def test_arguments_are_looked_at_when_the_objective_is_made():
    with pytest.raises(ValueError, match="normalization"):
        dainv.InvarianceObjective(small_model(), "2", normalization="mean")
    with pytest.raises(TypeError, match="groups"):
        dainv.InvarianceObjective(small_model(), "2", groups=[0, 0, 1])


def test_activations_do_not_outlive_the_step():
    model, (images, labels, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    objective(nn.functional.cross_entropy(model(images), labels), sources)
    with pytest.raises(RuntimeError, match="have not run"):
        objective(torch.zeros(()), sources)


def test_measure_leaves_no_graph():
    model, (images, _, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2")
    model(images)
    assert not objective.measure(sources)["2"].requires_grad


def test_a_layer_with_several_outputs_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(), nn.LSTM(12, 4))
    dainv.InvarianceObjective(model, "1")
    with pytest.raises(dainv.UserError, match=r"'1' puts out a tuple"):
        model(torch.rand(8, 3, 2, 2))


def test_groups_known_beforehand_give_the_same_and_keep_no_activation():
    model, (images, labels, sources) = small_model(), small_batch()
    results = []
    for known in (None, sources, Groups.consecutive(4, 2)):
        objective = dainv.InvarianceObjective(model, ["2", "4"], alpha=0.4, groups=known)
        logits = model(images)
        total, _, losses = objective(
            nn.functional.cross_entropy(logits, labels), None if known is not None else sources
        )
        results.append((total, *losses.values(), *torch.autograd.grad(total, list(model.parameters()))))
        objective.remove()
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            torch.testing.assert_close(other, one, rtol=2e-6, atol=1e-7)


def test_groups_known_beforehand_serve_for_measuring_too():
    model, (images, _, sources) = small_model(), small_batch()
    objective = dainv.InvarianceObjective(model, "2", groups=sources)
    with torch.no_grad():
        model(images)
    without_gradient = objective.measure()["2"]
    model(images)
    with_gradient = objective.measure()["2"]
    assert without_gradient == with_gradient
    assert not with_gradient.requires_grad


def test_groups_are_given_in_one_place():
    model, (images, _, sources) = small_model(), small_batch()
    for known, given in ((None, None), (sources, sources)):
        objective = dainv.InvarianceObjective(model, "2", groups=known)
        model(images)
        with pytest.raises(ValueError, match="groups: expected either here or when"):
            objective(torch.zeros(()), given)


def test_an_output_that_is_overwritten_afterwards_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(inplace=True))
    objective = dainv.InvarianceObjective(model, "1")
    images, _, sources = small_batch()
    model(images)
    with pytest.raises(dainv.UserError, match=r"layer '1'.*in place"):
        objective(torch.zeros(()), sources)


def test_the_gradient_is_added_where_that_of_the_next_layer_is():
    """Seen by what is not there: a gradient of the loss of its own, of the size of the activation."""
    model = nn.Sequential(nn.Linear(12, 1 << 16), nn.Sigmoid(), nn.Linear(1 << 16, 3))
    objective = dainv.InvarianceObjective(model, "1", groups=Groups.consecutive(4, 2))
    if not hasattr(torch.autograd.function.FunctionCtx, "input_grad_buffers"):
        pytest.skip("this torch does not tell where gradients are added up (2.15 does)")
    total = objective(model(torch.randn(8, 12)).square().mean()).total
    with torch.profiler.profile(record_shapes=True) as profile:
        total.backward()
    made = [event for event in profile.events() if event.name == "dainv::invariance_backward"]
    assert not made


def test_an_evaluation_of_another_batch_in_between_is_named():
    images, labels, source = small_batch()
    model = small_model()
    objective = dainv.InvarianceObjective(model, "2")
    task = nn.functional.cross_entropy(model(images), labels % 3)
    with torch.no_grad():
        model(images[:5])
    with pytest.raises(RuntimeError, match="an evaluation between"):
        objective(task, source)


def test_a_layer_without_features_is_refused_by_name():
    class Whole(nn.Module):
        def forward(self, x):
            return x.long()

    model = nn.Sequential(nn.Flatten(), Whole())
    dainv.InvarianceObjective(model, "1")
    with pytest.raises(dainv.UserError, match=r"layer '1' puts out torch.int64 \(8, 12\)"):
        model(small_batch()[0])


def test_no_module_and_no_backend_are_refused_when_the_objective_is_made():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got list"):
        dainv.InvarianceObjective([], "1")
    with pytest.raises(ValueError, match="backend: expected one of"):
        dainv.InvarianceObjective(small_model(), "2", backend="fast")
