"""Whether training can go on from a checkpoint: all of it intact, its own run's, and every number in it finite.

Read with numpy alone, one tensor after the other, so that a large checkpoint takes little memory and no PyTorch.
"""

import hashlib
import math
from pathlib import Path

from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run_settings import SETTINGS_FILE
from glassgpt.checkpoint.stored import WEIGHTS, StoredTensor, read_stored, stored_weights
from glassgpt.files.manifest import MANIFEST, TRAINER, verify_checkpoint
from glassgpt.files.reading import read_json
from glassgpt.settings import InputError

COUNTERS, STATE = TRAINER + "counters.json", TRAINER + "state.safetensors"


def refuse_unsound(checkpoint: Path, run_id: str = "") -> None:
    """Raise InputError where training cannot go on from `checkpoint`: it is damaged, it has no trainer state, it is of
    another step than its name says or of another run than `run_id`, or a number in it is not finite."""
    if not (checkpoint / MANIFEST).is_file():
        raise InputError(f"{checkpoint} has no {MANIFEST}, so it may be damaged")
    if not (checkpoint / TRAINER).is_dir():
        raise InputError(f"{checkpoint} has no trainer state")
    verify_checkpoint(checkpoint)
    try:
        counters = read_json(checkpoint / COUNTERS)
        step, of = str(int(counters["step"])), counters.get("run_id")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise InputError(f"{checkpoint / COUNTERS} does not say how far the training was") from None
    if checkpoint.name != f"step-{step:0>8}":
        raise InputError(f"{checkpoint} holds step {step}, so it was renamed or copied")
    if run_id and of not in (None, run_id):
        raise InputError(f"{checkpoint} is of another run than {checkpoint.parent / SETTINGS_FILE}")
    refuse_not_finite(checkpoint)
    _refuse_not_finite(checkpoint / STATE, read_stored(checkpoint / STATE))


def refuse_not_finite(checkpoint: Path) -> None:
    """Raise InputError where a weight of the model is NaN or infinite; it names the tensor."""
    _refuse_not_finite(checkpoint / WEIGHTS, stored_weights(checkpoint))


def refuse_other_code(checkpoint: Path) -> None:
    """Raise InputError where the code in the run's directory is not what `checkpoint` was trained with."""
    path, saved = checkpoint.parent / CODE, read_json(checkpoint / COUNTERS).get("code_sha256")
    if saved and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != saved:
        there = (checkpoint / CODE).is_file()
        instead = f"copy {checkpoint / CODE} there" if there else "bring it back"
        raise InputError(f"{path} was altered since the run began (its SHA-256 differs): {instead}")


def _refuse_not_finite(path: Path, tensors: dict[str, StoredTensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype in ("F32", "F16", "BF16") and 0 not in tensor.shape:
            numbers = tensor.floats()
            if not (math.isfinite(numbers.min()) and math.isfinite(numbers.max())):  # both are NaN where one number is
                raise InputError(f"{path} holds numbers that are not finite, in {name}")
