"""load(): a trained model with its tokenizer, to write with and to measure."""

from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.checkpoint.run import find_checkpoint, intact_instead
from glassgpt.config import Device, Dtype
from glassgpt.files.manifest import verified
from glassgpt.settings import InputError, without_advice

if TYPE_CHECKING:
    from glassgpt.api.code import ModelMaker
    from glassgpt.api.gpt import GPT


def load(
    directory: str | Path | None = None,
    *,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    trust_code: bool = False,
    model: "ModelMaker | None" = None,
) -> "GPT":
    """Open a run (its best checkpoint), a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3.

    Without a directory, the newest run. On the CPU it writes with the native decoder where that was built, elsewhere
    with PyTorch. `dtype` is what the weights are rounded to: fp32, bf16, or whole numbers of 8 or 4 bits (int8, int4);
    "auto" is fp32, or what a quantised directory has. A model of the user's own is opened with the class or function
    `model` that it was trained with, or, with `trust_code`, by running the source that lies beside its weights.
    Raises InputError where there is none or it is damaged.
    """
    checkpoint = find_checkpoint(directory)
    try:
        with verified(checkpoint):  # while its files are summed, what opens them is imported
            usable = device
            if device != "cpu":
                from glassgpt.api.machine import usable_device

                usable = usable_device(device)
            from glassgpt.api.gpt import open_gpt

            return open_gpt(checkpoint, usable, dtype, model, trust_code)
    except InputError as refusal:
        if (other := intact_instead(checkpoint)) is None:
            raise
        raise InputError(f"{without_advice(refusal)}: take {other}, which is intact") from None
