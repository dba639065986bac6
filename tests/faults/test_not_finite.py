"""R7: a NaN, an infinity or a spike of the loss is caught before the update, and no checkpoint is ever non-finite."""

import json
import math
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import glassgpt
from glassgpt.api import record
from glassgpt.api.start import Start
from glassgpt.api.train import Costs, Silent
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.checkpoint.tensors import TensorFile
from glassgpt.native.compiled import library
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training import step as step_module
from glassgpt.training.interruption import Interrupted
from glassgpt.training.loop import Progress, Skipped, TrainingFailed
from glassgpt.training.metrics import Metrics
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.step import NextTokenLoss

STEPS = 12
SETTINGS: dict[str, Any] = {
    "tokenizer": "bytes",
    "model": {"embedding_dim": 16, "n_heads": 2, "n_layers": 1, "context_length": 16},
    "optim": {"batch_size": 4, "warmup": 2, "learning_rate": 3e-3},
    "data": {"cache": "cache"},
}
RUN = {"save_every": 1, "eval_every": 6, "log_every": 1, "threads": 1}
KERNELS = ("torch", "native") if library() else ("torch",)
VALUES = (math.nan, math.inf, -math.inf)


@dataclass
class Accident(Silent):
    """What goes wrong at which steps of a run; also its listener, which knows what step it is."""

    kind: str
    """loss, spike, gradient, weight or moment."""
    first: int = 0
    n: int = 1
    value: float = math.nan
    at: int = 0
    """Which of the model's parameters it is."""
    stops_at: int | None = None
    """Ctrl-C is pressed after this step."""
    step: int | None = None
    said: list[Skipped] = field(default_factory=list)
    bad_checkpoints: list[str] = field(default_factory=list)

    def happens(self, *kinds: str) -> bool:
        return self.kind in kinds and self.step is not None and self.first <= self.step + 1 < self.first + self.n

    def spoil(self, values: torch.Tensor) -> None:
        values.detach().view(-1)[-1] = self.value

    def chosen(self, model: torch.nn.Module) -> tuple[str, torch.nn.Parameter]:
        named = list(model.named_parameters())
        return named[self.at % len(named)]

    def planned(self, start: Start, costs: Costs, validated_tokens: int, elapsed: float) -> None:
        self.step = start.step

    def stepped(self, metrics: Metrics | Skipped) -> None:
        assert self.step is not None
        self.step += 1
        if self.step == self.stops_at:
            signal.raise_signal(signal.SIGINT)

    def skipped(self, skipped: Skipped) -> None:
        self.said.append(skipped)
        self.stepped(skipped)

    def saved(self, checkpoint: Path) -> None:
        files = (checkpoint / WEIGHTS, checkpoint / "trainer/state.safetensors")
        tensors = [(name, tensor) for file in files for name, tensor in TensorFile(file).items()]
        self.bad_checkpoints += [f"{checkpoint}: {name}" for name, tensor in tensors if not tensor.isfinite().all()]

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let it happen: in PyTorch's step or in the native one, or in the optimiser."""
        accident, forward, autograd = self, NextTokenLoss.forward, step_module._autograd
        native, update = NativeLoss.gradients_of, Optimizer.step

        def spoilt_forward(self: NextTokenLoss, ids: Any, targets: Any) -> torch.Tensor:
            if accident.happens("weight"):
                accident.spoil(accident.chosen(self.model)[1])
            loss = forward(self, ids, targets)
            return loss * (accident.value if accident.happens("loss") else 100 if accident.happens("spike") else 1)

        def spoilt_gradients(loss_of: Any, loss: float, norm: float) -> tuple[float, float]:
            if not accident.happens("gradient"):
                return loss, norm
            accident.spoil(accident.chosen(loss_of.model)[1].grad)
            return loss, float(torch.stack([p.grad.norm() for p in loss_of.model.parameters()]).norm())

        def spoilt_native(self: NativeLoss, ids: Any, targets: Any) -> tuple[float, float]:
            if accident.happens("weight"):
                accident.spoil(accident.chosen(self.model)[1])
            loss, norm = native(self, ids, targets)
            if accident.happens("loss", "spike"):
                factor = accident.value if accident.kind == "loss" else 100.0
                for gradient in self.gradients.values():
                    gradient.mul_(factor)
                return loss * factor, norm * abs(factor)
            return spoilt_gradients(self, loss, norm)

        def spoilt_update(self: Optimizer, learning_rate: float) -> None:
            update(self, learning_rate)
            if accident.happens("moment"):
                accident.spoil([tensor for tensor in self.tensors().values() if tensor.dim()][accident.at % 5])

        patch.setattr(NextTokenLoss, "forward", spoilt_forward)
        patch.setattr(step_module, "_autograd", lambda of, *more: spoilt_gradients(of, *autograd(of, *more)))
        patch.setattr(NativeLoss, "gradients_of", spoilt_native)
        patch.setattr(Optimizer, "step", spoilt_update)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story_file: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(story_file.read_text())


def outcome(accident: Accident, out: str, kernel: str = "torch") -> str:
    """Of a run with an accident, or of going on with it: its failure in words, "stopped" or "" for none."""
    with pytest.MonkeyPatch.context() as patch:
        accident.install(patch)
        try:
            if Path(out).exists():
                glassgpt.train(resume=out, listener=accident)
            else:
                run = RUN | {"kernel": kernel}
                glassgpt.train("text.txt", steps=STEPS, out=out, run=run, listener=accident, **SETTINGS)
        except TrainingFailed as failed:
            return str(failed)
        except Interrupted:
            return "stopped"
    return ""


