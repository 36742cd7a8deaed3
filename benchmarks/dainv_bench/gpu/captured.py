"""``dainv-bench captured``: what the objective adds to a step that is compiled or replayed as a CUDA graph.

Against a step that waits for Python most of the time, anything looks cheap. So the objective is also charged to the
fastest baseline there is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any, TypedDict

import torch
from torch import Tensor

from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.models.foreign import first_line
from dainv.objective import Objective, layer_weights
from dainv.settings import TrainSettings
from dainv.training.captured import CapturedStep
from dainv.training.optimizer import capturable_sgd
from dainv_bench.overhead.arms import ARMS, BASELINE, Arm, Problem, objective_of
from dainv_bench.overhead.equality import check_agreement
from dainv_bench.results import SCHEMA, load_average
from dainv_bench.statistics import MINIMUM_ROUNDS, Interval, median_interval, paired_overhead
from dainv_bench.timing import interleave, queued_meter_for
from dainv_bench.workload import Batch, make_batches, make_network

EAGER, CAPTURED, COMPILED = "eager", "captured", "compiled and captured"
_N_BATCHES = 4
_STEPS_A_TURN = 10
_WARMUP = 1
# Two updates of two forms of a step may differ by what TF32 convolutions round, by algorithms that may not be the same.
# A step that misses its batch, its gradient or its update is off by about 1.
_UPDATE_BOUND = 0.05

Step = Callable[..., Objective]


@dataclass(frozen=True)
class CapturedSettings:
    """Settings of ``dainv-bench captured``; the command line documents each where it defines the option."""

    batch_size: int = 128
    views: int = 8
    width: float = 1.0
    batch_norm: bool = False
    rounds: int = 20
    device: str = "auto"
    seed: int = 0
    arms: tuple[str, ...] = tuple(ARMS)
    compiled: tuple[str, ...] = (BASELINE, "closed-form", "ours-fused")

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        if self.views < 2 or self.batch_size < self.views or self.batch_size % self.views:
            raise UserError(f"--batch-size {self.batch_size} is not a multiple of --views {self.views}, at least 2")
        if self.rounds < MINIMUM_ROUNDS:
            raise UserError(f"--rounds: expected at least {MINIMUM_ROUNDS}, got {self.rounds}")
        if not self.width > 0:
            raise UserError(f"--width: expected a positive factor, got {self.width}")
        for option, names in (("--arms", self.arms), ("--compiled", self.compiled)):
            for name in names:
                if name not in ARMS:
                    raise UserError(f"{option}: there is no arm {name!r}; there are {', '.join(ARMS)}")

    def forms_of(self, arm: str) -> list[str]:
        """Eager is the baseline's alone: the ``overhead`` suite is about that."""
        return [EAGER] * (arm == BASELINE) + [CAPTURED] + [COMPILED] * (arm in self.compiled)


class FormResult(TypedDict):
    """One arm in one form. Where it could not be run ``not_run`` says why and the rest is empty."""

    arm: str
    form: str
    not_run: str | None
    update_error: float | None  # against the eager form; None for that itself
    milliseconds: list[float]  # of one step, one a round
    median_milliseconds: float | None
    overhead_percent: Interval | None  # over the best baseline; None for the baseline's own forms


class CapturedResult(TypedDict):
    """What ``dainv-bench captured`` writes."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]
    settings: dict[str, Any]
    best_baseline: str
    steps: dict[str, FormResult]  # "ARM, FORM"
    orders: list[list[str]]


def measure(
    settings: CapturedSettings, on_progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None
) -> CapturedResult:
    """Check that all forms of all arms make the same update, then time them side by side.

    Args:
        settings: what to measure. The baseline runs whether it is named or not. Without a CUDA device nothing is
            recorded, and times say nothing.
        on_progress: told what is going on, how many steps are done, and of how many.

    Returns:
        The result; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device, or arms that disagree.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = resolve_device(settings.device)
    published = TrainSettings()
    n_images = settings.batch_size // settings.views
    network = make_network(settings.width, settings.batch_norm, settings.seed, device)
    weights = layer_weights(len(network.layer_names), published.alpha, published.spread, published.scheme)
    problem = Problem(n_images, settings.views, weights, device)
    batches = make_batches(_N_BATCHES, n_images, settings.views, settings.seed, device)
    chosen = [arm for arm in ARMS.values() if arm.name == BASELINE or arm.name in settings.arms]
    running = [arm for arm in chosen if arm.why_not(device) is None]
    planned = [(arm, form) for arm in chosen for form in settings.forms_of(arm.name)]

    made_with, load_before = environment(), load_average()
    check_agreement([arm for arm in running if arm.taps], problem, network, batches[0])
    found, works = _prepare(planned, problem, network, batches, on_progress)
    done, total = 0, (_WARMUP + settings.rounds) * len(works)

    def on_step(what: str) -> None:
        nonlocal done
        done += 1
        on_progress(what, done, total)

    rounds = interleave(
        works,
        rounds=settings.rounds,
        warmup=_WARMUP,
        measure=queued_meter_for(device),
        seed=settings.seed,
        on_step=on_step,
    )
    if len(rounds.finished) < MINIMUM_ROUNDS:
        raise KeyboardInterrupt
    for key in works:
        found[key]["milliseconds"] = [one[key].milliseconds / _STEPS_A_TURN for one in rounds.finished]
        found[key]["median_milliseconds"] = median(found[key]["milliseconds"])
    best = min(
        (key for key in works if found[key]["arm"] == BASELINE), key=lambda key: median(found[key]["milliseconds"])
    )
    for key in works:
        if found[key]["arm"] != BASELINE:
            overhead = paired_overhead(found[key]["milliseconds"], found[best]["milliseconds"])
            found[key]["overhead_percent"] = median_interval(overhead)
    return CapturedResult(
        schema=SCHEMA,
        suite="captured",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=rounds.interrupted,
        environment=made_with,
        load_average={"before": load_before, "after": load_average()},
        settings=_resolved(settings, problem),
        best_baseline=best,
        steps=found,
        orders=[list(one) for one in rounds.finished],
    )


