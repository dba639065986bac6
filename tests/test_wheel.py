"""What `python -m build` makes is all that a user needs: installed elsewhere, it plans, trains and writes.

The environment is a new one that holds GlassGPT alone; its dependencies are those of the test environment, put at the
end of its path. What it declares to depend on is checked by what its modules import.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[1]
NEEDED = [
    "glassgpt/py.typed", "glassgpt/text/gpt2_vocab.bpe.gz", "glassgpt/planning/scaling.json",
    "glassgpt/planning/writing_samples.json", "glassgpt/text/LICENSE-gpt2",
    "glassgpt/inspection/web/base.css", "glassgpt/inspection/web/report.js", "glassgpt/interop/web/model.js",
]  # fmt: skip
LICENCES = ["licenses/LICENSE", "licenses/glassgpt/text/LICENSE-gpt2"]


@dataclass(frozen=True)
class Built:
    """The two files that `python -m build` makes."""

    sdist: Path
    wheel: Path

    def names(self) -> list[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.namelist()


def build(folder: Path, **environment: str) -> Built:
    """Build from a copy of the checkout: the sdist, and the wheel from that."""
    ignored = shutil.ignore_patterns("__pycache__", "libglassgpt.*", ".*", "runs", "dist", "tests", "notebooks", "docs")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), "checkout"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As it is built here."""
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As it is built where no compiler works."""
    return build(tmp_path_factory.mktemp("pure"), CXX="no-compiler-of-this-name")


def install(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel in it; returns its `glassgpt` command."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    installing = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*installing, str(wheel)], check=True, env=without_checkout())
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n", encoding="utf-8")
    return scripts / "glassgpt"


def without_checkout() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def works(command: Path, folder: Path) -> str:
    """What a user does first, in a folder of their own; returns the run's settings."""
    (folder / "book.txt").write_text("Once there was a small fox. It found a red stone.\n" * 200, encoding="utf-8")

    def run(*arguments: str) -> str:
        environment = without_checkout() | {"HOME": str(folder), "USERPROFILE": str(folder)}
        done = subprocess.run(
            [str(command), *arguments], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python = command.with_name(Path(sys.executable).name)
    asked = [str(python), "-c", "import glassgpt; print(glassgpt.__file__)"]
    imported = subprocess.run(asked, cwd=folder, env=without_checkout(), capture_output=True, text=True, check=True)
    assert Path(imported.stdout).is_relative_to(folder), "it is the wheel that is tested"
    assert "train" in run("--help")
    assert "124,439,808" in run("plan", "gpt2-small")
    run("train", "book.txt", "--steps", "5", "--tokenizer", "bytes", "--optim.batch-size", "4", "--run.threads", "1")
    assert run("generate", "--prompt", "Once", "--max-new-tokens", "5", "--temperature", "0").startswith("Once")
    assert (folder / "runs" / "book" / "best" / "model.safetensors").exists()
    return (folder / "runs" / "book" / "config.yaml").read_text(encoding="utf-8")


def test_the_wheel_trains_and_writes_where_there_is_no_checkout(built: Built, tmp_path: Path) -> None:
    settings = works(install(built.wheel, tmp_path / "environment"), tmp_path)
    assert ("kernel: native" in settings) == any("libglassgpt" in name for name in built.names())


def test_without_a_compiler_the_wheel_is_pure_and_works_as_well(pure: Built, tmp_path: Path) -> None:
    assert pure.wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in pure.names() if "libglassgpt" in name]
    assert "kernel: torch" in works(install(pure.wheel, tmp_path / "environment"), tmp_path)


@pytest.mark.parametrize("kind", ["built", "pure"])
def test_the_wheel_has_the_data_and_the_licences_and_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    names = request.getfixturevalue(kind).names()
    assert [name for name in NEEDED if name not in names] == []
    assert [name for name in LICENCES if not any(other.endswith(name) for other in names)] == []
    assert {name.split("/")[0].split("-")[0] for name in names} == {"glassgpt"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".cpp", ".pyc"))]


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here")
def test_with_a_compiler_the_wheel_has_the_native_code_and_is_of_this_system(built: Built) -> None:
    assert [name for name in built.names() if re.fullmatch(r"glassgpt/native/libglassgpt\.(so|dylib|dll)", name)]
    assert "-py3-none-any" not in built.wheel.name


def test_the_sdist_has_what_the_wheel_is_built_from_and_no_compiled_file(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for needed in [*NEEDED, "native/train.cpp", "native/decode.cpp", "hatch_build.py", "pyproject.toml", "LICENSE"]:
        assert needed in names
    assert not [name for name in names if "libglassgpt" in name]


def test_everything_that_is_imported_when_a_module_is_loaded_is_declared(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
        sources = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    declared = {re.sub(r"[-_.]+", "-", name).lower() for name in required}
    distributions = packages_distributions()
    missing = set()
    for name, source in sources.items():
        for node in ast.parse(source).body:  # not inside functions: those are imported where they are asked for
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in (module.split(".")[0] for module in modules):
                if module not in sys.stdlib_module_names and module != "glassgpt":
                    owners = {re.sub(r"[-_.]+", "-", owner).lower() for owner in distributions.get(module, [module])}
                    missing |= {f"{name}: {module}"} if not owners & declared else set()
    assert missing == set()
