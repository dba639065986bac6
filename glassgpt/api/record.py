"""What a run writes into its directory while it trains."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import torch

from glassgpt.api.start import Start
from glassgpt.checkpoint.atomic import write_atomically
from glassgpt.checkpoint.directory import TrainerState, save_checkpoint
from glassgpt.evaluation.bits_per_byte import Evaluation
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training.curve import loss_svg
from glassgpt.training.loop import Progress
from glassgpt.training.metrics import Metrics, append_metrics, read_metrics

SAMPLE_TOKENS = 120


class Recorder:
    """Writes checkpoints, metrics.jsonl, samples.txt and loss.svg of one run."""

    def __init__(self, start: Start, model: GPTModel, optimizer: Optimizer) -> None:
        self.start, self.model, self.optimizer = start, model, optimizer
        self.directory = start.directory
        self.metrics_file = start.directory.path / "metrics.jsonl"
        self.samples_file = start.directory.path / "samples.txt"
        facts = start.prepared.facts
        self.code = start.code.source if start.code.make_model else None
        self.bytes_per_token = facts.bytes / max(1, facts.train_tokens + facts.val_tokens)

    def begin(self, step: int) -> None:
        """Forget what was measured at `step` and later: a resumed run measures it again."""
        kept = [json.dumps(asdict(line)) + "\n" for line in self.history() if line.step < step]
        write_atomically(self.metrics_file, "".join(kept).encode())
        written = self.samples_file.read_text(encoding="utf-8") if self.samples_file.exists() else ""
        samples = re.split(r"^(?=--- step \d+, )", written, flags=re.MULTILINE)
        steps = [re.match(r"--- step (\d+), ", sample) for sample in samples]
        earlier = [sample for sample, found in zip(samples, steps, strict=True) if found and int(found[1]) < step]
        write_atomically(self.samples_file, "".join(earlier).encode())

    def history(self) -> list[Metrics]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.metrics_file)

    def save(self, progress: Progress) -> Path:
        """Save a checkpoint, then let go of those that are neither the best nor the latest."""
        last = progress.last and asdict(progress.last)
        threads = torch.get_num_threads()
        counters = {"step": progress.step, "seconds": progress.seconds, "threads": threads, "last": last}
        trainer = TrainerState(tensors=self.optimizer.tensors(), counters=counters)
        checkpoint = self.directory.checkpoint_path(progress.step)
        save_checkpoint(checkpoint, self.model, self.start.prepared.tokenizer, trainer, self.code)
        self.directory.record(progress.step, None)
        self.directory.prune()
        return checkpoint

    def log(self, line: Metrics) -> None:
        """Add a line to metrics.jsonl."""
        append_metrics(self.metrics_file, line)

    def evaluated(self, progress: Progress, evaluation: Evaluation) -> str:
        """Record a score, write a sample of the model's writing, draw the curve. Returns the sample."""
        self.directory.record(progress.step, evaluation.bits_per_byte)
        self.directory.prune()
        text = self.sample()
        with self.samples_file.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"--- step {progress.step}, {evaluation.bits_per_byte:.4f} bits per byte ---\n{text}\n\n")
        self._draw(progress, evaluation)
        return text

    def sample(self, max_new_tokens: int = SAMPLE_TOKENS) -> str:
        """What the model writes after a line break, always drawn with the run's seed."""
        tokenizer = self.start.prepared.tokenizer
        sampling = Sampling(temperature=0.8, top_k=50, seed=self.start.settings.run.seed)
        self.model.eval()
        ids = [*generate(self.model, tokenizer.encode("\n"), max_new_tokens=max_new_tokens, sampling=sampling)]
        self.model.train()
        known = [token for token in ids if token < tokenizer.vocab_size]  # a padded vocabulary has ids without text
        return tokenizer.decode(known).strip()

    def _draw(self, progress: Progress, evaluation: Evaluation) -> None:
        lines = [line for line in self.history() if line.step < progress.step]
        to_bits = 1 / (0.6931471805599453 * self.bytes_per_token)
        training = [(line.step, line.loss * to_bits) for line in lines]
        validation = [(line.step, line.val_bpb) for line in lines if line.val_bpb is not None]
        validation.append((progress.step, evaluation.bits_per_byte))
        svg = loss_svg(training, validation, self.directory.path.name)
        write_atomically(self.directory.path / "loss.svg", svg.encode())
