"""`glassgpt doctor`: what this machine is and how fast; or what looks wrong in a run."""

import dataclasses
import json
import math
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from glassgpt import __version__
from glassgpt.cli.page import Page
from glassgpt.cli.process import interruptible_imports
from glassgpt.cli.words import count, number, size
from glassgpt.settings import InputError
from glassgpt.training.machine_facts import Disk, MachineFacts, disk_of, machine_facts

if TYPE_CHECKING:
    from glassgpt.planning.choose import Speed
    from glassgpt.training.measure import DiskSpeed

PRESETS = (("modern-tiny", 4096), ("modern-mini", 4096), ("modern-small", 16384), ("gpt2-small", 50257))
"""Models of the table, and their vocabularies."""
SEQUENCES = 16
"""Of a step of theirs."""
LEAST_DISK, LEAST_MEMORY, SLOW_DISK = 5e9, 2e9, 2e7
"""Bytes, and bytes a second, below which there is a warning."""
NOVEL_MINUTES = (1, 10)
COMPILER = (
    "install a C++ compiler (Debian: apt install g++, macOS: xcode-select --install), then install GlassGPT again"
)
BUSY = 0.5
"""Of a core that others use, from which on measurements suffer."""


def doctor(
    directory: str | None = None,
    /,
    *,
    verify_resume: Annotated[bool, Parameter(negative="")] = False,
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Say what this machine is, how fast, and what training will use; or of a run, what looks wrong and what to do.

    Parameters
    ----------
    directory
        A run, to look for what went wrong in it. Left out: the machine is looked at.
    verify_resume
        Compute the last interval of a run (the newest, where none is named) once more and compare it bit for bit.
    trust_code
        Let --verify-resume run the code that the run was trained with.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if trust_code and not verify_resume:
        raise InputError("--trust-code lets --verify-resume run a run's own code: give both, or leave it out")
    if verify_resume:
        from glassgpt.cli.doctor_of_resume import doctor_of_resume

        return doctor_of_resume(directory, trust_code, as_json)
    if directory is None:
        return _doctor_of_machine(as_json)
    from glassgpt.cli.doctor_of_run import doctor_of_run

    return doctor_of_run(directory, as_json)


@dataclass(frozen=True)
class Training:
    """What training will use here, and what can be expected of it."""

    device: str
    kernel: str
    dtype: str
    linear: str
    threads: int
    why: str
    novel: list[dict[str, Any]]
    """What some minutes would make of a text like a novel."""
    presets: list[dict[str, Any]]


@dataclass(frozen=True)
class Decoding:
    """What will write texts on the CPU here."""

    native: bool
    instructions: str | None
    """Of the native code."""
    read_bytes_per_s: float | None
    """At which it reads weights, with all threads."""


@dataclass(frozen=True)
class Speeds:
    """What was measured."""

    flops_per_s: dict[str, float]
    """Of matrix products, by device and dtype."""
    read_bytes_per_s: dict[int, float]
    """By threads."""
    saving: "DiskSpeed | None"
    """None where nothing can be written."""
    training: Training
    decoding: Decoding


def _doctor_of_machine(as_json: bool) -> int:
    page = Page(sys.stderr if as_json else sys.stdout)
    page.line(f"GlassGPT {__version__}")
    facts, disks = machine_facts(), {"runs": disk_of(Path("runs")), "cache": disk_of(Path("~/.cache/glassgpt"))}
    _show_facts(page, facts, disks)
    page.doing("loading PyTorch")
    with interruptible_imports():
        import torch

    devices = _devices()
    page.row("PyTorch", f"{torch.__version__}; {', '.join(devices.values()) or 'no GPU that it can use'}")
    speeds = _measured(page, facts, list(devices))
    page.row("terminal", _terminal())
    warnings = [*_warnings(facts, disks, speeds)]
    if as_json:
        where = {name: {"path": str(disk.path), "free": disk.free} for name, disk in disks.items()}
        values = {"version": __version__, "torch": torch.__version__, "devices": devices, "disks": where}
        values |= dataclasses.asdict(facts) | dataclasses.asdict(speeds)
        print(json.dumps(values | {"warnings": warnings}))
        return 0
    _show_presets(page, speeds.training, facts)
    for warning in warnings:
        page.row("warning", warning)
    page.line("\nNext: glassgpt train book.txt --minutes 10")
    return 0


def _measured(page: Page, facts: MachineFacts, devices: list[str]) -> Speeds:
    """Measure, and show each figure as it comes."""
    import torch

    from glassgpt.ops.linear import has_onednn
    from glassgpt.training.measure import bandwidth, disk_speed, gemm

    cores, onednn = facts.usable_cores, has_onednn()
    page.doing("multiplying matrices")
    flops = {"fp32": gemm(torch.float32, cores, onednn=onednn), "bf16": gemm(torch.bfloat16, cores)}
    flops |= {f"{device} bf16": gemm(torch.bfloat16, cores, device) for device in devices}
    products = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in flops.items())
    page.row("arithmetic", f"{products}: products of 1,024 x 1,024{', fp32 by oneDNN' if onednn else ''}")
    page.doing("reading memory")
    read = {threads: bandwidth(threads) for threads in sorted({1, cores})}
    rates = (f"{rate / 1e9:.0f} GB/s with {number(threads, 'thread')}" for threads, rate in read.items())
    page.row("bandwidth", ", ".join(rates))
    page.doing("writing to the disk")
    try:
        saving = disk_speed(Path("runs"))
    except OSError as error:
        saving = None
        page.row("saving", f"cannot write here: {error.strerror}")
    else:
        works = f"links: {_yes(saving.links)}, fsync of folders: {_yes(saving.directory_sync)}"
        page.row("saving", f"{size(saving.bytes_per_s)}/s, with SHA-256 and fsync; {works}")
    page.doing("reading weights")
    decoding = _decoding(cores)
    page.row("writing", _how_it_writes(decoding, cores))
    page.doing("measuring steps of training")
    training = _training()
    how = f"{training.device}, {training.dtype}, {number(training.threads, 'thread')}, {_by(training)}"
    page.row("training", f"{how}: {training.why}")
    return Speeds(flops, read, saving, training, decoding)


