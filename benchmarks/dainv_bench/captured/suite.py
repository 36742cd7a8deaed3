"""``dainv-bench captured``: what the objective adds to a step that is compiled or replayed as a CUDA graph.

Against a step that waits for Python most of the time, anything looks cheap. So the objective is also charged to the
fastest baseline there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.models.foreign import first_line
from dainv.settings import TrainSettings
from dainv_bench.captured.forms import Step, make_step, update_error
from dainv_bench.captured.results import CapturedResult, FormResult
from dainv_bench.captured.settings import EAGER, CapturedSettings
from dainv_bench.overhead.arms import ARMS, BASELINE, Arm, Problem, published_problem
from dainv_bench.overhead.equality import check_agreement
from dainv_bench.progress import Steps, Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.statistics import median_interval, paired_overhead
from dainv_bench.timing import Rounds, interleave, meter_for
from dainv_bench.workload import Batch, arithmetic_on, make_batches, make_network

_N_BATCHES = 4
_STEPS_A_TURN = 10
_WARMUP = 1
# Two updates of two forms of a step may differ by what TF32 convolutions round, by algorithms that may not be the same.
# A step that misses its batch, its gradient or its update is off by about 1.
_UPDATE_BOUND = 0.05


def measure(settings: CapturedSettings, tell: Tell = silent) -> Iterator[CapturedResult]:
    """Check arms against float64 and their forms against the eager step, then time those that agree side by side.

    Args:
        settings: what to measure. The baseline runs whether it is named or not. Without a CUDA device nothing is
            recorded, and times say nothing.
        tell: told what is going on, how many turns are done, and of how many.

    Yields:
        The result; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = settings.timed_device()
    network = make_network(settings.width, settings.batch_norm, settings.seed, device)
    problem = published_problem(network, settings.n_images, settings.views, device)
    batches = make_batches(_N_BATCHES, settings.n_images, settings.views, settings.seed, device)
    chosen = [arm for arm in ARMS.values() if arm.name == BASELINE or arm.name in settings.arms]
    planned = [(arm, form) for arm in chosen for form in settings.forms_of(arm.name)]

    head = begin("captured", _resolved(settings, problem))
    why_not = {arm.name: arm.why_not(device) or _disagreement(arm, problem, network, batches[0]) for arm in chosen}
    steps, works = _prepare(planned, why_not, problem, network, batches, tell)
    rounds = interleave(
        works,
        rounds=settings.rounds,
        warmup=_WARMUP,
        measure=meter_for(device, queued=True),
        seed=settings.seed,
        on_step=Steps(tell, (_WARMUP + settings.rounds) * len(works)),
    )
    best = _with_times(steps, list(works), rounds)
    yield CapturedResult(**end(head, rounds.interrupted), best_baseline=best, steps=steps, orders=rounds.orders)


def _disagreement(arm: Arm, problem: Problem, network: AllCNNC, batch: Batch) -> str | None:
    """None, or how an arm's losses or gradient differ from the closed form in float64."""
    try:
        check_agreement([arm] if arm.taps else [], problem, network, batch)
    except UserError as error:
        return str(error)
    return None


def _prepare(
    planned: Sequence[tuple[Arm, str]],
    why_not: Mapping[str, str | None],
    problem: Problem,
    network: AllCNNC,
    batches: Sequence[Batch],
    tell: Tell,
) -> tuple[dict[str, FormResult], dict[str, Callable[[int], None]]]:
    """An empty result for each form of each arm, and what to time of those that run here."""
    import torch._dynamo.config

    found: dict[str, FormResult] = {}
    works: dict[str, Callable[[int], None]] = {}
    with torch._dynamo.config.patch(cache_size_limit=4 * len(planned)):
        for done, (arm, form) in enumerate(planned):
            key = f"{arm.name}, {form}"
            tell(f"preparing {key}", done, len(planned))
            found[key] = one = FormResult(
                arm=arm.name,
                form=form,
                not_run=why_not[arm.name],
                update_error=None,
                milliseconds=[],
                median_milliseconds=None,
                overhead_percent=None,
            )
            if one["not_run"] is not None:
                continue
            try:
                step, trained = make_step(arm, form, problem, network, batches[0])
                if form != EAGER:
                    one["update_error"] = off = update_error(arm, step, trained, problem, network, batches)
                    if not off <= _UPDATE_BOUND:
                        one["not_run"] = f"not the eager step: its update is off by {off:.1e}"
            except Exception as error:  # whatever a compiler or a recording raises: the others can still be timed
                if form == EAGER:
                    raise
                one["not_run"] = f"{type(error).__name__}: {first_line(error)}"
            if one["not_run"] is None:
                works[key] = _turn(step, batches)
    return found, works


def _turn(step: Step, batches: Sequence[Batch]) -> Callable[[int], None]:
    """Several steps, so that the device always has the next one before it is done with the last."""

    def work(turn: int) -> None:
        for number in range(_STEPS_A_TURN):
            step(*batches[(turn + number) % len(batches)])

    return work


def _with_times(steps: dict[str, FormResult], timed: Sequence[str], rounds: Rounds) -> str:
    """Fill in what was measured; gives the fastest form of the baseline."""
    for key in timed:
        steps[key]["milliseconds"] = times = [one / _STEPS_A_TURN for one in rounds.milliseconds(key)]
        steps[key]["median_milliseconds"] = median(times)
    best = min(
        (key for key in timed if steps[key]["arm"] == BASELINE), key=lambda key: median(steps[key]["milliseconds"])
    )
    for key in timed:
        if steps[key]["arm"] != BASELINE:
            overhead = paired_overhead(steps[key]["milliseconds"], steps[best]["milliseconds"])
            steps[key]["overhead_percent"] = median_interval(overhead)
    return best


def _resolved(settings: CapturedSettings, problem: Problem) -> dict[str, Any]:
    published = TrainSettings()
    return settings.resolved(
        problem.device,
        n_images=problem.n_images,
        steps_a_turn=_STEPS_A_TURN,
        layer_weights=problem.weights,
        learning_rate=published.learning_rate,
        momentum=published.momentum,
        optimizer="fused SGD" if problem.device.type == "cuda" else "SGD",
        **arithmetic_on(problem.device),
    )
