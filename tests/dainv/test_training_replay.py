"""Four updates of `dainv train`, written once more from the paper: float64, explicit pairs, no part of the engine."""

import torch
from torch.nn import functional
from training_runs import Recorder

import dainv
from dainv.data import load_data
from dainv.settings import TrainSettings
from dainv.training import Trainer

SEED, IMAGES, VIEWS, UPDATES = 4, 4, 4, 4
ALPHA, SPREAD, LAYERS = 0.1, 10.0, 9
RATE, MOMENTUM = 0.01, 0.9
STRIDES, PADDINGS = [1, 1, 2, 1, 1, 2, 1, 1, 1], [1] * 7 + [0, 0]


def activations_of(images, parameters):
    x, taken = images, []
    for layer, (stride, padding) in enumerate(zip(STRIDES, PADDINGS, strict=True)):
        x = functional.conv2d(x, parameters[2 * layer], parameters[2 * layer + 1], stride, padding).relu()
        taken.append(x)
    return taken


def invariance_loss(features, groups):
    """Eq. 3 over distinct pairs."""
    difference = features.flatten(1)[:, None] - features.flatten(1)[None]
    distance = difference.square().mean(2)
    distinct = ~torch.eye(len(features), dtype=torch.bool)
    same = (groups[:, None] == groups[None]) & distinct
    return distance[same].mean() / distance[distinct].mean()


def test_updates_are_those_of_the_paper():
    data = load_data("digits")
    settings = TrainSettings(data="digits", width=0.05, batch_size=IMAGES * VIEWS, views=VIEWS, seed=SEED, device="cpu")
    trainer = Trainer(settings, data, Recorder())
    trainer.model.train()
    parameters = [parameter.detach().double() for parameter in trainer.model.parameters()]
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED * 1_000_003))
    draws, heavier = torch.Generator().manual_seed(SEED + 1), dainv.augmentation("heavier")
    groups = torch.arange(IMAGES).repeat_interleave(VIEWS)
    shape = [SPREAD ** (layer / (LAYERS - 1)) for layer in range(LAYERS)]

    for update in range(UPDATES):
        chosen = order[IMAGES * update : IMAGES * (update + 1)].repeat_interleave(VIEWS)
        views = heavier.apply(data.train.images[chosen].double() / 255, heavier.parameters(len(chosen), draws).double())
        parameters = [parameter.requires_grad_() for parameter in parameters]
        activations = activations_of(views, parameters)
        logits = activations[-1].mean(dim=(2, 3))
        task = -logits.log_softmax(1)[torch.arange(len(chosen)), data.train.labels[chosen]].mean()
        losses = torch.stack([invariance_loss(features, groups) for features in activations])
        total = (1 - ALPHA) * task + (ALPHA * torch.tensor(shape) / sum(shape) * losses).sum()
        gradients = torch.autograd.grad(total, parameters)
        expected = torch.stack([total, task, *losses]).detach()
        row = trainer.update().double()
        torch.testing.assert_close(torch.cat([row[:2], row[3:]]), expected, rtol=2e-5, atol=1e-6)
        with torch.no_grad():  # Nesterov's momentum, as the library of the time had it
            velocity = [MOMENTUM * v - RATE * g for v, g in zip(velocity, gradients, strict=True)]
            changes = [MOMENTUM * v - RATE * g for v, g in zip(velocity, gradients, strict=True)]
            parameters = [p.detach() + change for p, change in zip(parameters, changes, strict=True)]

    for ours, expected in zip(trainer.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours.detach().double(), expected, rtol=0, atol=2e-6)
