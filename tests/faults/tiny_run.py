"""A tiny training run in a process of its own that may be killed, traced or out of space: about a second each.

Each is forked from one server that has imported everything (and nothing else, whatever this process has done), so
that all of them compute the same bits.
"""

import ctypes
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import glassgpt
from glassgpt.api import choice
from glassgpt.api import start as start_of_run
from glassgpt.api.train import Silent
from glassgpt.checkpoint import directory
from glassgpt.checkpoint.directory import TrainerState, load_trainer_state
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.data.batches import Batches
from glassgpt.files.atomic import SaveError
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.optim.optimizer import Optimizer
from glassgpt.planning.choose import Speed
from glassgpt.settings import InputError
from glassgpt.text.stories import write_stories
from glassgpt.training.metrics import Metrics, read_metrics

STEPS, SAVE_EVERY, EVAL_EVERY = 24, 3, 12
LENGTHS: dict[str, dict[str, float]] = {"steps": {"steps": STEPS}, "minutes": {"minutes": 0.25}}
"""What `train` is given; in the second a step takes half a second by its clock."""
SETTINGS: dict[str, Any] = {
    "tokenizer": "bytes",
    "model": {"n_layers": 1, "embedding_dim": 16, "n_heads": 1, "context_length": 16, "dropout_rate": 0.1},
    "optim": {"batch_size": 4, "warmup": 2, "learning_rate": 3e-3},
    "run": {"threads": 1, "log_every": 1, "save_every": SAVE_EVERY, "eval_every": EVAL_EVERY},
}
REFUSED = 1
"""The exit code of a process that could not save."""


class Told(Silent):
    """Notes beside the run how many steps are `done`, and how many `saved`: also of a process that is killed."""

    def __init__(self, folder: Path) -> None:
        self.done, self.noted = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("done", "saved"))
        for file in (self.done, self.noted):
            os.pwrite(file, os.pread(file, 8, 0).rjust(8), 0)  # so that there is room for it later

    def stepped(self, metrics: Metrics) -> None:
        os.pwrite(self.done, f"{metrics.step:8}".encode(), 0)

    def saved(self, checkpoint: Path) -> None:
        os.pwrite(self.noted, checkpoint.name.removeprefix("step-").encode(), 0)


def train(run: Path, length: str, alter: Callable[[], None] | None, traced: bool, log: Path | None) -> None:
    """Go on with the run where it has a checkpoint, else begin it; `alter` is called first, to leave something out.

    What is written to standard error goes to `log`, and a save that was refused is a line there.
    """
    os.chdir(run.parent)
    if log:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY), 2)
    if traced:
        ctypes.CDLL(None).prctl(0x59616D61, -1)  # PR_SET_PTRACER: strace may attach, though it is no parent of this
        while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
            time.sleep(0.01)
    if alter:
        alter()
    timed = {"clock": _steady_clock()} if length == "minutes" else {}
    new = {"text": "text.txt", "out": run.name, "data": {"cache": "cache"}, **LENGTHS[length], **SETTINGS}
    given = {"resume": run.name} if newest_intact(run) else new
    try:
        glassgpt.train(**given, **timed, listener=Told(run.parent))
    except SaveError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(REFUSED)
    os._exit(0)


def _steady_clock() -> Callable[[], float]:
    """A clock on which a step takes half a second and nothing else any time, on a machine of known speed."""
    seconds, batch = [100.0], Batches.batch

    def timed(self: Batches, step: int) -> Any:
        seconds[0] += 0.5
        return batch(self, step)

    Batches.batch = timed
    choice.machine_speed = lambda run: Speed(flops_per_s=1e11, seconds_per_layer=5e-4)
    return lambda: seconds[0]


def write_text(folder: Path) -> None:
    """The text of a run in this folder, which is made."""
    if not (folder / "text.txt").exists():
        folder.mkdir(exist_ok=True)
        (folder / "text.txt").write_text("\n".join(write_stories(60, seed=1)))