def _show_facts(page: Page, facts: MachineFacts, disks: dict[str, Disk]) -> None:
    page.row("system", f"{facts.system}, Python {facts.python}")
    usable = "" if facts.usable_cores == facts.cores else f", {facts.usable_cores} of them usable here"
    limit = f", limited to the time of {facts.cpu_limit:g}" if facts.cpu_limit else ""
    load = "" if facts.load is None else f"; load {facts.load:.2f}"
    page.row("processor", f"{facts.processor}, {number(facts.cores, 'core')}{usable}{limit}{load}")
    if facts.memory is not None:
        limit = f", limited to {size(facts.memory_limit)}" if facts.memory_limit else ""
        free = "" if facts.memory_free is None else f", {size(facts.memory_free)} free"
        swap = "" if facts.swap is None else f"; swap {size(facts.swap)}" if facts.swap else "; no swap"
        page.row("memory", f"{size(facts.memory)}{limit}{free}{swap}")
    page.row("disk", "; ".join(f"{disk.path}: {size(disk.free)} free" for disk in disks.values()))


def _devices() -> dict[str, str]:
    """The accelerators that PyTorch can use."""
    import torch

    found: dict[str, str] = {}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["cuda"] = f"{properties.name}, {size(properties.total_memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = f"Apple GPU (MPS), {platform.processor()}"
    return found


def _training() -> Training:
    """What `train` would take, as `api.machine` decides it, and its speed by steps of each preset's layers."""
    from glassgpt.api.code import BUILT_IN
    from glassgpt.api.machine import on_this_machine
    from glassgpt.config import GPTConfig, OptimConfig, RunConfig, preset
    from glassgpt.planning.memory import training_memory
    from glassgpt.planning.parameters import total_parameters
    from glassgpt.training.probe import PROBED, machine_speed, speed_of

    used = on_this_machine(RunConfig(), PROBED, BUILT_IN)
    presets = []
    optim = OptimConfig(name="muon", batch_size=SEQUENCES)
    for name, vocab_size in PRESETS:
        model = GPTConfig.from_dict(preset(name) | {"vocab_size": vocab_size})
        run = on_this_machine(RunConfig(), model, BUILT_IN)
        tokens = optim.batch_size * model.context_length
        presets.append(
            {
                "preset": name,
                "vocab_size": vocab_size,
                "parameters": total_parameters(model),
                "tokens_per_s": tokens / speed_of(model, run).step_seconds(model, optim),
                "memory_bytes": training_memory(model, optim, run)["total"],
            }
        )
    novel = _novel(machine_speed(used))
    return Training(used.device, used.kernel, used.dtype, used.linear, used.threads, _why(used), novel, presets)


def _novel(speed: "Speed") -> list[dict[str, Any]]:
    """What `train --minutes` would choose for a megabyte of prose, and the score that it foresees."""
    from glassgpt.planning.choose import TextFacts, choose
    from glassgpt.planning.difficulty import Difficulty

    n = 1_000_000
    difficulty = Difficulty(ngram=1.73, deflated=2.95)  # Pride and Prejudice has these
    facts = TextFacts(characters=n, bytes=n, distinct=80, repetition=0.57, difficulty=difficulty)
    choices = {minutes: choose(facts, speed, 60 * minutes) for minutes in NOVEL_MINUTES}
    return [
        {
            "minutes": minutes,
            "n_layers": choice.model["n_layers"],
            "embedding_dim": choice.model["embedding_dim"],
            "tokens": choice.steps * choice.tokens_per_step,
            "bits_per_byte": choice.bits_per_byte,
        }
        for minutes, choice in choices.items()
    ]


def _decoding(threads: int) -> Decoding:
    from glassgpt.api.native import read_speed
    from glassgpt.native.compiled import tier

    return Decoding(tier() is not None, tier(), read_speed(threads) if tier() else None)


