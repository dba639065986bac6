"""Which device to compute on."""

import torch

from glassgpt.config import Device
from glassgpt.settings import InputError


def usable_device(wanted: Device) -> Device:
    """`wanted`, or the fastest kind there is for "auto". Raises InputError for one that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(wanted, False):
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise InputError(f"device is {wanted}, but PyTorch finds no {wanted.upper()} device here: take {found}")
    return wanted