def _prepare(
    planned: Sequence[tuple[Arm, str]],
    problem: Problem,
    network: AllCNNC,
    batches: Sequence[Batch],
    on_progress: Callable[[str, int, int], None],
) -> tuple[dict[str, FormResult], dict[str, Callable[[int], None]]]:
    """An empty result for each form of each arm, and what to time of those that run here."""
    import torch._dynamo.config

    found: dict[str, FormResult] = {}
    works: dict[str, Callable[[int], None]] = {}
    with torch._dynamo.config.patch(cache_size_limit=4 * len(planned)):
        for done, (arm, form) in enumerate(planned):
            key = f"{arm.name}, {form}"
            on_progress(f"preparing {key}", done, len(planned))
            found[key] = FormResult(
                arm=arm.name,
                form=form,
                not_run=arm.why_not(problem.device),
                update_error=None,
                milliseconds=[],
                median_milliseconds=None,
                overhead_percent=None,
            )
            if found[key]["not_run"] is not None:
                continue
            try:
                step, trained = _make_step(arm, form, problem, network, batches[0])
                if form != EAGER:
                    found[key]["update_error"] = _update_error(arm, step, trained, problem, network, batches)
            except UserError:
                raise
            except Exception as error:  # whatever a compiler or a recording raises: the others can still be timed
                if form == EAGER:
                    raise
                found[key]["not_run"] = f"{type(error).__name__}: {first_line(error)}"
                continue
            works[key] = _turn(step, batches)
    return found, works


def broken_forms(result: CapturedResult) -> list[str]:
    """Forms of arms that could not be compiled or recorded though nothing is missing here."""
    device = torch.device(result["settings"]["device"])
    steps = result["steps"].items()
    return [key for key, one in steps if one["not_run"] is not None and ARMS[one["arm"]].why_not(device) is None]


def _make_step(arm: Arm, form: str, problem: Problem, network: AllCNNC, batch: Batch) -> tuple[Step, AllCNNC]:
    """A step in one form, and the copy of the network that it trains."""
    published = TrainSettings()
    trained = copy.deepcopy(network)
    optimizer = capturable_sgd(trained, published.learning_rate, published.momentum)
    criterion = arm.prepare(problem)

    def objective(views: Tensor, labels: Tensor) -> Objective:
        return objective_of(criterion, trained, views, labels)

    step = training_step(torch.compile(objective, dynamic=False) if form == COMPILED else objective, optimizer)
    return (step if form == EAGER else CapturedStep(step, batch, module=trained, optimizer=optimizer)), trained


def training_step(objective_of: Callable[..., Objective], optimizer: torch.optim.Optimizer) -> Step:
    """One update as a function of the batch: forward pass, loss, backward pass, optimizer.

    Args:
        objective_of: tensors of a batch to the objective; may be compiled.
        optimizer: of the parameters.

    Returns:
        The step. It returns the objective without its graph, so that nothing outlives the step.
    """

    def step(*batch: Tensor) -> Objective:
        optimizer.zero_grad(set_to_none=True)  # a backward pass then writes gradients instead of adding to them
        total, task, invariance = objective_of(*batch)
        total.backward()
        optimizer.step()
        return Objective(total.detach(), task.detach(), {name: loss.detach() for name, loss in invariance.items()})

    return step


def _update_error(
    arm: Arm, step: Step, trained: AllCNNC, problem: Problem, network: AllCNNC, batches: Sequence[Batch]
) -> float:
    """How far two updates are from those of the eager step, relative to their size.

    Raises:
        UserError: further than rounding explains.
    """
    eager, truth = _make_step(arm, EAGER, problem, network, batches[0])
    for batch in batches[:2]:
        eager(*batch)
        step(*batch)
    error = _distance(trained, truth) / _distance(truth, network)
    if not error <= _UPDATE_BOUND:
        raise UserError(f"nothing timed: {arm.name} captured is not the eager step: its update is off by {error:.1e}")
    return error


@torch.no_grad()
def _distance(one: AllCNNC, other: AllCNNC) -> float:
    squares = [(a - b).double().square().sum() for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def _turn(step: Step, batches: Sequence[Batch]) -> Callable[[int], None]:
    """Several steps, so that the device always has the next one before it is done with the last."""

    def work(turn: int) -> None:
        for number in range(_STEPS_A_TURN):
            step(*batches[(turn + number) % len(batches)])

    return work


def _resolved(settings: CapturedSettings, problem: Problem) -> dict[str, Any]:
    published = TrainSettings()
    return {
        "batch_size": settings.batch_size,
        "views": settings.views,
        "width": settings.width,
        "batch_norm": settings.batch_norm,
        "rounds": settings.rounds,
        "device": str(problem.device),
        "seed": settings.seed,
        "arms": list(settings.arms),
        "compiled": list(settings.compiled),
        "n_images": problem.n_images,
        "steps_a_turn": _STEPS_A_TURN,
        "layer_weights": list(problem.weights),
        "learning_rate": published.learning_rate,
        "momentum": published.momentum,
        "optimizer": "fused SGD" if problem.device.type == "cuda" else "SGD",
        "dtype": "float32",
        "memory_format": "channels_last",
        "tf32_convolutions": problem.device.type == "cuda" and torch.backends.cudnn.allow_tf32,
    }
