"""Training steps for people."""

from __future__ import annotations

from dainv_bench.formats import readable_time
from dainv_bench.summary import Summary, network_of, place_of
from dainv_bench.training.results import BASELINE, EAGER, OBJECTIVE, PrecisionResult, TrainingResult


def summarise(result: TrainingResult) -> Summary:
    """A step by precision, with what the objective adds and what 350 epochs would take."""
    settings, precisions = result["settings"], result["precisions"]
    return Summary(
        caption=(
            f"Step of dainv train --fused, augmentation included, {network_of(settings)}, batch "
            f"{settings['batch_size']} in groups of {settings['views']} views, {place_of(result)}: recorded as a CUDA "
            f"graph where there is a GPU; without the objective; and eager. Medians of {settings['rounds']} rounds "
            f"of {settings['steps_a_turn']} steps; 350 epochs: updates and evaluations of the published run."
        ),
        headings=["precision", "step", "without", "eager", "objective adds", "350 epochs"],
        names=0,
        rows=[[name, *_cells(one)] for name, one in precisions.items()],
        notes=[note for name, one in precisions.items() for note in _notes(name, one)],
    )


def _cells(one: PrecisionResult) -> list[str]:
    medians, seconds = one["median_milliseconds"], one["seconds_of_350_epochs"]
    return [
        *(readable_time(medians[form]) for form in (OBJECTIVE, BASELINE, EAGER)),
        f"{one['overhead_percent']['median']:+.1f} %",
        f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s",
    ]


def _notes(name: str, one: PrecisionResult) -> list[str]:
    share = one["augmentation_percent"]
    return [
        f"{name}: augmentation {share['median']:.1f} % of a step ({share['low']:.1f} to {share['high']:.1f})",
        f"{name}: not recorded ({one['not_recorded']})"
        if one["not_recorded"]
        else f"{name}: recorded against eager steps, losses off by {one['loss_error']:.1e}, "
        f"updates by {one['update_error']:.1e}",
    ]
