"""R5: a signal in any phase of training saves and goes, and what goes on is what would have been.

Each trial is a whole `glassgpt train` in a fork of this process, which has everything imported already.
"""

import contextlib
import hashlib
import importlib
import io
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest

from glassgpt.training.interruption import Once, StopRequest
from glassgpt.training.metrics import read_metrics

pytestmark = [pytest.mark.thorough, forked.needs_fork]

STEPS = 40
TRAIN = ["train", "text.txt", "--steps", str(STEPS), "--tokenizer", "bytes", "--model.embedding-dim", "32",
         "--model.n-layers", "1", "--model.n-heads", "2", "--model.context-length", "32", "--optim.batch-size", "4",
         "--data.cache", "cache", "--run.threads", "1", "--run.log-every", "1", "--run.eval-every", "20",
         "--out", "run"]  # fmt: skip
PHASES = {  # a function that each of them calls, and which of its calls is meant
    "reading": ("glassgpt.api.choice", "read_texts", 1),
    "tokenising": ("glassgpt.data.prepare", "write_shard", 1),
    "probing": ("glassgpt.training.probe", "training_step", 2),
    "counting": ("glassgpt.api.train", "ngram_bits_per_byte", 1),
    "measuring": ("glassgpt.api.outlook", "evaluate", 2),
    "writing the settings": ("glassgpt.api.train", "write_settings", 1),
    "a step": ("glassgpt.training.loop", "training_step", 17),
    "a save": ("glassgpt.checkpoint.directory", "manifest_bytes", 1),
    "an evaluation": ("glassgpt.api.train", "evaluate", 1),
    "a sample": ("glassgpt.api.record", "generate", 3),
    "the last evaluation": ("glassgpt.api.train", "evaluate", 3),
    "the report": ("glassgpt.api.train", "write_report", 1),
}
BASE = """
text: [text.txt]
model: {embedding_dim: 32, n_layers: 1, n_heads: 2, context_length: 32}
optim: {batch_size: 4}
data: {tokenizer: bytes, cache: cache}
run: {threads: 1}
"""
NOTHING = ("before the first step; nothing was begun", "interrupted before anything was begun", "glassgpt: interrupted")
"""How the line ends where there is nothing to go on with."""
IMPORTED = ("glassgpt.cli.main", "glassgpt.cli.train", "glassgpt.api.compare", "torch.fx.experimental.symbolic_shapes",
            "rich.console", "numpy.random")  # fmt: skip
"""What every one of the forks would else import by itself."""
READING = ("glassgpt.api.texts", "read_documents", 1)
SIGNALS = [number for number in signal.Signals if number.name in ("SIGTERM", "SIGINT", "SIGHUP")]