def start(
    run: Path,
    length: str = "steps",
    alter: Callable[[], None] | None = None,
    traced: bool = False,
    log: Path | None = None,
) -> BaseProcess:
    """A process that runs `train`."""
    write_text(run.parent)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["glassgpt.api.train", "torch.fx.experimental.symbolic_shapes"])
    process = context.Process(target=train, args=(run, length, alter, traced, log))
    process.start()
    return process


def finish(run: Path, length: str = "steps", alter: Callable[[], None] | None = None) -> tuple[Any, ...]:
    """Run it to its end, if it is not there yet, and return its result."""
    if not is_done(run):
        process = start(run, length, alter)
        process.join()
        assert is_done(run), f"ended with {process.exitcode}"
    return result(run)


def is_done(run: Path) -> bool:
    """Whether nothing but report.html may be missing, which is made anew at any time."""
    return (run / "report.json").exists()


def result(run: Path) -> tuple[Any, ...]:
    """All that must be the same bit for bit, however often the run was stopped."""
    lines = read_metrics(run / "metrics.jsonl")
    numbers = [(line.step, line.tokens, line.loss, line.val_bpb, line.lr, line.grad_norm) for line in lines]
    weights = hashlib.sha256((run / "latest" / WEIGHTS).read_bytes()).hexdigest()
    return numbers, weights, (run / "samples.txt").read_text(), (run / "health.jsonl").read_text()


def steps_done(run: Path) -> int:
    """How many steps the last process on this run had done when it was stopped."""
    note = run.parent / "done"
    return int(note.read_bytes().strip() or 0) if note.exists() else 0


def torn(run: Path) -> list[str]:
    """The checkpoints that have their name and are not whole."""
    found = []
    for checkpoint in RunDirectory(run).checkpoints():
        try:
            if not (checkpoint / MANIFEST).is_file():
                raise InputError(f"{checkpoint} has no manifest")
            verify_checkpoint(checkpoint)
        except InputError as damage:
            found.append(str(damage))
    return found


def newest_intact(run: Path) -> int:
    """The step that a resumed run would go on from; 0 where there is no checkpoint, or none that is whole."""
    try:
        return int(RunDirectory(run).resume_point().checkpoint.name.removeprefix("step-"))
    except InputError:
        return 0


def litter(run: Path) -> list[str]:
    """What is left of saves that never ended, in the run and in the cache."""
    places = [run, run.parent / "cache"]
    return [path.name for place in places if place.exists() for path in place.iterdir() if path.name.startswith(".")]


def room_after(step: int, n_bytes: int) -> None:
    """The disk has `n_bytes` left once the step is done; the file `ballast` beside the run takes the rest."""
    stepped = Told.stepped

    def fill(self: Told, metrics: Metrics) -> None:
        stepped(self, metrics)
        if metrics.step == step:
            disk = os.statvfs(".")
            Path("ballast").write_bytes(bytes(disk.f_bavail * disk.f_frsize - n_bytes))

    Told.stepped = fill


def room_after_in_place(step: int, n_bytes: int) -> None:
    """The same, and checkpoints are written straight to their name."""
    room_after(step, n_bytes)
    in_place()


def without_moments() -> None:
    """A resumed run begins with an empty optimiser."""
    Optimizer.restore = lambda self, tensors: None


def with_a_wrong_step() -> None:
    """A resumed run takes its checkpoint for one step further than it is."""

    def later(directory: Path) -> TrainerState:
        state = load_trainer_state(directory)
        return TrainerState(tensors=state.tensors, counters=state.counters | {"step": state.counters["step"] + 1})

    start_of_run.load_trainer_state = later


def in_place() -> None:
    """A checkpoint is written straight to its name."""

    @contextmanager
    def written_in_place(directory: Path) -> Iterator[Path]:
        directory.mkdir()
        yield directory

    directory.written_aside = written_in_place
