"""However often a run stops, dies and goes on, on however many processes: its weights learn the same tokens in order.

Checked twice: by arithmetic alone, many times, and with real training whose model notes what it is given.
"""

import contextlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import glassgpt
from glassgpt.api.train import Silent
from glassgpt.data.batches import Batches
from glassgpt.model import GPTModel
from glassgpt.text.stories import write_stories
from glassgpt.training.interruption import Interrupted
from glassgpt.training.metrics import Metrics

IDS = np.arange(1000)
LENGTH, BATCH = 16, 8
WORLDS = (1, 2, 4)


@dataclass(frozen=True)
class Stop:
    """The end of one start of a run."""

    after: int
    """Steps that this start takes."""
    dies: bool
    """Without a save; else everything is saved first."""
    world_size: int
    """Processes that share each batch from here to the next stop."""


stops = st.lists(
    st.builds(Stop, after=st.integers(0, 12), dies=st.booleans(), world_size=st.sampled_from(WORLDS)), max_size=4
)


def lesson(batches: Batches, step: int, world_size: int) -> list[int]:
    """What all processes together learn from in a step: inputs and targets, row after row."""
    parts = [batches.part(step, rank, world_size) for rank in range(world_size)]
    return [number for tensors in zip(*parts, strict=True) for number in torch.cat(tensors).flatten().tolist()]


def learned(stops: list[Stop], total: int, save_every: int, step_of: Callable[[int, int], int], seed: int) -> list[Any]:
    """The steps' lessons that are in the weights at the end of a run with these stops.

    `step_of` says which step's batch is taken, from the step and the step that this start began with.
    """
    lessons: list[list[int]] = []
    for stop in [*stops, Stop(total, False, 1)]:
        first = len(lessons)
        for step in range(first, min(total, first + stop.after)):
            lessons.append(lesson(Batches(IDS, LENGTH, BATCH, seed), step_of(step, first), stop.world_size))
        if stop.dies:  # back to what was saved last
            del lessons[max(first, len(lessons) - len(lessons) % save_every) :]
    return lessons


def the_step(step: int, first: int) -> int:
    return step


def position_in_memory(step: int, first: int) -> int:
    """A loader that begins anew with the process."""
    return step - first


def count_differing(step_of: Callable[[int, int], int], n: int) -> tuple[int, int]:
    """Of up to `n` runs with stops: how many there were, and how many learned something else."""
    found: list[bool] = []

    @settings(max_examples=n, deadline=None, database=None, phases=[Phase.generate])
    @given(stops=stops, save_every=st.integers(1, 5), seed=st.integers(0, 2**63 - 1))
    def once(stops: list[Stop], save_every: int, seed: int) -> None:
        whole = [lesson(Batches(IDS, LENGTH, BATCH, seed), step, 1) for step in range(12)]
        found.append(learned(stops, 12, save_every, step_of, seed) != whole)

    once()
    return len(found), sum(found)


@pytest.mark.thorough
def test_by_arithmetic_no_stop_loses_or_repeats_a_token(amount: Callable[[int, int], int], tally: Any) -> None:
    trials, failures = count_differing(the_step, amount(60, 2000))
    controls, bad = count_differing(position_in_memory, amount(20, 200))
    tally(
        "R6", "stops and resumes on 1, 2 or 4 processes, by arithmetic", trials, failures,
        control=f"the position kept in memory: {bad} of {controls} differ",
    )  # fmt: skip
    assert failures == 0
    assert bad > 0


class Noting(GPTModel):
    """A model that notes what it is trained on."""

    given: Tensor | None = None

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        if self.training:
            type(self).given = ids.clone()
        return super().hidden(ids, cache)


class Died(Exception):
    """As a killed process does: nothing more is saved."""


class Watching(Silent):
    """Keeps the inputs of each step, and ends a start where it should."""

    def __init__(self, lessons: list[list[int]], stop: Stop) -> None:
        self.lessons, self.stop, self.n_steps = lessons, stop, 0

    def stepped(self, metrics: Metrics) -> None:
        assert Noting.given is not None
        del self.lessons[metrics.step - 1 :]  # steps that a death undid
        assert len(self.lessons) == metrics.step - 1, "a step is left out"
        self.lessons.append(Noting.given.flatten().tolist())
        self.n_steps += 1
        if self.n_steps == self.stop.after and self.stop.dies:
            raise Died
        if self.n_steps == self.stop.after or metrics.step == TOTAL:  # not evaluated at its end, which takes longest
            signal.raise_signal(signal.SIGTERM)


TOTAL = 8
SETTINGS = """
model: {n_layers: 1, embedding_dim: 4, n_heads: 1, context_length: 8}
optim: {name: adamw, batch_size: 4}
run: {threads: 1, dtype: fp32, steps: 8, eval_every: 8, save_every: 2}
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "tiny.yaml").write_text(SETTINGS)
    (folder / "tales.txt").write_text("\n".join(write_stories(10, seed=4)), encoding="utf-8")
    return folder / "tales.txt"


def trained(text: Path, run: Path, stops: list[Stop]) -> tuple[list[list[int]], bytes]:
    """What a run with these stops was given at each step, and the weights that came of it."""
    lessons: list[list[int]] = []
    for stop in [*stops, Stop(TOTAL, False, 1)]:
        new: dict[str, Any] = {
            "text": text, "out": run, "tokenizer": "bytes", "config": text.with_name("tiny.yaml"),
            "data": {"cache": str(text.parent / "cache")},
        }  # fmt: skip
        chosen = {"resume": run} if (run / "run.json").exists() else new
        if not (run / "run.json").exists():
            shutil.rmtree(run, ignore_errors=True)  # it died before its first save
        with contextlib.suppress(Died, Interrupted):
            glassgpt.train(**chosen, model=Noting, listener=Watching(lessons, stop))
        if (run / f"step-{TOTAL:08}").exists():
            break
    return lessons, (run / f"step-{TOTAL:08}" / "model.safetensors").read_bytes()


@pytest.mark.thorough
def test_in_real_training_no_stop_loses_or_repeats_a_token(
    text: Path, tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    whole = trained(text, tmp_path / "whole", [])
    assert len(whole[0]) == TOTAL

    def differ(n: int) -> int:
        """How many of `n` runs with stops learned something else, or ended with other weights."""
        found: list[bool] = []

        @settings(max_examples=n, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
        @given(stops=st.lists(real_stops, min_size=1, max_size=4))
        def once(stops: list[Stop]) -> None:
            found.append(trained(text, tmp_path / str(n) / str(len(found)), stops) != whole)

        once()
        return sum(found)

    trials, controls = amount(5, 60), amount(2, 10)
    failures = differ(trials)
    with pytest.MonkeyPatch.context() as patch:
        begins_anew(patch)
        bad = differ(controls)
    tally(
        "R6", "stops and resumes of real training: inputs of every step, and final weights", trials, failures,
        control=f"the position kept in memory: {bad} of {controls} differ",
    )  # fmt: skip
    assert failures == 0
    assert bad > 0


real_stops = st.builds(Stop, after=st.integers(1, 4), dies=st.booleans(), world_size=st.just(1))


def begins_anew(patch: pytest.MonkeyPatch) -> None:
    """Batches that count by themselves which comes next, as a loader with its position in memory does."""
    real = Batches.part

    def part(self: Batches, step: int, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
        position = self.__dict__.get("position", 0)
        self.__dict__["position"] = position + 1
        return real(self, position, rank, world_size)

    patch.setattr(Batches, "part", part)
