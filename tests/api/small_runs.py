"""What the tests of runs share."""

import hashlib
import signal
from pathlib import Path
from typing import Any

from glassgpt.api.train import Silent
from glassgpt.checkpoint.run_settings import read_settings, write_settings
from glassgpt.config import Settings
from glassgpt.training.metrics import Metrics


def weights(run: Path) -> str:
    """A fingerprint of the latest weights."""
    return hashlib.sha256((run / "latest" / "model.safetensors").read_bytes()).hexdigest()


def change_settings(run: Path, **changed: Any) -> None:
    """Write config.yaml with other values, and the checksum of these."""
    write_settings(run, Settings.from_dict(read_settings(run).to_dict() | changed))


class StopAt(Silent):
    """Sends SIGINT to this process after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, metrics: Metrics) -> None:
        if metrics.step == self.step:
            signal.raise_signal(signal.SIGINT)
