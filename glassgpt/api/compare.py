"""compare(): two or more settings trained in turn with the same seeds, and whether they differ.

A run of every variant a seed, in the order A B, B A, A B, ...: a machine that gets slower or faster treats all alike.
With equal tokenizer, batch and context the runs of a seed see the same batches.
"""

import dataclasses
import json
import re
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from glassgpt import settings
from glassgpt.api.merge import merge, stored_settings
from glassgpt.api.train import Listener, Run, Silent, train
from glassgpt.checkpoint.run import new_run
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.config import OTHER_TOOLS, DataConfig, Settings
from glassgpt.evaluation.paired import FALSE_VERDICTS, INTERVAL, PairedDifference, paired_difference
from glassgpt.files.atomic import write_atomically
from glassgpt.settings import InputError
from glassgpt.training.interruption import Interrupted
from glassgpt.training.loop import TrainingFailed

ARGUMENTS = ("config", "preset", "tokenizer", "model", "optimizer", "data", "optim", "run")
"""Of `train`, that may make a variant."""
AT_THE_END = {"eval_every": 2**31, "save_every": 2**31}
"""Nothing on the way: the score is that of the last weights, not of the luckiest."""

Variants = Sequence[str | Path] | Mapping[str, str | Path | Mapping[str, Any]]
"""YAML files; or by name, a YAML file or arguments of `train`."""


@dataclass(frozen=True)
class Score:
    """One run."""

    seed: int
    bits_per_byte: float
    """Over all of the validation text."""
    seconds: float
    """Of the run, evaluation and saving included."""
    tokens: int
    tokens_per_s: float
    """Of its steps alone."""
    parameters: int


@dataclass(frozen=True)
class Variant:
    """What came of one of the settings."""

    name: str
    scores: list[Score]
    """By seed."""
    difference: PairedDifference | None
    """From the baseline, which itself has none; None where fewer than two pairs of runs are finished."""
    speed: float | None
    """Tokens a second in proportion to the baseline's, the median of the pairs."""
    failure: str | None = None
    """Why a run could not go on; the variant was left out from there."""

    @property
    def verdict(self) -> str:
        """better, worse, cannot tell; or failed."""
        return "failed" if self.failure else self.difference.verdict if self.difference else "cannot tell"

    def median(self, field: str) -> float:
        """The median of a field of the scores. Raises StatisticsError where there is none."""
        return statistics.median(getattr(score, field) for score in self.scores)

    @property
    def bits_per_byte(self) -> float | None:
        """The mean of the seeds."""
        return statistics.fmean(score.bits_per_byte for score in self.scores) if self.scores else None


@dataclass(frozen=True)
class Comparison:
    """Every variant beside the first, the baseline."""

    variants: list[Variant]
    seeds: list[int]
    directory: Path | None
    """Where the runs are kept, if they are."""
    interval: float = INTERVAL
    false_verdicts: float = FALSE_VERDICTS
    arithmetic: dict[str, Any] = field(default_factory=dict)
    """Settings of section run that all variants were given, so that the same code computes them."""

    def to_dict(self) -> dict[str, Any]:
        """What `glassgpt compare --json` prints and compare.json holds."""
        variants = []
        for number, variant in enumerate(self.variants):
            values = {"name": variant.name, "bits_per_byte": variant.bits_per_byte}
            if number:
                difference = asdict(variant.difference) if variant.difference else {}
                values |= difference | {"verdict": variant.verdict, "speed": variant.speed, "failure": variant.failure}
            variants.append(values | {"scores": [asdict(score) for score in variant.scores]})
        return {
            "seeds": self.seeds,
            "interval": self.interval,
            "false_verdicts": self.false_verdicts,
            "comparisons": len(self.variants) - 1,
            "directory": str(self.directory) if self.directory else None,
            "arithmetic": self.arithmetic,
            "variants": variants,
        }


class ComparisonStopped(Exception):
    """Ctrl-C or SIGTERM; `comparison` holds what was finished."""

    def __init__(self, comparison: Comparison) -> None:
        finished = sum(len(variant.scores) for variant in comparison.variants)
        super().__init__(f"stopped after {finished} of {len(comparison.variants) * len(comparison.seeds)} runs")
        self.comparison = comparison


class Watcher(Protocol):
    """Who watches a comparison."""

    def begins(self, name: str, seed: int, number: int, total: int) -> Listener:
        """Before run `number` (from 1) of `total`. Returns who watches the run."""
        ...

    def ended(self, name: str, score: Score) -> None:
        """After a run."""


