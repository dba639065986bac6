"""config.yaml of a run: the settings that it was begun with, below a line that holds their SHA-256.

A run goes on with these settings alone. A digit of the learning rate that a bad disk turned into another would make
another model of it, and nobody would see that; so whatever reads a run's own settings reads them here, and each
checkpoint keeps a copy. `train --config` takes the file as any other, edited or not: that begins a new run.
"""

import hashlib
import shlex
from collections.abc import Iterable
from pathlib import Path

from glassgpt import settings
from glassgpt.config import Settings
from glassgpt.files.atomic import write_atomically
from glassgpt.files.manifest import TRAINER
from glassgpt.files.reading import read_bytes
from glassgpt.settings import InputError, without_advice

SETTINGS_FILE = "config.yaml"
_SUM = b"# sha256 "


def write_settings(run: Path, chosen: Settings) -> None:
    """Put the settings into config.yaml of the run. Raises SaveError where the system refuses."""
    write_atomically(run / SETTINGS_FILE, _summed(settings.to_yaml(chosen.to_dict()).encode()))


def read_settings(run: Path) -> Settings:
    """The run's settings. Raises InputError where config.yaml is not, byte for byte, as `write_settings` left it."""
    path = run / SETTINGS_FILE
    instead = f"glassgpt train --resume {shlex.quote(str(run))} goes on with the copy in its newest checkpoint"
    try:
        content = read_bytes(path)
    except OSError as error:
        why = "the run goes on with its own settings alone, so bring the file back"
        raise InputError(f"cannot read {path}: {error.strerror}; {why}") from None
    if not content.startswith(_SUM):
        raise InputError(f"{path} does not begin with its SHA-256, so it may have been altered: {instead}")
    if content != _summed(content.partition(b"\n")[2]):
        raise InputError(f"{path} was altered since it was written (its SHA-256 differs): {instead}")
    return Settings.from_dict(settings.read_yaml(path))


def kept_settings(run: Path) -> bytes | None:
    """config.yaml as a checkpoint keeps it; None where it is damaged already."""
    try:
        read_settings(run)
        return read_bytes(run / SETTINGS_FILE)
    except (InputError, OSError):
        return None


def own_settings(run: Path, checkpoints: Iterable[Path]) -> tuple[Settings, str | None]:
    """The run's settings; where config.yaml is damaged those of the newest of its `checkpoints`, the newest last, that
    has them, and a line that says so. Raises InputError where none has."""
    try:
        return read_settings(run), None
    except InputError as error:
        damage = without_advice(error)
    for checkpoint in reversed([*checkpoints]):
        try:
            return read_settings(checkpoint / TRAINER), f"{damage}; the copy in {checkpoint} is used"
        except InputError:
            continue
    raise InputError(f"{damage}, and no checkpoint has a copy of it: bring it back")


def _summed(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest().encode()
    return _SUM + digest + b" of all below: to change something, edit a copy\n" + content
