import signal
import subprocess
import sys

import pytest

from glassgpt.cli.process import interruptible_imports


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system does not tell")
def test_the_time_before_the_first_import_counts() -> None:
    script = (
        "import time; time.sleep(0.3); from glassgpt.cli.process import began; "
        "print(time.perf_counter() - began(), time.process_time())"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    age, busy = map(float, found.stdout.split())
    assert age >= 0.3 + busy - 0.02, "the kernel counts in hundredths of a second"


def test_a_ctrl_c_among_the_imports_ends_the_process_though_a_library_would_swallow_it() -> None:
    script = """
import signal
from glassgpt.cli.process import interruptible_imports
with interruptible_imports():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass
print("went on")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (130, "")
    assert found.stderr == "glassgpt: interrupted before anything was begun\n"


def test_after_the_imports_a_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible_imports():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
