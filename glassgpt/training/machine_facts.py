"""What this machine is, as far as a process can ask: processor, memory, disk, load, and the limits of a container.

In a container `os.cpu_count()` and the memory of the machine are not what a process may use; control groups, version 1
or 2, say what it may. What a system does not tell is None.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glassgpt.training.metrics import physical_bytes


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """Sizes in bytes."""

    system: str
    python: str
    processor: str
    cores: int
    """Of the machine, as the system counts them."""
    usable_cores: int
    """That this process may run on."""
    cpu_limit: float | None
    """Cores' worth of time that its control group gets."""
    memory: int | None
    memory_limit: int | None
    """Of its control group, where that is less than the machine has."""
    memory_free: int | None
    """That it may still take without swapping."""
    swap: int | None
    swap_used: int | None
    load: float | None
    """Processes that wanted a core, as the mean of the last minute."""


@dataclass(frozen=True)
class Disk:
    """Where something goes, and how much room there is."""

    path: Path
    free: int


def machine_facts() -> MachineFacts:
    """What the system tells; takes some milliseconds."""
    memory, meminfo = physical_bytes(), _meminfo()
    cpu_limit, memory_limit, group_free = group_limits()
    if memory_limit is not None and memory is not None and memory_limit >= memory:
        memory_limit = group_free = None
    swap, swap_free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return MachineFacts(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        usable_cores=affinity or os.cpu_count() or 1,
        cpu_limit=cpu_limit,
        memory=memory,
        memory_limit=memory_limit,
        memory_free=_least(meminfo.get("MemAvailable"), group_free),
        swap=swap,
        swap_used=None if swap is None or swap_free is None else swap - swap_free,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def memory_free() -> int | None:
    """Bytes that this process may still take without swapping."""
    return _least(_meminfo().get("MemAvailable"), group_limits()[2])


def usable_memory() -> int | None:
    """Bytes of this machine's memory that its control group allows; None where the system does not tell."""
    return _least(physical_bytes(), group_limits()[1])


def disk_of(path: Path) -> Disk:
    """The room where `path` is, or would be made."""
    place = path.expanduser().absolute()
    while not place.exists():
        place = place.parent
    return Disk(path, shutil.disk_usage(place).free)


def group_limits(
    listed: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> tuple[float | None, int | None, int | None]:
    """Of this process's control groups: cores' worth of time, bytes of memory, and how many of these are free.

    A group is also bound by those that it lies in, so the least of all is taken.
    """
    cpus: list[float] = []
    limits: list[int] = []
    free: list[int] = []
    for folder in _groups(listed, mounted):
        quota, period = (*_words(folder / "cpu.max"), "", "")[:2]
        if not quota:
            quota, period = _word(folder / "cpu.cfs_quota_us"), _word(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            cpus.append(int(quota) / int(period))
        limit = _word(folder / "memory.max") or _word(folder / "memory.limit_in_bytes")
        if limit.isdecimal():
            used = _word(folder / "memory.current") or _word(folder / "memory.usage_in_bytes")
            words = _words(folder / "memory.stat")
            stat = dict(zip(words[::2], words[1::2], strict=False))
            cached = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"
            limits.append(int(limit))
            free.append(max(0, int(limit) - int(used or 0) + int(cached)))
    return min(cpus, default=None), min(limits, default=None), min(free, default=None)


def _groups(listed: Path, mounted: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, of version 2 and 1, and those around them."""
    try:
        lines = [line.split(":", 2) for line in listed.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        top = mounted if not controllers else mounted / controllers.split(",")[0]
        folder = top / path.lstrip("/")
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(top) and place.is_dir())


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _word(path: Path) -> str:
    return next(iter(_words(path)), "")


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty elsewhere than on Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}


def _least(*numbers: int | None) -> int | None:
    return min((n for n in numbers if n is not None), default=None)


def _processor() -> str:
    """The name on the box."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # another system, or a processor that does not tell
        return platform.processor() or platform.machine()
