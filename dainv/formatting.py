"""Numbers, intervals and layers in words, the same in tables, figures, reports and sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dainv.summaries import Estimate


class HasEnds(Protocol):
    """An interval, or what might have had one."""

    @property
    def low(self) -> float | None:
        """Lower end."""

    @property
    def high(self) -> float | None:
        """Upper end."""


def short_layer(layer: str) -> str:
    """A layer's name on an axis: ``layer3`` is 3, as in the paper."""
    match = re.fullmatch(r"layer(\d+)", layer)
    return match[1] if match else layer


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign, and no sign where it rounds to nothing; a dash for what is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A difference: with its sign in any case."""
    text = number(value, digits)
    return f"+{text}" if text[0].isdigit() and float(text) else text


def interval(found: HasEnds, digits: int = 2) -> str:
    """The ends of an interval; a dash where there is none."""
    if found.low is None or found.high is None:
        return "–"
    return f"{number(found.low, digits)} to {number(found.high, digits)}"


def percent(estimate: Estimate) -> str:
    """A share with its interval, in percent."""
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f} %)"


def most_of(share: float) -> str:
    """A share in whole percent; all of them, and none, are said only where that is so."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def layer_list(chosen: Sequence[str], layers: Sequence[str]) -> str:
    """Some of the layers in words, neighbours drawn together: ``layers 1 and 3–5``.

    Args:
        chosen: the layers to name.
        layers: all layers, in order.
    """
    runs: list[list[str]] = []
    for place, layer in enumerate(layers):
        if layer not in chosen:
            continue
        if runs and layers[place - 1] == runs[-1][-1]:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts: list[str] = []
    for run in runs:
        names = [short_layer(layer) for layer in run]
        parts += [f"{names[0]}–{names[-1]}"] if len(names) > 2 else names
    if not parts:
        return "no layer"
    if len(chosen) == len(layers) > 1:
        return f"all {len(layers)} layers"
    return f"layer {listed(parts)}" if len(chosen) == 1 else f"layers {listed(parts)}"


def p_value(p: float | None) -> str:
    """A probability: ``p = 0.012``, or ``p < 0.001``; a dash where there is none."""
    if p is None:
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def capital(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def spread(values: Sequence[int]) -> str:
    """Whole numbers as a range: ``24–27``."""
    return str(min(values)) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def commit_name(environment: Mapping[str, Any]) -> str:
    """The commit that something was made with, and whether its files were as committed."""
    changes = " with uncommitted changes" if environment.get("uncommitted_changes") else ""
    return f"{environment.get('commit') or 'unknown'}{changes}"
