"""What a run writes into its directory while it trains."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from glassgpt.api.machine import computes_with
from glassgpt.api.start import Start
from glassgpt.checkpoint.directory import TrainerState, save_checkpoint
from glassgpt.checkpoint.run_settings import kept_settings
from glassgpt.evaluation.bits_per_byte import Evaluation, Stopped
from glassgpt.files.atomic import append_line, sync_file, write_atomically
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training.curve import loss_svg
from glassgpt.training.finite import first_not_finite
from glassgpt.training.health import activations, windows
from glassgpt.training.loop import Progress, Skipped, TrainingFailed
from glassgpt.training.metrics import Metrics, append_health, append_metrics, read_health, read_metrics

SAMPLE_TOKENS = 120
RECENT_LINES = 10
"""Of metrics.jsonl, at most, whose mean loss is set beside the score of an evaluation."""


class Recorder:
    """Writes checkpoints, metrics.jsonl, health.jsonl, skipped.jsonl, samples.txt and loss.svg of one run."""

    def __init__(self, start: Start, model: GPTModel, optimizer: Optimizer) -> None:
        self.start, self.model, self.optimizer = start, model, optimizer
        self.directory = start.directory
        self.metrics_file = start.directory.path / "metrics.jsonl"
        self.health_file = start.directory.path / "health.jsonl"
        self.skipped_file = start.directory.path / "skipped.jsonl"
        self.samples_file = start.directory.path / "samples.txt"
        facts = start.prepared.facts
        self.code = start.code.source if start.code.make_model else None
        self.bytes_per_token = facts.bytes / max(1, facts.train_tokens + facts.val_tokens)
        chosen = start.settings
        self.computed_with = computes_with(chosen.run.device)
        self.looked_at = windows(start.prepared.val, chosen.model.context_length).to(chosen.run.device)

    def begin(self, step: int) -> None:
        """Forget what was measured at `step` and later: a resumed run measures it again."""
        kept = [json.dumps(asdict(line)) + "\n" for line in self.history() if line.step < step]
        write_atomically(self.metrics_file, "".join(kept).encode())
        healthy = [json.dumps(line) + "\n" for line in read_health(self.health_file) if line["step"] < step]
        write_atomically(self.health_file, "".join(healthy).encode())
        if self.skipped_file.exists():
            earlier = [json.dumps(line) + "\n" for line in read_health(self.skipped_file) if line["step"] <= step]
            write_atomically(self.skipped_file, "".join(earlier).encode())
        written = self.samples_file.read_text(encoding="utf-8") if self.samples_file.exists() else ""
        samples = re.split(r"^(?=--- step \d+, )", written, flags=re.MULTILINE)
        steps = [re.match(r"--- step (\d+), ", sample) for sample in samples]
        earlier = [sample for sample, found in zip(samples, steps, strict=True) if found and int(found[1]) < step]
        write_atomically(self.samples_file, "".join(earlier).encode())

    def history(self) -> list[Metrics]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.metrics_file)

    def save(self, progress: Progress) -> Path:
        """Save a checkpoint, then let go of those that a run does not keep.

        Raises TrainingFailed, with nothing saved, where a weight or a number of the optimiser's is not finite.
        """
        code = self.start.code.source
        named = {
            "run_id": self.start.settings.run_id,
            "threads": torch.get_num_threads(),
            "computed_with": self.computed_with,
            "code_sha256": None if code is None else hashlib.sha256(code).hexdigest(),
        }
        kept = kept_settings(self.directory.path)
        trainer = TrainerState(tensors=self.optimizer.tensors(), counters=progress.counters() | named, settings=kept)
        if name := first_not_finite([*self.model.state_dict().items(), *trainer.tensors.items()]):
            raise TrainingFailed(f"stopped at step {progress.step} before saving it: {name} is not finite")
        for file in (self.metrics_file, self.health_file, self.skipped_file, self.samples_file):
            sync_file(file)  # a run that goes on from this checkpoint has all that was measured before it
        checkpoint = self.directory.checkpoint_path(progress.step)
        save_checkpoint(checkpoint, self.model, self.start.prepared.tokenizer, trainer, self.code)
        self.directory.record(progress.step, None)
        self.directory.prune()
        return checkpoint

    def log(self, line: Metrics) -> None:
        """Add a line to metrics.jsonl."""
        append_metrics(self.metrics_file, line)

    def skipped(self, skipped: Skipped) -> None:
        """Add a line to skipped.jsonl."""
        append_health(self.skipped_file, asdict(skipped))

    def evaluated(self, progress: Progress, evaluation: Evaluation, stop: Callable[[], bool] = lambda: False) -> str:
        """Record a score and the model's health, write a sample of its writing, draw the curve. Returns the sample.

        Raises Stopped when `stop()` says so; what is recorded then, a resumed run records again.
        """
        self.directory.record(progress.step, evaluation.bits_per_byte)
        self.directory.prune()
        self._record_health(progress, evaluation)
        text = self.sample(stop=stop)
        head = f"--- step {progress.step}, {evaluation.bits_per_byte:.4f} bits per byte ---"
        append_line(self.samples_file, f"{head}\n{text}\n\n")
        self._draw(progress, evaluation)
        return text

    def sample(self, max_new_tokens: int = SAMPLE_TOKENS, stop: Callable[[], bool] = lambda: False) -> str:
        """What the model writes after a line break, always drawn with the run's seed. Raises Stopped if asked to."""
        tokenizer = self.start.prepared.tokenizer
        sampling = Sampling(temperature=0.8, top_k=50, seed=self.start.settings.run.seed)
        self.model.eval()
        ids: list[int] = []
        for token in generate(self.model, tokenizer.encode("\n"), max_new_tokens=max_new_tokens, sampling=sampling):
            if stop():
                raise Stopped
            ids.append(token)
        self.model.train()
        known = [token for token in ids if token < tokenizer.vocab_size]  # a padded vocabulary has ids without text
        return tokenizer.decode(known).strip()

    def activations(self) -> list[dict[str, float]]:
        """Of each block, for the beginning of the validation text."""
        return activations(self.model, self.looked_at)

    def _record_health(self, progress: Progress, evaluation: Evaluation) -> None:
        lines = self.history()
        since = max((line.step for line in lines if line.val_bpb is not None), default=0)
        losses = [line.loss for line in lines if since < line.step < progress.step]
        losses = [*losses[1 - RECENT_LINES :], *([progress.last.loss] if progress.last else [])]
        step_health = progress.health or {}
        layers, outputs = step_health.get("layers", []), self.activations()
        layers = layers or [{} for _ in outputs]  # of a run that was resumed from an older version's checkpoint
        line = step_health | {
            "step": progress.step,
            "layers": [layer | output for layer, output in zip(layers, outputs, strict=True)],
            "train_bpb": self._bits_per_byte(float(np.mean(losses))) if losses else None,
            "val_bpb": evaluation.bits_per_byte,
        }
        append_health(self.health_file, line)

    def _bits_per_byte(self, loss: float) -> float:
        """What a loss in nats a token comes to in the whole text."""
        return loss / math.log(2) / self.bytes_per_token

    def _draw(self, progress: Progress, evaluation: Evaluation) -> None:
        lines = [line for line in self.history() if line.step < progress.step]
        training = [(line.step, self._bits_per_byte(line.loss)) for line in lines]
        validation = [(line.step, line.val_bpb) for line in lines if line.val_bpb is not None]
        validation.append((progress.step, evaluation.bits_per_byte))
        svg = loss_svg(training, validation, self.directory.path.name)
        write_atomically(self.directory.path / "loss.svg", svg.encode())
