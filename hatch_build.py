"""Compiles native/ into glassgpt/native/libglassgpt.* when the package is built; `python hatch_build.py` does it alone.

Where there is no compiler, or it refuses, the package is built without: PyTorch then does the work.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FLAGS = [
    "-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-psabi",
]  # fmt: skip
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
VNNI = [*AVX512, "-mavx512vnni"]
TIERS = {
    "plain": [], "avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512_vnni": VNNI,
    "avx512_bf16": [*VNNI, "-mavx512bf16"],
}  # fmt: skip
"""Name -> flags that switch its instructions on; all but the first are for x86-64."""
KERNELS = {
    "train": ("plain", "avx2", "avx512", "avx512_bf16"),
    "decode": ("plain", "avx2", "avx512", "avx512_vnni"),
}
"""Source file -> the tiers that it is compiled for."""


def compile_native(root: Path) -> Path:
    """Compile; returns the library. Raises OSError or subprocess.CalledProcessError where that fails."""
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), "c++")
    compiler = shlex.split(os.environ.get("CXX", found))
    more = shlex.split(os.environ.get("CXXFLAGS", ""))
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    ending = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    library = root / "glassgpt" / "native" / f"libglassgpt.{ending}"

    def run(*arguments: str) -> None:
        subprocess.run([*compiler, *arguments, *more], check=True, capture_output=True, text=True, cwd=root / "native")

    with tempfile.TemporaryDirectory() as folder:

        def compile_kernel(source: str, tier: str) -> bool:
            name = f"-DGLASSGPT_TIER=glassgpt_{source}_{tier}"
            try:
                run(*FLAGS, *TIERS[tier], name, "-c", f"{source}.cpp", "-o", f"{folder}/{source}_{tier}.o")
            except subprocess.CalledProcessError:
                if tier != "avx512_bf16":  # instructions that older compilers do not know
                    raise
                return False
            return True

        wanted = [(source, tier) for source, tiers in KERNELS.items() for tier in tiers if x86 or tier == "plain"]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            succeeded = pool.map(compile_kernel, *zip(*wanted))
            compiled = [one for one, there in zip(wanted, succeeded, strict=True) if there]
        defines = [f"-DGLASSGPT_{tier.upper()}" for source, tier in compiled if source == "train"]
        for source in ("tiers", "trainer", "decoder"):
            run(*FLAGS, *defines, "-c", f"{source}.cpp", "-o", f"{folder}/{source}.o")
        objects = [*(f"{source}_{tier}" for source, tier in compiled), "tiers", "trainer", "decoder"]
        objects = [f"{folder}/{name}.o" for name in objects]
        aside = library.with_name(f".{library.name}.{os.getpid()}")
        run("-shared", "-pthread", *objects, "-o", str(aside))
        os.replace(aside, library)  # a process that has the old one open keeps it
    return library


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    pass
else:

    class NativeBuild(BuildHookInterface):
        """What hatchling calls before it packs the wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Add the library to the wheel, where it compiles."""
            try:
                library = compile_native(Path(self.root))
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", None) or error
                self.app.display_warning(f"glassgpt is built without its native code; PyTorch does its work.\n{reason}")
                return
            build_data["pure_python"] = False
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{system}"
            build_data["artifacts"].append(str(library.relative_to(self.root)))


if __name__ == "__main__":
    print(compile_native(Path(__file__).parent))