@dataclass
class Child:
    """A command in a fork, which stops at a call of a function until it is let go."""

    process: int
    output: Path
    reached: int
    go: int

    def wait_until_reached(self, seconds: float = 60) -> bool:
        """False where the time is over before, or the process is."""
        return bool(select.select([self.reached], [], [], seconds)[0]) and os.read(self.reached, 1) != b""

    def is_gone(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        return bool(select.select([self.reached], [], [], seconds)[0])

    def end(self) -> int:
        """Let it go on; its exit code."""
        os.close(self.go)
        _, status = os.waitpid(self.process, 0)
        os.close(self.reached)
        return os.waitstatus_to_exitcode(status)


def command(
    folder: Path,
    arguments: list[str],
    stop_in: tuple[str, str, int] | None = None,
    before: Callable[[], None] = lambda: None,
) -> Child:
    """Start a command; it waits inside the given call of a function. `before` is done in it first."""
    (reached, told), (allowed, go) = os.pipe(), os.pipe()
    output = folder / "output.txt"

    def child() -> None:
        os.close(reached)
        os.close(go)
        os.chdir(folder)
        tempfile.tempdir = str(folder)
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w"), write_through=True) for n in (1, 2))
        sys.argv = ["glassgpt", *arguments]
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if stop_in:
            wait_in(*stop_in, told, allowed)
        before()
        from glassgpt.__main__ import main

        main()

    process = forked.start(child)
    os.close(told)
    os.close(allowed)
    return Child(process, output, reached, go)


def wait_in(module: str, name: str, call: int, told: int, allowed: int) -> None:
    """In its so-manieth call, let a function say that it is reached, and wait until it may go on."""
    place = importlib.import_module(module)
    function, calls = getattr(place, name), 0

    def waiting(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.write(told, b"x")
            os.read(allowed, 1)  # a signal is handled inside, as in a call of the system that takes long
        return function(*arguments, **named)

    setattr(place, name, waiting)


def finish(folder: Path, arguments: list[str]) -> list[str]:
    """Run a command to its end; what is wrong, if it does not end well."""
    child = command(folder, arguments)
    code = child.end()
    return [f"{arguments[:3]} ends with {code}: {child.output.read_text()[-300:]}"] if code else []


def weights(run: Path) -> str:
    """A fingerprint of the latest weights."""
    return hashlib.sha256((run / "latest" / "model.safetensors").read_bytes()).hexdigest()


def numbers(run: Path) -> list[tuple[object, ...]]:
    """Of each line what the clock does not change."""
    return [(m.step, m.loss, m.val_bpb, m.grad_norm, m.lr, m.tokens) for m in read_metrics(run / "metrics.jsonl")]


def litter(folder: Path) -> list[str]:
    """What nothing will ever use; half of a preparation that the next one goes on with is none."""
    hidden = [path for path in folder.rglob("*") if path.name.startswith((".", "glassgpt-"))]
    return [str(path) for path in hidden if not (path / "progress.json").exists()]


@dataclass(frozen=True)
class Whole:
    """The run that nobody interrupts."""

    weights: str
    numbers: list[tuple[object, ...]]
    samples: str
    seconds: float


@pytest.fixture(scope="module")
def text(story_file: Path) -> str:
    return story_file.read_text()


@pytest.fixture
def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "text.txt").write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text: str) -> Whole:
    import glassgpt.cli.main  # noqa: F401

    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(text)
    began = time.monotonic()
    assert finish(folder, TRAIN) == []
    seconds, run = time.monotonic() - began, folder / "run"
    return Whole(weights(run), numbers(run), (run / "samples.txt").read_text(), seconds)


def after_the_signal(folder: Path, code: int, output: str, number: signal.Signals) -> list[str]:
    """What is wrong with what a signal left."""
    faults, run = [], folder / "run"
    last = output.splitlines()[-2:]
    if code == 0 and (run / "report.json").exists():  # it came when all was done
        return []
    if code != 130:
        faults.append(f"exit code {code}")
    if left := litter(folder):
        faults.append(f"litter: {left}")
    if run.exists():
        step = int((run / "latest").resolve().name.removeprefix("step-")) if (run / "latest").exists() else None
        said = [f"stopped by {number.name} after step {step}; everything is saved. Go on with:",
                "  glassgpt train --resume run"]  # fmt: skip
        if step is None or last != said:
            faults.append(f"step {step} is saved, and it says {last}")
    elif not last[-1].endswith(NOTHING):
        faults.append(f"nothing is there, and it says {last}")
    return faults


def goes_on(folder: Path, whole: Whole) -> list[str]:
    """What is wrong when the run is resumed, or begun where there is none."""
    run = folder / "run"
    if (run / "report.html").exists():
        faults = []
    else:
        faults = finish(folder, ["train", "--resume", "run"] if run.exists() else TRAIN)
    if not faults:
        found = Whole(weights(run), numbers(run), (run / "samples.txt").read_text(), whole.seconds)
        faults = ["the resumed run is another"] if found != whole else []
    return faults + [f"left for good: {path}" for path in (*litter(folder), *folder.glob("cache/.*"))]


def interrupted(folder: Path, stop_in: tuple[str, str, int] | float, number: signal.Signals, **more: Any) -> Any:
    """(what is wrong, seconds it took to go) after a signal in a call of a function, or after so many seconds."""
    child = command(folder, TRAIN, stop_in if isinstance(stop_in, tuple) else None, **more)
    child.wait_until_reached(*([] if isinstance(stop_in, tuple) else [stop_in]))
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.process, number)
    code = child.end()
    took = time.monotonic() - began
    return after_the_signal(folder, code, child.output.read_text(), number), took


