import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system does not tell")
def test_the_time_before_the_first_import_counts() -> None:
    script = (
        "import time; time.sleep(0.3); from glassgpt.cli.process import began; "
        "print(time.perf_counter() - began(), time.process_time())"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    age, busy = map(float, found.stdout.split())
    assert age >= 0.3 + busy - 0.02, "the kernel counts in hundredths of a second"
