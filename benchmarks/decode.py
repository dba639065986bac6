"""Generation, ours and our peers', with the same random weights: speed, first token, memory.

    python benchmarks/decode.py --cases decode first --rounds 5

On a machine where others work as well: `sudo nice -n -20 python benchmarks/decode.py`.

Each contender is a process of its own that waits while the others have their turn (A B C, C B A, ...), with the same
number of threads, bound to the same cores. All write greedily. A turn in which other programs used the processor is
repeated, at most `--tries` times in all, and the least disturbed one counts. Beside them, the speed of plain reading
is measured over as many bytes as a contender reads for a token.

llama.cpp runs without flash attention, which is slower here; its files are quantised by its own tool. LitGPT opens no
GPT-2: it runs a model of the same shape. A contender that is not installed is left out, and the output says so.
"""

import argparse
import importlib.util
import os
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import history
from decoders.__main__ import FORMS, PACKAGES
from decoders.contender import Contender, Turn, command_turn, fresh_turn
from decoders.weights import SHAPES, model_file


@dataclass(frozen=True)
class Case:
    """What is written in a turn, and what counts."""

    prompt: int
    """Tokens in a prompt."""
    n_new: int
    unit: str = "tokens/s"
    """Of the new tokens; of the prompt's where n_new is 1."""
    prompts: int = 1
    times: int = 1
    shape: str = "124m"
    fresh: bool = False
    """Each turn is a new process, whose start counts."""
    temperature: float = 0
    only: tuple[str, ...] = ()
    """The contenders that take part; empty: all but `DRAFTS`."""
    reading: bool = False
    """Whether to compare with plain reading of the weights."""
    commands: bool = False
    """Whether `COMMANDS` take part as well."""

    def request(self) -> dict[str, Any]:
        """What a contender is told to do in a turn."""
        random.seed(0)
        vocab_size = SHAPES[self.shape]["vocab_size"]
        prompts = [[random.randrange(vocab_size) for _ in range(self.prompt)] for _ in range(self.prompts)]
        request = {"prompts": prompts, "n_new": self.n_new, "times": self.times}
        return request | ({"temperature": self.temperature} if self.temperature else {})

    def value(self, turn: Turn) -> float:
        if self.unit == "MB":
            return turn.answer["peak_bytes"] / 1e6
        if self.unit == "tokens/s":
            return self.prompts * (self.prompt if self.n_new == 1 else self.n_new) / turn.seconds
        return turn.seconds * (1000 if self.unit == "ms" else 1)


DRAFTS = ("glassgpt-int8-drafts",)
"""Contenders for the cases about drafts alone."""
CASES = {
    "decode": Case(32, 256, reading=True),
    "first": Case(32, 1, "ms", times=8),
    "prefill": Case(512, 1, times=2),
    "batch": Case(32, 128, prompts=16),
    "tiny": Case(8, 56, times=8, shape="tiny", only=("glassgpt-fp32", "glassgpt-torch", "transformers")),
    "fresh": Case(32, 1, "s", fresh=True, commands=True),
    "memory": Case(32, 256, "MB", fresh=True),
    "repeats": Case(32, 256, only=("glassgpt-int8", *DRAFTS)),
    "differs": Case(32, 256, temperature=1, only=("glassgpt-int8", *DRAFTS)),
}
"""The last two are for drafts: greedy text of random weights repeats itself, text drawn from them does not."""
BEST = "best peer"
GOALS = {
    "decode": [
        ("glassgpt-int8", "llamacpp-q8_0", 2.2),
        ("glassgpt-int4", "llamacpp-q4_0", 2.2),
        ("glassgpt-fp32", "transformers", 1.4),
        ("glassgpt-bf16", "llamacpp-f16", 1.6),
    ],
    "first": [("glassgpt-int8", BEST, 0.6)],
    "prefill": [("glassgpt-int8", BEST, 1.3)],
    "batch": [("glassgpt-int8", "torch-int8", 1.5)],
    "tiny": [("glassgpt-fp32", "glassgpt-torch", 10.0)],
    "repeats": [("glassgpt-int8-drafts", "glassgpt-int8", 1.6)],
    "differs": [("glassgpt-int8-drafts", "glassgpt-int8", 0.97)],
}
"""Case -> ours, whom it is compared with, and the ratio that is aimed at (at most that of ms, s and MB)."""
COMMANDS = {
    "import torch": ("-c", "import torch"),
    "glassgpt generate": ("-m", "glassgpt", "generate", "--max-new-tokens", "1", "--prompt", "Once upon a time"),
}
"""What runs as a program of its own among the fresh processes, from its start to its end; the model follows."""
DISTURBED = 0.1
"""Cores that others may use in a turn."""
MODELS = Path.home() / ".cache" / "glassgpt" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, help="instead of 256 in decode, 128 in batch")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder for the models that are made")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # what is started from here inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    names = [name for name in arguments.contenders if installed(name)]
    figures: dict[str, Any] = {"rounds": arguments.rounds, "threads": arguments.threads}
    for case_name in arguments.cases:
        figures[case_name] = found = measure(case_name, names, arguments)
        show(case_name, found)
    history.append("decode", figures)


