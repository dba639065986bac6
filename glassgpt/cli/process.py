"""When this process began: the time that its interpreter and imports have taken counts too."""

import os
import time

_IMPORTED = time.perf_counter()


def began() -> float:
    """The start of this process, on the clock `time.perf_counter`.

    On Linux the kernel knows it. Elsewhere it is when this module was imported, which is among the first things that
    the command does: the start of the interpreter (some hundredths of a second) is then not counted.
    """
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            after_name = file.read().rpartition(")")[2].split()  # the name before it may hold anything
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # seconds after boot, of field 22
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return _IMPORTED
    return time.perf_counter() - age