def _how_it_writes(decoding: Decoding, threads: int) -> str:
    if decoding.read_bytes_per_s is None:
        return f"with PyTorch: the native decoder is not there, which is faster; {COMPILER}"
    rate = f"{decoding.read_bytes_per_s / 1e9:.0f} GB/s with {number(threads, 'thread')}"
    return f"with the native decoder, by {decoding.instructions} instructions; it reads weights at {rate}"


def _yes(works: bool) -> str:
    return "yes" if works else "no"


def _why(used: Any) -> str:
    from glassgpt.api.machine import NATIVE_PARAMETERS
    from glassgpt.native.compiled import has_bf16, tier

    if used.device != "cpu":
        return f"PyTorch finds {used.device.upper()}, which is faster than a processor"
    if (instructions := tier()) is None:
        return (
            f"the native step is not there, which is several times faster for small models: {COMPILER}"
        )
    arithmetic = "which multiply bf16" if has_bf16() else "which have no products of bf16"
    small = f"up to {count(NATIVE_PARAMETERS)} parameters"
    return f"the native code is there and has {instructions} instructions, {arithmetic}; for models of {small}"


def _by(training: Training) -> str:
    if training.kernel == "native":
        return "the native step"
    return "PyTorch's step" + (" with oneDNN's products" if training.linear == "onednn" else "")


def _show_presets(page: Page, training: Training, facts: MachineFacts) -> None:
    there = facts.memory_limit or facts.memory or math.inf
    page.line("\n  A novel of 1 MB, prose like Jane Austen's")
    for row in training.novel:
        page.line(
            f"  {row['minutes']:>3} minutes: {row['n_layers']} layers, {row['embedding_dim']} wide, reading "
            f"{count(row['tokens'])} tokens: about {row['bits_per_byte']:.2f} bits per byte"
        )
    page.line("\n  What this means    parameters    tokens/s    an hour of training    memory")
    for row in training.presets:
        page.line(
            f"  {row['preset']:<18}{count(row['parameters']):>11}{count(row['tokens_per_s']):>12}"
            f"{count(3600 * row['tokens_per_s']) + ' tokens':>23}{size(row['memory_bytes']):>10}"
            + (" *" if row["memory_bytes"] > there else "")
        )
    page.line(f"  ({SEQUENCES} sequences at a time)")
    if any(row["memory_bytes"] > there for row in training.presets):
        page.line("  * more than there is: with --run.max-memory fewer sequences are computed at a time")
    page.line()


def _warnings(facts: MachineFacts, disks: dict[str, Disk], speeds: Speeds) -> Iterator[str]:
    """What may go wrong here, and what to do."""
    for name, disk in disks.items():
        if disk.free < LEAST_DISK:
            instead = "--out" if name == "runs" else "--data.cache"
            yield f"only {size(disk.free)} of disk are free for {disk.path}: make room, or name another with {instead}"
    if facts.memory_free is not None and facts.memory_free < LEAST_MEMORY:
        yield f"only {size(facts.memory_free)} of memory are free: close other programs, or give --run.max-memory"
    if facts.memory_limit is not None:
        yield (
            f"this container may take {size(facts.memory_limit)} of the machine's {size(facts.memory or 0)}, and is "
            f"killed beyond: give --run.max-memory {0.8 * facts.memory_limit / 1e9:.1f}GB"
        )
    if facts.cpu_limit and facts.cpu_limit < facts.usable_cores:
        threads = max(1, int(facts.cpu_limit))
        yield (
            f"this container gets the time of {facts.cpu_limit:g} cores, but sees {facts.usable_cores}: give "
            f"--run.threads {threads}, or its threads wait for each other"
        )
    if facts.usable_cores == 1:
        yield "one core only: training takes twice the time or more of any other machine"
    if facts.load is not None and facts.load > BUSY:
        busy = f"{facts.load:.1f} programs wanted a core in the last minute"
        yield f"{busy}: what is measured beside others' work is too low"
    if speeds.saving is None:
        yield "nothing can be written in this folder: go to another one, or name one with --out"
    elif speeds.saving.bytes_per_s < SLOW_DISK:
        yield f"this disk takes {size(speeds.saving.bytes_per_s)} a second: saving will hold up training; see --out"
    if facts.swap_used and facts.memory and facts.swap_used > 0.1 * facts.memory:
        yield f"{size(facts.swap_used)} are swapped out: training would crawl if it swapped too; close other programs"


def _terminal() -> str:
    """What this terminal can show."""
    console = Console()
    if not sys.stdout.isatty():
        return "output goes to a pipe or a file: plain lines"
    colours = "no colours (NO_COLOR)" if console.no_color else f"{console.color_system or 'no'} colours"
    live = "plain lines (TERM=dumb)" if console.is_dumb_terminal else "live view"
    return f"{console.width} x {console.height}, {colours}, {console.encoding}, {live}"
