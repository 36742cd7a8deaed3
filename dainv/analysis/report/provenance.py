"""Where every number comes from: commit, data, seed, settings, machine, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from dainv.analysis.arms import changed_settings, settings_of, shown
from dainv.analysis.report import html
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.formatting import capital, commit_name

_NOT_THE_METHOD = {"data", "data_root", "device", "seed"}  # told in words of their own, and without paths


def provenance_section(arms: Sequence[Arm], environment: dict[str, Any]) -> str:
    """How each run was trained, and how this analysis was made."""
    runs = [run for arm in arms for run in arm.runs]
    parts = [html.folded(capital(run.label), _run(run), opened=len(runs) <= 2) for run in runs]
    analysis = html.folded("Analysis", _analysis(runs, environment), opened=True)
    return html.section("How this was made", *parts, analysis)


def _run(run: AnalyzedRun) -> str:
    data, settings = run.config["data"], run.config["settings"]
    model = {name: value for name, value in run.config["model"].items() if name != "name"}
    options = ", ".join(f"{name} {shown(name, value)}" for name, value in model.items())
    return html.definitions(
        [
            ("Run directory", html.code(run.name)),
            ("Model", escape(f"{shown('model', run.config['model']['name'])}{f' ({options})' if options else ''}")),
            *_made("Trained with", run.environment),
            ("Computed on", _computed_on(run.config)),
            ("Data", f"{escape(str(data['name']))}, sha256 {html.code(data['sha256'])}"),
            ("Images", escape(f"{data.get('n_train', '?')} to train, {data['n_test']} to test")),
            ("Seed", escape(str(settings["seed"]))),
            ("Settings changed", _changed_settings(run.config)),
            (
                "Weights scored",
                f"{escape(run.run.checkpoint)} checkpoint, update {run.source.step:,}, "
                f"sha256 {html.code(run.source.model_sha256)}",
            ),
            ("Scored on", f"{escape(run.data)}, sha256 {html.code(run.source.data_sha256)}"),
        ]
    )


def _analysis(runs: Sequence[AnalyzedRun], environment: dict[str, Any]) -> str:
    source = runs[0].source
    options = {"transform": source.transform, "repeats": source.repeats, "images": source.images, "seed": source.seed}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    if runs[0].run.checkpoint != "newest":
        given += ["--checkpoint", runs[0].run.checkpoint]
    command = shlex.join(["dainv", "analyze", *(run.name for run in runs), *given])
    return html.definitions(
        [
            *_made("Made with", environment),
            ("Transformation", f"{escape(source.transform)}, {source.repeats} of each image"),
            ("Images", _choice(runs[0])),
            ("Seed", f"{source.seed} (transformations, choice of images, bootstrap)"),
            ("Command", html.code(command)),
        ]
    )


def _made(how: str, environment: dict[str, Any]) -> list[tuple[str, str]]:
    """By which commit, libraries and machine."""
    if not environment:
        return [(how, "unknown: environment.json is lost")]
    return [
        (how, _commit(environment)),
        ("Libraries", _libraries(environment)),
        ("Hardware", _hardware(environment)),
    ]


def _commit(environment: dict[str, Any]) -> str:
    return f"dainv {escape(str(environment.get('dainv')))}, commit {html.code(commit_name(environment))}"


def _libraries(environment: dict[str, Any]) -> str:
    libraries = environment.get("libraries", {})
    named = [f"Python {environment.get('python')}"]
    named += [f"{library} {version}" for library, version in libraries.items() if version is not None]
    return escape(", ".join(named))


def _hardware(environment: dict[str, Any]) -> str:
    devices = environment.get("cuda_devices") or []
    return escape(", ".join([*devices, f"{environment.get('cpu')} ({environment.get('cpu_count')} cores)"]))


def _computed_on(config: dict[str, Any]) -> str:
    return escape(f"{config.get('device', 'unknown')}, invariance losses by backend {config.get('backend', 'unknown')}")


def _changed_settings(config: dict[str, Any]) -> str:
    """Settings of a run that differ from the published run's; those that are a path are named by its last part."""
    published = settings_of({"settings": {}})
    changed = (
        f"{name} {escape(shown(name, value))} <small>(default {escape(str(published[name]))})</small>"
        for name, value in changed_settings(config, _NOT_THE_METHOD).items()
    )
    return "; ".join(changed) or "none"


def _choice(run: AnalyzedRun) -> str:
    if run.source.images == run.available:
        return f"all {run.available:,} of the test set"
    return f"{run.source.images:,} of the {run.available:,} of the test set, drawn at random"
