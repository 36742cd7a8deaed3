"""Starting and resuming runs."""

from __future__ import annotations

from contextlib import ExitStack

from dainv.data import ImageData
from dainv.environment import environment
from dainv.ranks import Ranks
from dainv.reporting import Reporter
from dainv.runs import RunDirectory
from dainv.settings import TrainSettings
from dainv.tensorboard import TensorBoardReporter
from dainv.training.loop import run_epochs
from dainv.training.resume import refuse_changes
from dainv.training.trainer import Trainer


def train(
    settings: TrainSettings,
    data: ImageData,
    run_path: str,
    reporter: Reporter,
    *,
    resume: bool,
    ranks: Ranks | None = None,
) -> RunDirectory:
    """Train a network and leave a run directory.

    Args:
        settings: what to do.
        data: the images.
        run_path: the run directory.
        reporter: told about progress.
        resume: continue the run at this path; its settings have to be the same.
        ranks: the processes that share the work, each of which calls this; by default this one alone.

    Returns:
        The run directory.

    Raises:
        UserError: what a user can mend.
        Interrupted: by a signal; the state is saved.
    """
    ranks = Ranks() if ranks is None else ranks
    run = RunDirectory.open(run_path) if resume else RunDirectory(run_path)
    if ranks.is_main and not resume:
        run.check_free()
    curves = TensorBoardReporter(reporter, RunDirectory(run_path)) if settings.tensorboard and ranks.is_main else None
    reporter = curves or reporter
    with ExitStack() as held:
        if resume and ranks.is_main:
            held.enter_context(run.locked(reporter.message))
        started_with = run.config.get("backend") if resume else None
        trainer = Trainer(settings, data, reporter, ranks=ranks, started_with=started_with)
        if resume:
            refuse_changes(run, trainer.config)
        elif ranks.is_main:
            held.enter_context(run.locked(reporter.message))
            RunDirectory.create(run_path, trainer.config, environment())
        run_epochs(trainer, run, resume=resume)
    if curves is not None:
        curves.close()
    return run