def left(out: str) -> tuple[Any, ...]:
    """What a run left that time does not change. Refuses numbers that are none, which JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {out}")

    def lines(name: str) -> list[dict[str, Any]]:
        path = Path(out, name)
        read = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line, parse_constant=refuse) for line in read]

    measured = [(m["step"], m["loss"], m["val_bpb"], m["grad_norm"], m["lr"]) for m in lines("metrics.jsonl")]
    return Path(out, "latest", WEIGHTS).read_bytes(), measured, lines("skipped.jsonl")


def wrong(accident: Accident, out: str, failure: str) -> list[str]:
    """What is not as it should be after a whole run with an accident."""
    faults = accident.bad_checkpoints.copy()
    _, measured, skipped = left(out)
    steps, last = [line["step"] for line in skipped], accident.first + accident.n - 1
    if accident.kind in ("weight", "moment"):
        if "is not finite" not in failure or skipped:
            faults.append(f"{accident.kind}: {failure!r}, {steps}")
        return faults
    happened = list(range(accident.first, last + 1))
    if steps != happened or [said.step for said in accident.said] != happened:
        faults.append(f"skipped {steps} of {happened}")
    if {step for step, *_ in measured if step % 6} & set(happened):
        faults.append(f"a line of metrics.jsonl for one of {happened}")
    if accident.kind == "gradient" and not all(line["tensor"] in line["why"] for line in skipped):
        faults.append(f"no tensor is named in {skipped}")
    first, end = skipped[-1]["tokens"][0] if skipped else (0, 0)
    named = (
        f"stopped at step {last} before its update: ", f"windows at tokens {first}-{end}",
        f"The last good checkpoint is {out}/step-{last - 1:08d}",
    )  # fmt: skip
    if accident.n == 3 and not all(part in failure for part in named):
        faults.append(f"after three in a row: {failure!r}")
    if accident.n < 3 and failure:
        faults.append(failure)
    return faults


def trial(generator: random.Random, number: int, n_kinds: int) -> tuple[Accident, str]:
    kinds = ("gradient", "spike", "loss", "weight", "moment")
    n = 1 + (number + number // n_kinds) % 3
    accident = Accident(
        kinds[number % n_kinds], generator.randint(2, STEPS - n), n, generator.choice(VALUES), generator.randrange(100)
    )
    return accident, KERNELS[number % len(KERNELS)]


@pytest.mark.thorough
def test_what_would_spoil_a_model_is_skipped_or_ends_the_run(
    amount: Callable[[int, int], int], tally: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, failures = random.Random(3), []
    trials = amount(6, 90)
    for number in range(trials):
        accident, kernel = trial(generator, number, 5)
        out = f"run-{number}"
        if faults := wrong(accident, out, outcome(accident, out, kernel)):
            failures.append((accident, faults))
    seen = controls(monkeypatch)
    control = f"without the checks: {seen} of 3 checkpoints are not finite"
    what = "NaN and Inf in loss, gradient, weight, moment; spike of the loss"
    tally("R7", what, trials, len(failures), control=control)
    assert seen == 3
    assert not failures, "\n".join(map(str, failures))


def controls(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many runs save what is not finite where nothing is looked at."""
    with monkeypatch.context() as patch:
        patch.setattr(step_module, "refuse_spoiled", lambda *given: None)
        patch.setattr(record, "first_not_finite", lambda named: None)
        seen = 0
        for number, kind in enumerate(("loss", "gradient", "weight")):
            accident = Accident(kind, first=4)
            outcome(accident, f"control-{number}", KERNELS[number % len(KERNELS)])
            seen += bool(accident.bad_checkpoints)
    return seen


@pytest.mark.thorough
def test_a_run_that_is_stopped_amid_skipped_steps_goes_on_as_if_it_were_not(
    amount: Callable[[int, int], int], tally: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, failures = random.Random(5), []
    trials = amount(1, 15)
    for number in range(trials):
        accident, kernel = trial(generator, number, 3)
        accident.n, accident.stops_at = max(2, accident.n), None
        accident.first = min(accident.first, STEPS - accident.n)
        whole, parts = f"whole-{number}", f"parts-{number}"
        as_whole = outcome(accident, whole, kernel)
        again = Accident(accident.kind, accident.first, accident.n, accident.value, accident.at)
        again.stops_at = accident.first + generator.randrange(accident.n - 1)
        assert outcome(again, parts, kernel) == "stopped"
        again.stops_at = None
        as_parts = outcome(again, parts, kernel)
        if as_parts.replace("parts", "whole") != as_whole or left(parts) != left(whole):
            failures.append((accident, as_whole, as_parts))
    forgetful = Accident("loss", first=4, n=3, stops_at=5)
    assert outcome(forgetful, "forgetful") == "stopped"
    of, forgetful.stops_at = Progress.of, None
    monkeypatch.setattr(Progress, "of", lambda counters: replace(of(counters), skipped=0))
    control = "with the count of skipped steps forgotten the resumed run is another"
    assert outcome(forgetful, "forgetful") == "", control
    tally("R7", "the same, stopped and resumed amid them", trials, len(failures), control=control)
    assert not failures, "\n".join(map(str, failures))
