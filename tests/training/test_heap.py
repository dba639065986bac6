"""Which memory comes from the system: counted by the system, in a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from glassgpt.training.heap import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    for size in (2**22, 2**21, 2**23):
        torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    before = faults()
print(faults() - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to")
def test_what_was_freed_is_not_asked_of_the_system_again() -> None:
    faults = {}
    for word in ("keep", "default"):
        done = subprocess.run([sys.executable, "-c", COUNT_FAULTS, word], capture_output=True, text=True, check=True)
        faults[word] = int(done.stdout)
    assert faults["keep"] < 100 < faults["default"]
