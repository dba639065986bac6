"""A model of the user's own in a checkpoint: its weights under its own names, beside the source that makes it.

No other tool can open such a directory, and its `model_type` tells them so. A model that is the built-in one in all
its parts, whoever made it, is saved as any other: that needs no source. No torch here.
"""

from pathlib import Path
from typing import Any

from glassgpt.config import GPTConfig
from glassgpt.files.manifest import CONFIG
from glassgpt.files.reading import read_json
from glassgpt.settings import InputError

CODE = "code.py"
"""The source, in the checkpoint and in the run's directory."""
_MODEL_TYPE = "glassgpt-code"


def own_config_values(config: GPTConfig, has_code: bool) -> dict[str, Any]:
    """The config.json of a model of the user's own."""
    return {"model_type": _MODEL_TYPE, "glassgpt": {"code": CODE if has_code else None, "model": config.to_dict()}}


def own_config(directory: Path) -> GPTConfig | None:
    """What the user's own model in `directory` is made from; None where the model is a built-in one."""
    path = directory / CONFIG
    try:
        values = read_json(path)
        if values["model_type"] != _MODEL_TYPE:
            return None
        model = dict(values["glassgpt"]["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # for the reader of Hugging Face directories to say what is wrong
    try:
        return GPTConfig.from_dict(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def refusal(directory: Path) -> InputError:
    """Why a model of the user's own is not opened without leave to run its source."""
    code = directory / CODE
    if code.is_file():
        return InputError(
            f"{directory} holds a model with code of its own, which opening it would run: read {code}, then give "
            "--trust-code (in Python trust_code=True)"
        )
    return InputError(
        f"{directory} holds a model that was given in Python, so its code is not here: open it in Python with the "
        "same model=..."
    )
