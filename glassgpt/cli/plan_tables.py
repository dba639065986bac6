"""What `plan` prints: tables with bars."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glassgpt.cli.words import count, duration, moment, number, size, wrapped
from glassgpt.config import GPTConfig, OptimConfig, RunConfig

if TYPE_CHECKING:
    from glassgpt.api.pace import Pace
    from glassgpt.planning.plan import Plan

BAR = 24
"""Columns of a bar that stands for everything."""


def print_plan(
    name: str, about: str, config: GPTConfig, optim: OptimConfig, run: RunConfig, result: "Plan", clauses: Sequence[str]
) -> None:
    """What the config alone says. The `clauses` tell what follows from the memory to train."""
    total = sum(result.parameters.values())
    shape = f"{number(config.n_layers, 'layer')}, {config.embedding_dim} wide, {number(config.n_heads, 'head')}"
    print(f"{name}: {config.architecture}, {shape}")
    for line in about.splitlines():
        print("\n".join(wrapped(line, shutil.get_terminal_size().columns, "  ")))
    print(f"\nParameters {total:>28,}")
    for component, n in result.parameters.items():
        print(f"  {component.replace('_', ' '):<22}{n:>15,}  {n / total:>6.1%}  {_bar(n / total)}")
    print("\nStorage of the weights")
    for precision, n_bytes in result.bytes.items():
        share = n_bytes / result.bytes["fp32"]
        print(f"  {precision:<22}{n_bytes / 2**20:>12,.2f} MB  {share:>6.1%}  {_bar(share)}")
    print(f"  {'checkpoint to resume':<22}{result.checkpoint_bytes / 2**20:>12,.2f} MB")
    memory = result.training_memory
    how = f"{'bf16' if run.dtype == 'bf16' else 'fp32'}, {optim.name}"
    batch = f"{optim.batch_size // optim.accumulation} x {config.context_length} tokens at a time, {how}"
    print(f"\nMemory to train ({batch}), at its peak {size(memory['total'])}")
    for part, n_bytes in memory.items():
        if part != "total":
            share = n_bytes / memory["total"]
            label = "holes between them" if part == "holes" else part
            print(f"  {label:<22}{size(n_bytes):>15}  {share:>6.1%}  {_bar(share)}")
    for line in clauses:
        print_line(line)
    flops = result.flops_per_token
    print("\nA token")
    print(f"  {'forward':<22}{count(flops['forward']):>15} FLOP")
    print(f"  {'backward':<22}{count(flops['backward']):>15} FLOP")
    print(f"  {'in the cache':<22}{size(result.cache_bytes_per_token):>15}")
    optimal = result.compute_optimal
    print("\nCompute-optimal training (Hoffmann et al. 2022: about 20 tokens a parameter, embeddings counted)")
    print(f"  {'tokens':<22}{count(optimal.tokens):>15}")
    print(f"  {'arithmetic':<22}{f'{optimal.flops:.2e}'.replace('e+', 'e'):>15} FLOP")


def print_line(line: str) -> None:
    """A line below a table, broken between words."""
    print("\n".join(textwrap.wrap(line, 78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)))


def fit(config: GPTConfig, optim: OptimConfig, run: RunConfig, needed: int) -> tuple[list[str], list[str] | None]:
    """Whether training fits into this machine, in no line or one; and the flags that make it, None where none do."""
    from glassgpt.planning.fit import flags_that_fit, what_fits
    from glassgpt.training.machine_facts import memory_free, usable_memory

    there, free = usable_memory(), memory_free()
    if there is None or run.device not in ("auto", "cpu"):
        return [], []
    if needed > there:
        limit = int(0.9 * there)
        advice = what_fits(config, optim, run, limit)
        line = f"does not fit into the {size(there)} of this machine: {advice}"
        return [line], flags_that_fit(config, optim, run, limit)
    if free is not None and needed > free:
        return [f"fits into the {size(there)} of this machine, but only {size(free)} are free now"], []
    return [f"fits into the {size(there)} of this machine"], []


def print_gpus(result: "Plan") -> None:
    """What training should take on GPUs."""
    from glassgpt.planning.gpus import LAUNCH_SECONDS, UTILISATION

    print(f"\nOn one GPU, computed: 16 bits, at {UTILISATION:.0%} of the peak in its data sheet (as nanoGPT trains")
    print(f"GPT-2 124M on an H100), but {LAUNCH_SECONDS * 1e6:.0f} microseconds at least for each call of a kernel")
    print(f"  {'':<11}{'memory':>8}{'needed':>9}{'tokens/s':>11}{'1 M tokens':>13}{'compute-optimal':>17}")
    for found in result.gpus:
        gpu, memory = found.gpu, size(found.training_memory_bytes)
        row = f"  {gpu.name:<11}{size(gpu.memory_bytes):>8}{memory:>9}"
        if found.fits:
            row += f"{count(found.tokens_per_s):>11}{duration(found.seconds_per_million_tokens):>13}"
            row += f"{duration(found.seconds_compute_optimal):>17}"
        print(row if found.fits else row + "   does not fit")
    if any(found.fits and found.by_calls for found in result.gpus):
        print("  Calls of kernels take longer here than arithmetic on some of them: a larger batch would be faster.")


def print_pace(pace: "Pace", optim: OptimConfig, config: GPTConfig, result: "Plan", clauses: Sequence[str]) -> None:
    """What this machine was measured to do. The `clauses` tell what follows from the memory it takes."""
    how = "measured by" if pace.measured else "computed from"
    threads = f", {number(pace.threads, 'thread')}" if pace.device == "cpu" else ""
    kernel = ", native step" if pace.kernel == "native" else ""
    print(f"\nOn this machine ({pace.device}, {pace.dtype}{threads}{kernel})")
    print(f"  {how} {pace.how}")
    if pace.load is not None and pace.load > 1.5 * pace.threads:
        print(f"  other work keeps this machine busy (load {pace.load:.1f}): without it, it is faster")
    step = f"{optim.batch_size} x {config.context_length} tokens"
    print(f"  {'a step of ' + step:<32}{moment(pace.step_seconds):>15}")
    print(f"  {'tokens a second':<32}{count(pace.tokens_per_s):>15}")
    print(f"  {'1 M tokens':<32}{duration(pace.seconds_per_million_tokens):>15}")
    tokens = f"compute-optimal, {count(result.compute_optimal.tokens)}"
    print(f"  {tokens:<32}{duration(pace.seconds_compute_optimal):>15}")
    print(f"  {'memory that `train` takes here':<32}{size(pace.training_memory_bytes):>15}")
    for line in clauses:
        print_line(line)


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
