"""config.yaml of a run: the settings that it was begun with, below a line that holds their SHA-256.

A run goes on with these settings alone. A digit of the learning rate that a bad disk turned into another would make
another model of it, and nobody would see that; so whatever reads a run's own settings reads them here. `train
--config` takes the file as any other, edited or not: that begins a new run.
"""

import hashlib
import shlex
from pathlib import Path

from glassgpt import settings
from glassgpt.config import Settings
from glassgpt.files.atomic import write_atomically
from glassgpt.files.reading import read_bytes
from glassgpt.settings import InputError

SETTINGS_FILE = "config.yaml"
_SUM = b"# sha256 "


def write_settings(run: Path, chosen: Settings) -> None:
    """Put the settings into config.yaml of the run. Raises SaveError where the system refuses."""
    write_atomically(run / SETTINGS_FILE, _summed(settings.to_yaml(chosen.to_dict()).encode()))


def read_settings(run: Path) -> Settings:
    """The run's settings. Raises InputError where config.yaml is not, byte for byte, as `write_settings` left it."""
    path = run / SETTINGS_FILE
    instead = f"bring it back, or start a new run with glassgpt train --config {shlex.quote(str(path))}"
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


def _summed(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest().encode()
    return _SUM + digest + b" of all below: to change something, edit a copy\n" + content
