"""From scores to a token in one call (`native/sampling.h`): what `glassgpt.generation.sampling` does in numpy."""

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int64, c_uint64

import numpy as np
from numpy.typing import NDArray

from glassgpt.native.compiled import library


class Choice(ctypes.Structure):
    """How tokens are drawn. top_k 0, top_p 1 and min_p 0: among all."""

    _fields_ = [
        *((name, c_double) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        ("top_k", c_int64),
        *((name, c_uint64) for name in ("seed", "sequence")),
    ]


def choose(scores: NDArray[np.float32], choice: Choice, ids: Sequence[int]) -> int:
    """The token that follows `ids`, from its scores (V,), which lie in one piece. -1: the highest is no finite number.

    Raises IndexError for an id outside the vocabulary, MemoryError, RuntimeError where the native code was not built.
    """
    opened = library()
    if opened is None:
        raise RuntimeError("the native code was not built")
    seen = None if choice.repetition_penalty == 1 else np.asarray(ids, np.int64)
    token = opened.glassgpt_choose(
        scores.ctypes.data, len(scores), ctypes.byref(choice), None if seen is None else seen.ctypes.data, len(ids)
    )
    if token == -2:
        raise MemoryError("there is not enough memory to choose a token")
    if token == -3:
        raise IndexError("a token of the text is not in the vocabulary")
    return token