class Unwatched:
    """A watcher that shows nothing."""

    def begins(self, name: str, seed: int, number: int, total: int) -> Listener:
        return Silent()

    def ended(self, name: str, score: Score) -> None: ...


def compare(
    variants: Variants,
    *,
    text: str | Path | Sequence[str | Path] = (),
    seeds: int | Sequence[int] = 5,
    steps: int | None = None,
    tokens: int | None = None,
    minutes: float | None = None,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
) -> Comparison:
    """Train every variant with every seed and say which are better or worse than the first, the baseline.

    `variants` are YAML files of settings, or a mapping of names to such files or to arguments of `train`:
    {"base": {}, "deeper": {"model": {"n_layers": 6}}}. `seeds` says how many (1, 2, ...) or which. Each run is as
    long as `steps`, `tokens` or `minutes` says, whatever its settings say. With `steps` and `tokens` only the last
    weights are evaluated; with `minutes` a run evaluates as its settings say, and its best checkpoint counts. `text`
    stands for the text that the files name. The runs are deleted unless `out` says where to keep them.

    Before the first run each variant takes one step, so that what cannot work is found at once and no run pays for
    what only the first one in a process has to do.

    Raises InputError for input that cannot be used, ComparisonStopped after Ctrl-C or SIGTERM, and TrainingFailed
    where the baseline cannot go on.
    """
    chosen = _named(variants)
    sources = _one_text(chosen, [str(path) for path in ([text] if isinstance(text, str | Path) else text)])
    numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    if len(set(numbers)) < max(2, len(numbers)):
        raise InputError(f"--seeds is {seeds}, but must be at least 2, all different: one pair of runs tells nothing")
    lengths = {"steps": steps, "tokens": tokens, "minutes": minutes}
    length = {name: value for name, value in lengths.items() if value is not None}
    if len(length) != 1:
        raise InputError("a comparison needs the length of its runs: give one of --steps, --tokens and --minutes")
    kept = new_run(str(out), "").path if out is not None else None
    found = _Found({name: [] for name in chosen}, {}, numbers, kept)
    with tempfile.TemporaryDirectory(prefix="glassgpt-compare-") as scratch:
        try:
            for name, arguments in chosen.items():
                only_start = _arguments(arguments, AT_THE_END, {"steps": 1})
                train(sources, **only_start, out=Path(scratch, "first", _slug(name)))
            shared = _shared_arithmetic(chosen, [Path(scratch, "first", _slug(name)) for name in chosen])
            found = dataclasses.replace(found, arithmetic=shared)
            at_the_end = shared if minutes is not None else AT_THE_END | shared
            arguments = {name: _arguments(chosen[name], at_the_end, length) for name in chosen}
            _train_all(found, sources, arguments, kept or Path(scratch), watcher or Unwatched())
        except (Interrupted, KeyboardInterrupt):
            raise ComparisonStopped(found.comparison()) from None
    return found.comparison()


@dataclass(frozen=True)
class _Found:
    """What is known so far."""

    scores: dict[str, list[Score]]
    """Of each variant, in the order of the seeds."""
    failures: dict[str, str]
    seeds: list[int]
    kept: Path | None
    arithmetic: dict[str, Any] = field(default_factory=dict)

    def comparison(self) -> Comparison:
        """What can be said of it, written to compare.json where the runs are kept."""
        baseline, *others = self.scores
        variants = [Variant(baseline, self.scores[baseline], None, None)]
        of_seed = {score.seed: score for score in self.scores[baseline]}
        for name in others:
            pairs = [(of_seed[score.seed], score) for score in self.scores[name] if score.seed in of_seed]
            difference = speed = None
            if len(pairs) >= 2:
                bits = [(old.bits_per_byte, new.bits_per_byte) for old, new in pairs]
                difference = paired_difference([a for a, _ in bits], [b for _, b in bits], len(others))
                speed = statistics.median(new.tokens_per_s / old.tokens_per_s for old, new in pairs)
            variants.append(Variant(name, self.scores[name], difference, speed, self.failures.get(name)))
        comparison = Comparison(variants, self.seeds, self.kept, arithmetic=self.arithmetic)
        if self.kept is not None:
            content = json.dumps(comparison.to_dict(), indent=2) + "\n"
            write_atomically(self.kept / "compare.json", content.encode())
        return comparison