def installed(name: str) -> bool:
    package = PACKAGES[name.partition("-")[0]]
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{name}: not installed ({package})")
    return found


def measure(case_name: str, names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of a case: of each contender, and the ratios that are aimed at."""
    case = CASES[case_name]
    case = replace(case, n_new=min(arguments.new_tokens or case.n_new, case.n_new))
    names = [name for name in names if (name in case.only if case.only else name not in DRAFTS)]
    if not names:
        return {"ratios": {}}
    paths = {name: model_file(arguments.models, case.shape, FORMS[name]) for name in names}
    contenders = [] if case.fresh else [Contender(name, paths[name], arguments.threads) for name in names]
    turns: dict[str, Callable[[], Turn]]
    if case.fresh:
        turns = {name: partial(fresh_turn, name, paths[name], arguments.threads, **case.request()) for name in names}
    else:
        turns = {contender.name: partial(contender.turn, **case.request()) for contender in contenders}
    if case.commands:
        int8 = model_file(arguments.models, case.shape, "int8")
        turns |= {name: partial(command_turn, [*words, str(int8)]) for name, words in COMMANDS.items()}
    for contender in contenders:
        contender.ask(**case.request() | {"n_new": min(8, case.n_new), "times": 2})  # warm up

    reading = Contender("reading", Path(), arguments.threads)
    taken: dict[str, list[Turn]] = {name: [] for name in turns}
    speeds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(arguments.rounds):
        for name in turns if number % 2 == 0 else reversed(turns):
            taken[name].append(least_disturbed(turns[name], arguments.tries))
            if case.reading:
                speeds[name].append(reading.ask(n_bytes=taken[name][-1].answer["bytes_per_token"]))
    for contender in [*contenders, reading]:
        contender.end()
    return figures_of(case, taken, speeds) | {"ratios": ratios(case_name, case, taken)}


def least_disturbed(turn: Callable[[], Turn], tries: int) -> Turn:
    taken = [turn()]
    while taken[-1].others > DISTURBED and len(taken) < tries:
        taken.append(turn())
    return min(taken, key=lambda turn: turn.others)


def figures_of(case: Case, taken: dict[str, list[Turn]], speeds: dict[str, list[float]]) -> dict[str, Any]:
    """`share_of_reading`: bytes read for tokens a second, by those of plain reading; `same_tokens`: as transformers."""
    reference = taken.get("transformers", next(iter(taken.values())))[0].answer["ids"]
    figures: dict[str, Any] = {}
    for name, turns in taken.items():
        answer = turns[0].answer
        values = [case.value(turn) for turn in turns]
        figures[name] = figure = {case.unit: spread(values)}
        if case.reading:
            n_bytes = answer["bytes_per_token"]
            figure["mb_per_token"] = round(n_bytes / 1e6, 1)
            figure["reading_gb_per_s"] = spread([speed / 1e9 for speed in speeds[name]])
            figure["share_of_reading"] = spread([n_bytes * ours / plain for ours, plain in zip(values, speeds[name])])
            figure["same_tokens"] = sum(n_same(*pair) for pair in zip(answer["ids"], reference))
        figure["others"] = round(statistics.median(turn.others for turn in turns), 2)
    return figures


def ratios(case_name: str, case: Case, taken: dict[str, list[Turn]]) -> dict[str, Any]:
    """Ours by theirs, in the same round, for each goal whose two contenders took part."""
    values = {name: [case.value(turn) for turn in turns] for name, turns in taken.items()}
    best = max if case.unit == "tokens/s" else min
    peers = [name for name in values if name in FORMS and not name.startswith("glassgpt")]
    found = {}
    for ours, theirs, goal in GOALS.get(case_name, []):
        if theirs == BEST and peers:
            theirs = best(peers, key=lambda name: statistics.median(values[name]))
        if ours in values and theirs in values:
            pairs = zip(values[ours], values[theirs])
            found[f"{ours} / {theirs}"] = spread([one / other for one, other in pairs]) | {"goal": goal}
    return found


def n_same(one: list[int], other: list[int]) -> int:
    """How many tokens are the same before the first that differs."""
    differing = (place for place, (left, right) in enumerate(zip(one, other)) if left != right)
    return next(differing, min(len(one), len(other)))


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def show(case_name: str, figures: dict[str, Any]) -> None:
    case = CASES[case_name]
    reads = f"{'MB/token':>10}{'of reading':>12}{'same':>6}" if case.reading else ""
    print(f"\n{case_name:22}{case.unit:>10}{'min':>9}{'max':>9}{'others':>8}{reads}")
    for name, figure in figures.items():
        if name == "ratios":
            continue
        value = figure[case.unit]
        line = f"  {name:20}{value['median']:10.4g}{value['min']:9.4g}{value['max']:9.4g}{figure['others']:8.2f}"
        if case.reading:
            share = figure["share_of_reading"]["median"]
            line += f"{figure['mb_per_token']:10.1f}{share:12.0%}{figure['same_tokens']:6}"
        print(line)
    for pair, ratio in figures["ratios"].items():
        print(f"  {pair}: {ratio['median']:.3g} ({ratio['min']:.3g} to {ratio['max']:.3g}), goal {ratio['goal']}")


if __name__ == "__main__":
    main()
