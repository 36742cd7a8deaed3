"""Small training runs, for the tests of training."""

import os
import signal
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dainv.data import ImageData, ImageSplit, load_data
from dainv.settings import TrainSettings
from dainv.signals import Interrupted
from dainv.training import Trainer, train

SMALL = {"width": 0.05, "batch_size": 16, "views": 4, "data": "tiny", "deterministic": True, "device": "cpu"}


def small_network(n_classes, in_channels):
    """What `--model training_runs:small_network` trains."""
    first = OrderedDict(conv=nn.Conv2d(in_channels, 4, 3), norm=nn.BatchNorm2d(4), relu=nn.ReLU())
    second = OrderedDict(conv=nn.Conv2d(4, 8, 3, stride=2), drop=nn.Dropout(0.2), relu=nn.ReLU())
    rest = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), classes=nn.Linear(8, n_classes))
    return nn.Sequential(OrderedDict(first=nn.Sequential(first), second=nn.Sequential(second), **rest))


def network_in_eval_mode(n_classes, in_channels):
    """As a file of weights is often handed over."""
    return small_network(n_classes, in_channels).eval()


class CheckpointedNetwork(nn.Module):
    """Runs its first part a second time in the backward pass, to keep less."""

    def __init__(self, n_classes, in_channels):
        super().__init__()
        self.first = nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, 4, 3), relu=nn.ReLU()))
        self.classes = nn.Linear(4, n_classes)

    def forward(self, images):
        return self.classes(checkpoint(self.first, images, use_reentrant=False).mean((2, 3)))


class _GradientByChance(torch.autograd.Function):
    """In deterministic mode torch refuses the gradient, as it does that of some poolings on a GPU."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clone().put_(torch.tensor([0]), gradient.new_zeros(1))


class _ByChance(nn.Module):
    def forward(self, x):
        return _GradientByChance.apply(x)


def network_by_chance(n_classes, in_channels):
    return nn.Sequential(OrderedDict(network=smallest_network(n_classes, in_channels), chance=_ByChance()))


def smallest_network(n_classes, in_channels):
    """The least that has a layer to tap: what takes a compiler seconds and not minutes."""
    layers = OrderedDict(conv=nn.Conv2d(in_channels, 4, 3), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(layers | OrderedDict(flat=nn.Flatten(), classes=nn.Linear(4, n_classes)))


def wide_network(n_classes, in_channels):
    """Little to compute and much to keep: 96 KiB of activations for an image of 16 × 16 pixels."""
    layers = OrderedDict(conv=nn.Conv2d(in_channels, 96, 1), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(layers | OrderedDict(flat=nn.Flatten(), classes=nn.Linear(96, n_classes)))


class Recorder:
    def __init__(self):
        self.losses, self.records, self.messages = [], [], []

    def step(self, step, total_steps, epoch, loss, images_per_second):
        assert images_per_second > 0
        self.losses.append(loss)

    def epoch(self, record):
        self.records.append(record)

    def message(self, text):
        self.messages.append(text)


def tiny_data():
    """Eighty digits at 16 × 16 pixels."""
    data = load_data("digits")
    part = ImageSplit(data.train.images[:64, :, ::2, ::2].contiguous(), data.train.labels[:64])
    test = ImageSplit(data.test.images[:16, :, ::2, ::2].contiguous(), data.test.labels[:16])
    return ImageData("tiny", part, test, data.classes)


def run(tmp_path, data, name="run", resume=False, **changes):
    recorder = Recorder()
    settings = TrainSettings(**{**SMALL, **changes})
    return train(settings, data, str(tmp_path / name), recorder, resume=resume), recorder


def trainer_of(data, recorder=None, **changes):
    return Trainer(TrainSettings(**{**SMALL, **changes}), data, recorder or Recorder())


def after(trainer, n_updates):
    """Rows of losses, parameters and buffers."""
    rows = torch.stack([trainer.update().clone() for _ in range(n_updates)])
    return rows, torch.cat([value.double().flatten() for value in trainer.model.state_dict().values()])


def interrupted(monkeypatch, at, *arguments, **options):
    """A run that was asked to stop, as by a scheduler, after the update ``at``, counted from 0."""
    update = Trainer.update

    def stop_and_update(self):
        if self.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", stop_and_update)
        with pytest.raises(Interrupted):
            run(*arguments, **options)


def weights_of(run_directory):
    return torch.cat([value.flatten() for value in run_directory.load_checkpoint()["model"].values()])


def comparable(directory):
    """Its records without what may differ between two runs that end in the same bits: how long they took."""
    timing = ("images_per_second", "seconds", "phase_seconds", "device_memory")
    return [{key: value for key, value in record.items() if key not in timing} for record in directory.metrics()]
