"""The compiled library: whether it is there, and what it can do on this processor.

It uses the best instructions that the processor has: avx512-bf16, avx512-vnni, avx512, avx2 or plain. The environment
variable GLASSGPT_NATIVE_TIER names a lesser one of these, to try what another processor would do.
"""

import ctypes
import functools
from ctypes import c_int64, c_void_p
from pathlib import Path


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled code, or None where it was not built or cannot be opened."""
    for path in sorted(Path(__file__).parent.glob("libglassgpt.*")):
        try:
            opened = ctypes.CDLL(str(path))
        except OSError:
            continue
        opened.glassgpt_tier.restype = ctypes.c_char_p
        opened.glassgpt_has_bf16.restype = c_int64
        opened.glassgpt_trainer.restype = c_void_p
        opened.glassgpt_trainer.argtypes = [c_void_p, c_int64, c_void_p]
        opened.glassgpt_trainer_free.argtypes = [c_void_p]
        opened.glassgpt_trainer_step.argtypes = [c_void_p] * 5
        opened.glassgpt_decoder.restype = c_void_p
        opened.glassgpt_decoder.argtypes = [c_void_p] * 4
        opened.glassgpt_decoder_free.argtypes = [c_void_p]
        opened.glassgpt_decoder_forward.restype = c_int64
        opened.glassgpt_decoder_forward.argtypes = [c_void_p, c_int64, *[c_void_p] * 6]
        opened.glassgpt_decoder_copy.restype = c_int64
        opened.glassgpt_decoder_copy.argtypes = [c_void_p, c_int64, c_int64, c_int64]
        opened.glassgpt_decoder_read.restype = c_int64
        opened.glassgpt_decoder_read.argtypes = [c_void_p]
        opened.glassgpt_choose.restype = c_int64
        opened.glassgpt_choose.argtypes = [c_void_p, c_int64, c_void_p, c_void_p, c_int64]
        opened.glassgpt_pack.restype = c_int64
        opened.glassgpt_pack.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p]
        return opened
    return None


def tier() -> str | None:
    """The instructions that the native code uses here, such as "avx2"; None without native code."""
    opened = library()
    return opened.glassgpt_tier().decode() if opened else None


def has_bf16() -> bool:
    """Whether it multiplies in bf16 here."""
    opened = library()
    return bool(opened and opened.glassgpt_has_bf16())
