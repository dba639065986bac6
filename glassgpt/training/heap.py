"""How the C library's allocator keeps the memory that a step frees.

A step of a large model allocates and frees gigabytes. glibc hands large blocks back to the system at once, and the
next step gets them anew, page by page, each filled with zeros: of GPT-2 124M's step that is a third of the processor's
time. Told to keep them, it takes nothing from the system after the second step, and the peak is about as high.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let glibc take blocks of every size from its heap, and never shrink it, for the rest of the process.

    Returns whether that was possible: elsewhere than with glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS and musl have no mallopt, Windows no such handle
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