def _train_all(
    found: _Found, sources: list[str], chosen: Mapping[str, Mapping[str, Any]], place: Path, watcher: Watcher
) -> None:
    """Every run, in turn. Raises TrainingFailed where the baseline's cannot go on."""
    order = list(chosen)
    plan = [(name, seed) for turn, seed in enumerate(found.seeds) for name in order[:: -1 if turn % 2 else 1]]
    for number, (name, seed) in enumerate(plan, 1):
        if name in found.failures:
            continue
        listener = watcher.begins(name, seed, number, len(plan))
        directory = place / f"{_slug(name)}-seed-{seed}"
        try:
            score = _score(train(sources, **chosen[name], seed=seed, out=directory, listener=listener), seed)
        except TrainingFailed as failure:
            if name == order[0]:
                raise
            found.failures[name] = f"seed {seed}: {failure}"
            continue
        found.scores[name].append(score)
        watcher.ended(name, score)
        if found.kept is None:
            shutil.rmtree(directory)


def _named(variants: Variants) -> dict[str, dict[str, Any]]:
    """Name -> arguments of `train`."""
    named: dict[str, dict[str, Any]] = {}
    if isinstance(variants, Mapping):
        named = {name: dict(v) if isinstance(v, Mapping) else {"config": v} for name, v in variants.items()}
    else:
        for path in [variants] if isinstance(variants, str | Path) else variants:
            name, n = Path(path).stem, 1
            while name in named:
                name, n = f"{Path(path).stem}-{n + 1}", n + 1
            named[name] = {"config": path}
    if len(named) < 2:
        given = ", ".join(named) or "none"
        raise InputError(f"a comparison needs two or more settings, given is {given}: add a YAML file or --with")
    for name, arguments in named.items():
        if unknown := [key for key in arguments if key not in ARGUMENTS]:
            raise InputError(f"{name} has {unknown[0]!r}, but a variant may have {', '.join(ARGUMENTS)}")
    return named


def _one_text(chosen: Mapping[str, Mapping[str, Any]], text: list[str]) -> list[str]:
    """What all variants are trained on. Checks their settings too. Raises InputError where texts or splits differ."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, arguments in chosen.items():
        config = arguments.get("config")
        sections = {part: arguments.get(part) or {} for part in ("model", "data", "optim", "run")}
        given: dict[str, dict[str, Any]] = {
            part: {} if callable(values) else dict(values) for part, values in sections.items()
        }
        try:
            stored = stored_settings(Path(config)) if config is not None else {}
            merged = merge(stored, arguments.get("preset"), given, repeated=False)
            Settings.from_dict(merged)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        data = settings.build(DataConfig, merged["data"], "data", OTHER_TOOLS)
        found[name] = (text or stored.get("text") or ["pydoc"], data.val_fraction, data.invalid_utf8)
    (first, basis), *others = found.items()
    for name, other in others:
        for what, a, b in zip(("text", "data.val_fraction", "data.invalid_utf8"), basis, other, strict=True):
            if a != b:
                raise InputError(f"{what} is {a} in {first} and {b} in {name}: only scores on one text compare")
    if "-" in basis[0]:
        raise InputError("standard input can be read once only, and a comparison reads it often: save it in a file")
    return basis[0]


def _shared_arithmetic(chosen: Mapping[str, Mapping[str, Any]], first_runs: Sequence[Path]) -> dict[str, Any]:
    """Settings of section run that let the same code compute every variant.

    The native step knows the built-in model alone. Beside a model of the user's own it would tell how fast C++ is, and
    in which arithmetic it computes. Empty where all have one already, and where the user chose.
    """
    runs = [read_settings(run).run for run in first_runs]
    is_given = any("kernel" in (arguments.get("run") or {}) for arguments in chosen.values())
    if is_given or len({run.kernel for run in runs}) == 1:
        return {}
    return {"kernel": "torch", "dtype": next(run.dtype for run in runs if run.kernel == "torch")}


def _arguments(arguments: Mapping[str, Any], run: Mapping[str, Any], length: Mapping[str, Any]) -> dict[str, Any]:
    return {**arguments, **length, "run": {**arguments.get("run", {}), **run}}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.=,+-]+", "-", name)


def _score(run: Run, seed: int) -> Score:
    before = [0, *(line.tokens for line in run.history)]
    stepping = sum((line.tokens - b) / line.tokens_per_s for line, b in zip(run.history, before, strict=False))
    measured = run.measured
    return Score(
        seed=seed,
        bits_per_byte=run.bits_per_byte,
        seconds=measured.seconds,
        tokens=measured.tokens,
        tokens_per_s=run.history[-1].tokens / stepping,
        parameters=measured.parameters,
    )
