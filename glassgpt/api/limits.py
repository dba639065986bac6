"""Training stays inside the memory that the user states, and inside the machine's."""

import dataclasses
from collections.abc import Callable

from glassgpt.api.code import Code
from glassgpt.config import RunConfig, Settings, parse_bytes
from glassgpt.planning.fit import inside, least, what_fits
from glassgpt.planning.memory import INTERPRETER, training_memory
from glassgpt.settings import InputError
from glassgpt.training.machine_facts import usable_memory
from glassgpt.training.metrics import resident_bytes

COARSE = 2**26
"""What the process holds already is counted in steps of this many bytes, so that two runs with equal settings agree."""


SAFE = 0.9
"""Share of a machine's memory that advice may fill."""


def within_memory(chosen: Settings, run: RunConfig, code: Code, in_torch: Callable[[], RunConfig]) -> Settings:
    """`chosen` with the settled `run`, and with what keeps training inside run.max_memory.

    `in_torch` is `run` as it is where PyTorch computes the step. Raises InputError where nothing fits.
    """
    for name, value in (("max_memory", run.max_memory), ("recompute", run.recompute)):
        if value and code.make_model is not None:
            raise InputError(
                f"run.{name} is {value}, but it knows the built-in model alone and this one is your own: leave it out"
            )
    if run.max_memory is None:
        return dataclasses.replace(chosen, run=dataclasses.replace(run, recompute=bool(run.recompute)))
    if run.device != "cpu":
        raise InputError(
            f"run.max_memory is {run.max_memory}, but it limits the memory of the CPU and the device is {run.device}: "
            "leave it out, or give --run.device cpu"
        )
    limit, model, optim = parse_bytes(run.max_memory, "run.max_memory"), chosen.model, chosen.optim
    there = max(INTERPRETER, -(-resident_bytes() // COARSE) * COARSE)
    found = inside(model, optim, run, limit, there)
    if found is None and run.kernel == "native" and chosen.run.kernel == "auto":
        run = in_torch()
        found = inside(model, optim, run, limit, there)
    if found is None:
        raise InputError(
            f"run.max_memory is {run.max_memory}, but training this model takes "
            f"{least(model, optim, run, there) / 1e9:.2f} GB at the least: give that, or take a smaller model, a "
            "smaller vocabulary or a shorter --model.context-length"
        )
    return dataclasses.replace(chosen, optim=found[0], run=found[1])


def memory_note(chosen: Settings) -> list[str]:
    """What a stated limit led to, for the header."""
    if chosen.run.max_memory is None:
        return []
    done = ["activations are computed twice"] * bool(chosen.run.recompute)
    if chosen.optim.accumulation > 1:
        done.append(f"a batch in {chosen.optim.accumulation} parts")
    return [f"to stay inside {chosen.run.max_memory}: {', '.join(done)}"] if done else []


def refuse_what_memory_cannot_hold(chosen: Settings) -> None:
    """Raises InputError, which says what would fit, for a model whose training this machine cannot hold."""
    model, optim, run, there = chosen.model, chosen.optim, chosen.run, usable_memory()
    needed = training_memory(model, optim, run)["total"]
    if run.device != "cpu" or there is None or needed <= there:
        return
    has = f"training this model needs {needed / 1e9:,.1f} GB of memory, this machine has {there / 1e9:.1f} GB"
    raise InputError(f"{has}: {what_fits(model, optim, run, int(SAFE * there))}")
