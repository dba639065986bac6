"""R4 for config.yaml: a run's settings that changed by themselves are refused before they are used."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from glassgpt import settings
from glassgpt.checkpoint.directory import TrainerState, save_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import SETTINGS_FILE, read_settings, write_settings
from glassgpt.config import GPTConfig, Settings
from glassgpt.model import GPTModel
from glassgpt.settings import InputError

VALUES = {
    "text": ["/home/me/book.txt"], "prepared": "0123456789abcdef" * 2, "run_id": "fedcba9876543210",
    "model": {"vocab_size": 257, "n_layers": 6, "embedding_dim": 64, "n_heads": 4, "context_length": 64},
    "optim": {"learning_rate": 0.0015, "batch_size": 16, "warmup": 20},
    "run": {"minutes": 10, "seed": 1337}, "plan": [[0, 1800], [175, 2104]],
}  # fmt: skip
Read = Callable[[Path], object]


def flipped(content: bytes, generator: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def n_unseen(read: Read, run: Path, damaged: list[bytes], *, named: bool = True) -> int:
    """How many of the damaged files are read without a word, or refused by one that does not name the file."""
    unseen = 0
    for content in damaged:
        (run / SETTINGS_FILE).write_bytes(content)
        try:
            read(run)
            unseen += 1
        except InputError as refusal:
            unseen += named and str(run / SETTINGS_FILE) not in str(refusal)
    return unseen


def read_without_the_sum(run: Path) -> Settings:
    """As it was before: whatever the file says."""
    return Settings.from_dict(settings.read_yaml(run / SETTINGS_FILE))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The directory of a run that has its settings alone."""
    write_settings(tmp_path, Settings.from_dict(VALUES))
    return tmp_path


def test_what_was_written_is_read_back(run: Path) -> None:
    assert read_settings(run) == Settings.from_dict(VALUES)
    assert read_without_the_sum(run) == Settings.from_dict(VALUES), "any tool reads it as YAML"


def test_every_flipped_bit_and_every_truncation_is_refused(run: Path, amount, tally) -> None:
    generator, whole = random.Random(3), (run / SETTINGS_FILE).read_bytes()
    for what, n, damage in (
        ("config.yaml, a bit flipped", amount(50, 1000), lambda: flipped(whole, generator)),
        ("config.yaml, cut short", amount(50, 200), lambda: whole[: generator.randrange(len(whole))]),
    ):
        damaged = [damage() for _ in range(n)]
        failures = n_unseen(read_settings, run, damaged)
        control = n_unseen(read_without_the_sum, run, damaged, named=False)
        tally("R4", what, n, failures, control=f"without the checksum: {control} of {n} used unseen")
        assert failures == 0
        assert control > 0, "without the checksum some must go unseen, or nothing was tested"


def test_a_digit_of_the_learning_rate_is_refused_and_the_answer_says_what_to_do(run: Path) -> None:
    whole = (run / SETTINGS_FILE).read_text()
    (run / SETTINGS_FILE).write_text(whole.replace("0.0015", "0.0075"))
    assert read_without_the_sum(run).optim.learning_rate == 0.0075
    with pytest.raises(InputError, match=r"was altered since .* glassgpt train --resume .* with the copy"):
        read_settings(run)
    (run / SETTINGS_FILE).write_text(whole.partition("\n")[2])
    with pytest.raises(InputError, match="does not begin with its SHA-256"):
        read_settings(run)
    (run / SETTINGS_FILE).unlink()
    with pytest.raises(InputError, match=r"cannot read .*: No such file or directory; .*bring the file back"):
        read_settings(run)


def test_the_settings_of_a_sister_run_are_refused(run: Path, amount, tally) -> None:
    """Valid in themselves: it is the checkpoints that tell whose they are."""
    directory, generator, failures, control = RunDirectory(run), random.Random(4), 0, 0
    counters = {"step": 3, "run_id": VALUES["run_id"]}
    config = GPTConfig(vocab_size=257, context_length=8, embedding_dim=8, n_heads=2, n_layers=1)
    save_checkpoint(directory.checkpoint_path(3), GPTModel(config), None, TrainerState(counters=counters))
    own = read_settings(run)
    assert directory.resume_point(own.run_id).checkpoint == directory.checkpoint_path(3)
    n = amount(20, 100)
    for number in range(n):
        sister = VALUES | {"run_id": f"{generator.getrandbits(64):016x}", "run": {"minutes": 10, "seed": number}}
        write_settings(run, Settings.from_dict(sister))
        swapped = read_settings(run)
        try:
            directory.resume_point(swapped.run_id)
            failures += 1
        except InputError as refusal:
            failures += str(run / SETTINGS_FILE) not in str(refusal)
        control += directory.resume_point().checkpoint == directory.checkpoint_path(3)
    control_said = f"without the run's id in the checkpoint: {control} of {n} used unseen"
    tally("R4", "config.yaml of another run", n, failures, control=control_said)
    assert failures == 0
    assert control == n