def no_handlers() -> None:
    """The system's own action for every signal, as if nobody had thought of them."""

    @contextlib.contextmanager
    def nobody() -> Iterator[StopRequest]:
        yield StopRequest()

    importlib.import_module("glassgpt.api.train").stop_on_signals = nobody
    Once.install = lambda self: None  # type: ignore[method-assign]
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_signal_in_any_phase_saves_and_goes_and_the_run_goes_on(
    tmp_path: Path, text: str, whole: Whole, amount: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    """In each named phase, then at random moments."""
    phases = list(PHASES.items())
    named = [phases[n] for n in range(amount(1, 0), len(phases), len(phases) // amount(2, len(phases)))]
    generator = random.Random(7)
    moments = [("a random moment", generator.uniform(0.02, 0.95) * whole.seconds) for _ in range(amount(1, 38))]
    failures, worst = [], 0.0
    for trial, (name, where) in enumerate([*named, *moments]):
        folder = tmp_path / str(trial)
        folder.mkdir()
        (folder / "text.txt").write_text(text)
        number = SIGNALS[trial % len(SIGNALS)]
        faults, took = interrupted(folder, where, number)
        worst = max(worst, took)
        if faults := faults or goes_on(folder, whole):
            failures.append((name, where, number.name, faults))
    control = tmp_path / "control"
    control.mkdir()
    (control / "text.txt").write_text(text)
    unsaved, _ = interrupted(control, PHASES["a step"], signal.SIGTERM, before=no_handlers)
    assert unsaved, "without handlers nothing is saved"
    trials = len(named) + len(moments)
    what = f"a signal in any phase, resumed bit for bit; gone after {worst:.1f} s at the most"
    tally("R5", what, trials, len(failures), control=f"without handlers: {unsaved[0]}")
    assert not failures, "\n".join(map(str, failures))


def twice(folder: Path, where: tuple[str, str, int], **more: Any) -> tuple[bool, float | None]:
    """Whether a run that hangs somewhere is still there after a signal, and how long after a second one."""
    child = command(folder, TRAIN, where, **more)
    assert child.wait_until_reached()
    os.kill(child.process, signal.SIGTERM)
    stays = not child.is_gone(0.2)
    began = time.monotonic()
    os.kill(child.process, signal.SIGINT)
    took = time.monotonic() - began if child.is_gone(1.0) else None
    os.kill(child.process, signal.SIGKILL)
    child.end()
    return stays, took


def test_a_second_signal_ends_it_at_once_where_the_first_is_waited_for(
    tmp_path: Path, text: str, whole: Whole, amount: Callable[[int, int], int], tally: Callable[..., None]
) -> None:
    later = {"a save": 2, "a step": 27, "an evaluation": 2}
    failures, worst = [], 0.0
    for name in list(later)[: amount(1, 3)]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "text.txt").write_text(text)
        stays, took = twice(folder, (*PHASES[name][:2], later[name]))
        if not stays or took is None:
            failures.append(f"{name}: {stays}, {took}")
        failures += goes_on(folder, whole)
        worst = max(worst, took or 0.0)
    control = tmp_path / "control"
    control.mkdir()
    (control / "text.txt").write_text(text)
    waits = twice(control, PHASES["a save"], before=lambda: setattr(Once, "spend", lambda self: None))
    assert waits == (True, None), "handlers in Python alone wait until it goes on"
    what = f"a second signal in a phase that hangs; gone after {worst:.2f} s at the most"
    tally("R5", what, amount(1, 3), len(failures), control="with handlers in Python alone: still there after 1 s")
    assert not failures, "\n".join(map(str, failures))


def test_a_signal_among_the_imports_leaves_nothing(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "glassgpt", *TRAIN], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("GlassGPT")
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate()
    assert process.returncode == 130
    assert (out + errors).rstrip().endswith(NOTHING)
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("arguments", "stop_in", "says"),
    [
        (["data", "prepare", "text.txt", "--cache", "cache"], PHASES["tokenising"], "glassgpt: interrupted"),
        (["data", "prepare", "text.txt", "--cache", "cache"], READING,
         "glassgpt: interrupted"),
        (["compare", "base.yaml", "base.yaml", "--steps", "20", "--seeds", "2"], PHASES["a step"],
         "stopped after 0 of 4 runs"),
    ],
    ids=["preparing", "reading", "comparing"],
)  # fmt: skip
def test_sigterm_ends_other_commands_with_a_line_and_without_litter(
    folder: Path, arguments: list[str], stop_in: tuple[str, str, int], says: str
) -> None:
    (folder / "base.yaml").write_text(BASE)
    child = command(folder, arguments, stop_in)
    assert child.wait_until_reached()
    os.kill(child.process, signal.SIGTERM)
    assert child.end() == 130
    output = child.output.read_text()
    assert says in output
    assert "Traceback" not in output
    assert litter(folder) == []
