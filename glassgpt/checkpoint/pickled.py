"""Weights that other tools keep as pickle. Opening such a file can run any code, so it is never done."""

from pathlib import Path

from glassgpt.settings import InputError

_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def refusal_of_pickle(directory: Path) -> InputError | None:
    """Why a directory whose weights are pickle is not opened, and what to do; None where there are no such files."""
    try:
        found = sorted(path.name for path in directory.iterdir() if path.suffix in _ENDINGS)
    except OSError:
        return None
    if not found:
        return None
    return InputError(
        f"{directory} holds its weights as pickle ({found[0]}), which can run any code, so it is never opened: "
        "convert it to safetensors, or take a revision that has model.safetensors"
    )
