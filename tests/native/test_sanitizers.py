"""The decoder under the address and undefined-behaviour sanitisers, and what they say of a fault that is put in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from decoders import tiers_of_this_processor

ROOT = Path(__file__).parents[2]
WATCHING = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def compiler():
    found = os.environ.get("CXX") or next((name for name in ("c++", "g++") if shutil.which(name)), None)
    if found is None or sys.platform != "linux":
        assert os.environ.get("CI") != "true", "CI runs on Linux and has a compiler"
        pytest.skip("needs a C++ compiler on Linux")
    return found


def copy_of_the_package(folder):
    """The package without its compiled library, and what compiles it."""
    compiled = shutil.ignore_patterns("libglassgpt.*", "__pycache__")
    shutil.copytree(ROOT / "glassgpt", folder / "glassgpt", ignore=compiled)
    shutil.copytree(ROOT / "native", folder / "native")
    shutil.copy(ROOT / "hatch_build.py", folder)
    return folder


def compile_watching(folder):
    """Compile as the package is compiled, with the sanitisers."""
    environment = os.environ | {"CXX": compiler(), "CXXFLAGS": WATCHING}
    subprocess.run([sys.executable, "hatch_build.py"], cwd=folder, env=environment, check=True, capture_output=True)


def drive(folder, tier, *arguments):
    """Run drive.py on a watching library."""
    runtime = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = os.environ | {
        "PYTHONPATH": str(folder), "LD_PRELOAD": runtime.stdout.strip(), "GLASSGPT_NATIVE_TIER": tier,
        "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("drive.py")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = copy_of_the_package(tmp_path_factory.mktemp("watched"))
    compile_watching(folder)
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("tier", tiers_of_this_processor())
def test_the_decoder_never_leaves_its_buffers(tier, watched):
    result = drive(watched, tier)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == f"driven: {tier}\n"


@pytest.mark.thorough
def test_a_matrix_shorter_than_it_says_is_caught_by_the_watch(watched):
    result = drive(watched, "plain", "too short")
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr
