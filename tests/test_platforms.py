"""What can be known here of other systems: GlassGPT on a Python from which everything is taken that they lack.

That is not a run on Windows or macOS, which remain untested; it keeps what is known of them from breaking.
"""

import ast
import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glassgpt.api.texts import run_name
from glassgpt.files import atomic
from glassgpt.text.stories import write_stories

PACKAGE = Path(__file__).parents[1] / "glassgpt"
SMALL = ["--steps", "3", "--tokenizer", "chars", "--optim.batch-size", "4", "--run.threads", "1"]

LIKE_WINDOWS = """
import importlib, io, os, pkgutil, signal, sys, time
import cyclopts, numpy, rich.live, safetensors.torch, tiktoken, tokenizers, torch, yaml  # they are made for each system

for name in ("resource", "fcntl", "termios", "tty", "pty", "pwd", "grp", "readline", "syslog", "curses"):
    sys.modules[name] = None  # importing it fails
for name in ("sched_getaffinity", "getloadavg", "fork", "forkpty", "mkfifo", "sysconf", "uname", "getuid",
             "geteuid", "getpgid", "killpg", "setsid", "chown", "pread", "wait3", "sync", "fchmod", "lchown"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTSTP", "SIGPIPE",
             "setitimer", "pause", "alarm", "sigwait", "pthread_sigmask"):
    delattr(signal, name)
for name in ("clock_gettime", "CLOCK_BOOTTIME", "tzset"):
    delattr(time, name)

def refuse(*arguments, **named):
    raise OSError(1314, "A required privilege is not held by the client")

def without_proc(real):
    def open(file, *rest, **named):
        if str(file).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", file)
        return real(file, *rest, **named)
    return open

os.symlink = os.link = refuse
import builtins
builtins.open, io.open = without_proc(open), without_proc(io.open)

import glassgpt
for module in pkgutil.walk_packages(glassgpt.__path__, "glassgpt."):
    if module.name != "glassgpt.__main__" and not module.name.startswith("glassgpt.native.lib"):
        importlib.import_module(module.name)

from glassgpt.cli.main import run
for line in sys.argv[1].splitlines():
    code = run(line.split())
    assert code == 0, (line, code)
"""

COMMANDS = f"""
train text.txt {" ".join(SMALL)}
train --resume runs/text --run.steps 5
plan gpt2-small
eval runs/text/best
generate runs/text/latest --max-new-tokens 3
compare --with optim.learning_rate=1e-2 --text text.txt --steps 2 --seeds 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `text.txt` and `grüße.txt` in it."""
    text = "".join(write_stories(60, seed=4)) + "Grüße, 你好, naïve – “quoted”.\n"
    for name in ("text.txt", "grüße.txt"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    home = {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    environment = os.environ | home | environment
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False)


@pytest.mark.thorough
def test_everything_works_without_what_only_unix_has(folder: Path) -> None:
    done = python(folder, "-c", LIKE_WINDOWS, COMMANDS)
    assert done.returncode == 0, done.stderr.decode()
    assert (folder / "runs/text/best").read_text().startswith("step-"), "a text file where links are refused"
    assert (folder / "runs/text/latest").read_text() == "step-00000005\n"
    written = [path for path in folder.rglob("*") if path.suffix in (".jsonl", ".yaml", ".txt", ".json", ".svg")]
    assert [path for path in written if b"\r" in path.read_bytes()] == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["cp1252", "C"],
)
def test_a_console_that_lacks_signs_shows_others_and_no_error(folder: Path, environment: dict[str, str]) -> None:
    name = "text.txt" if environment.get("LC_ALL") == "C" else "grüße.txt"  # which ASCII cannot name
    (folder / name).write_bytes((folder / "grüße.txt").read_bytes())
    for arguments in (
        ["plan", "gpt2-small"],
        ["train", name, *SMALL, "--out", "run"],
        ["generate", "run", "--max-new-tokens", "20", "--temperature", "3"],
        ["eval", "run", "--data", name],
        ["tokenizer", "decode", "gpt2", "222", "1"],
    ):
        done = python(folder, "-m", "glassgpt", *arguments, **environment)
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
    assert "Grüße" in (folder / "grüße.txt").read_text(encoding="utf-8")
    config = (folder / "run" / "config.yaml").read_bytes()
    assert b"\r" not in config


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("book.txt", "book"),
        ("CON.txt", "CON-run"),
        ("folder/nul.tar.txt", "nul.tar-run"),
        ("com1", "com1-run"),
        ("console.txt", "console"),
        ("a:b<c>?.txt", "a-b-c--"),
        ('say "hi"|.txt', "say -hi--"),
        ("chapter??.txt", "chapter--"),
        ("ends. .txt", "ends"),
        (".notes", "notes"),
        ("Grüße 你好.txt", "Grüße 你好"),
        ("/", "run"),
    ],
)
def test_a_run_is_named_after_its_text_and_as_every_system_allows(text: str, name: str) -> None:
    assert run_name([text]) == name


def test_a_folder_whose_system_cannot_force_it_to_the_disk_is_saved_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync_of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(answer, os.strerror(answer))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_of_files)
    answer = errno.EINVAL
    atomic.write_atomically(tmp_path / "file", b"there")
    assert (tmp_path / "file").read_bytes() == b"there"
    answer = errno.EIO
    with pytest.raises(atomic.SaveError, match="Input/output error"):
        atomic.write_atomically(tmp_path / "file", b"lost")


def calls() -> list[tuple[str, str, ast.Call]]:
    """Each call in the package: where, what is called, and the call."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", ast.unparse(node.func), node))
    return found


def test_nothing_is_renamed_over_a_file_that_is_there() -> None:
    """On Windows os.rename refuses that. Folders, which it can only move to a free name anywhere, are atomic.py's."""
    renames = [where for where, name, _ in calls() if re.search(r"\brename$", name)]
    assert {where.partition(":")[0] for where in renames} == {"files/atomic.py"}


def test_paths_are_joined_by_the_system() -> None:
    by_hand = [
        where
        for where, name, call in calls()
        if name.split(".")[-1] in ("Path", "open", "joinpath") and call.args
        and isinstance(call.args[0], ast.JoinedStr) and "/" in ast.unparse(call.args[0])
    ]  # fmt: skip
    assert by_hand == []


def test_no_process_is_forked_and_no_shell_asked() -> None:
    wanted = re.compile(r"(os\.(fork|system|popen|exec\w+|spawn\w+|kill\w*)|multiprocessing\..*|subprocess\..*)")
    assert [where for where, name, _ in calls() if wanted.fullmatch(name)] == []
