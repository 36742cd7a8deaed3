"""Runs `dainv` in processes that die, or lose their disk, at chosen moments; for test_never_lose_*.py.

`python -m dainv` spends seconds on imports, so a `Server` imports once and forks a process for each run. Moments are
counted inside that process: one before and one after each update of the weights, each `torch.save`, and each opening
for writing, syncing, renaming and removing of a file in the run directory. A `Job` says what shall happen at which.
Nothing here knows how the package writes its files.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One `dainv` command, and what befalls it.

    Args:
        arguments: those of `dainv`.
        run: the run directory whose files are counted.
        output: a file; what is printed goes there, errors to the same name with `.err`.
        at: the moment, counted from 1; 0 for never.
        fault: `kill` (SIGKILL), `kill-write` (no file may grow beyond `size` from then on, who tries is killed by the
            kernel in mid-write), `full` (no file may grow beyond `size`: EFBIG), `fill` (the file system of the run
            directory is filled until `size` bytes are left: ENOSPC), or the name of a signal such as SIGTERM.
        size: bytes, see `fault`.
        after: SIGKILL comes from outside after so many seconds; 0 for never.
        trace: a file that receives a line of JSON for each moment.
    """

    arguments: list[str]
    run: str
    output: str
    at: int = 0
    fault: str = "kill"
    size: int = 0
    after: float = 0.0
    trace: str = ""


BALLAST = "ballast"


def fill_disk(folder: Path, left: int) -> None:
    """Fills a (small) file system until about `left` bytes are free."""
    with open(folder / BALLAST, "wb", buffering=0) as file:
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - left) > 0:
            file.write(bytes(min(free, 1 << 16)))


class Moments:
    """Counts the moments of this process, and lets the job's fault happen at its moment."""

    def __init__(self, job: Job) -> None:
        self.job, self.count = job, 0
        self.run = os.path.abspath(job.run)
        self.trace = open(job.trace, "w") if job.trace else None  # noqa: SIM115 - open as long as the process
        self.open = builtins.open

    def moment(self, call: str, when: str, name: str = "") -> None:
        self.count += 1
        if self.trace:
            metrics = Path(self.run, "metrics.jsonl")
            size = os.stat(metrics).st_size if os.path.exists(metrics) else 0
            line = {"moment": self.count, "call": call, "when": when, "name": name, "metrics": size}
            self.trace.write(json.dumps(line) + "\n")
            self.trace.flush()
        if self.count == self.job.at:
            self.fault()

    def fault(self) -> None:
        import resource  # not on Windows, where nothing here runs

        fault, size = self.job.fault, self.job.size
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault in ("kill-write", "full"):
            # Python ignores SIGXFSZ, which turns it into EFBIG; its default is to kill.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault == "kill-write" else signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif fault == "fill":
            fill_disk(Path(self.run).parent, size)
        else:
            os.kill(os.getpid(), getattr(signal, fault))

    def install(self) -> None:
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        for function in ("replace", "rename", "link", "unlink", "remove", "mkdir", "fsync", "fdatasync", "truncate"):
            setattr(os, function, self.counted(function, getattr(os, function)))
        torch.save = self.counted("save", torch.save)
        builtins.open = io.open = self.counted("open", io.open)
        register_optimizer_step_pre_hook(lambda *_: self.moment("step", "before"))
        register_optimizer_step_post_hook(lambda *_: self.moment("step", "after"))

    def counted(self, call, function):
        def wrapper(*arguments, **options):
            name = self.name(call, arguments, options)
            if name is None:
                return function(*arguments, **options)
            self.moment(call, "before", name)
            result = function(*arguments, **options)
            self.moment(call, "after", name)
            return result

        return wrapper

    def name(self, call: str, arguments, options) -> str | None:
        """The file in the run directory that a call is about, None where it is about none."""
        if call == "save":
            return ""
        if call == "open":
            mode = arguments[1] if len(arguments) > 1 else options.get("mode", "r")
            if not set(mode) & set("wax+"):
                return None
        place = arguments[1] if call in ("replace", "rename", "link") and len(arguments) > 1 else arguments[0]
        if hasattr(place, "fileno"):
            place = place.fileno()
        if isinstance(place, int):
            link = f"/proc/self/fd/{place}"
            place = os.readlink(link) if os.path.exists(link) else self.run
        path = os.path.abspath(os.fsdecode(place))
        inside = path == self.run or path.startswith(self.run + os.sep)
        return os.path.relpath(path, self.run) if inside else None


def become(job: Job) -> None:
    """Turns this process into `dainv` with the job's arguments; does not return."""
    import numpy as np
    import torch

    for number, path in ((0, os.devnull), (1, job.output), (2, job.output + ".err")):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    random.seed()  # a fresh process would have fresh generators too: nothing may depend on what is not seeded
    np.random.seed()
    torch.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup does
    Moments(job).install()
    from dainv.cli import main

    sys.argv = ["dainv", *job.arguments]
    main(prog_name="dainv")


def start(job: Job) -> int:
    """Forks a process for the job and returns how it ended: the exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        become(job)
        os._exit(99)  # main() ends in sys.exit()
    if job.after:
        time.sleep(job.after)
        os.kill(child, signal.SIGKILL)  # it still exists: nobody has waited for it
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def load_modules() -> None:
    """What every run imports; nothing is computed, so that no thread exists when we fork."""
    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # noqa: F401 - optimizers import it late

    import dainv.cli.train
    import dainv.data
    import dainv.reporting
    import dainv.training  # noqa: F401


def serve() -> None:
    """Reads jobs, a line of JSON each, and answers each with how it ended."""
    load_modules()
    for line in sys.stdin:
        print(start(Job(**json.loads(line))), flush=True)


def lose_a_disk(request: dict) -> None:
    """Runs each job on the small file system mounted at `request["disk"]`, with and then without its fault.

    What the disk holds after the fault and at the end goes to `request["results"]`, as folders `0-full`, `0-end`, ...
    """
    load_modules()
    disk, results = Path(request["disk"]), Path(request["results"])
    codes = []
    for number, (first, second) in enumerate(request["jobs"]):
        codes.append([start(Job(**first))])
        (disk / BALLAST).unlink(missing_ok=True)
        run = Path(first["run"])
        if run.exists():
            shutil.copytree(run, results / f"{number}-full")
        codes[-1].append(start(Job(**second[(run / "config.json").exists()])))
        shutil.move(run, results / f"{number}-end")
    (results / "codes.json").write_text(json.dumps(codes))


class Server:
    """The process that forks runs; a context manager."""

    def __enter__(self) -> Server:
        command = [sys.executable, __file__, "serve"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment()
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __call__(self, job: Job) -> int:
        self.process.stdin.write(json.dumps(asdict(job)) + "\n")
        answer = self.process.stdout.readline()
        assert answer, f"the server of runs has died: {self.process.poll()}"
        return int(answer)


def environment() -> dict[str, str]:
    """This process's, one thread (bits depend on their number), and the packages that this process imports."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        lose_a_disk(json.loads(sys.argv[1]))
