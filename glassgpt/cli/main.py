"""`glassgpt VERB ...`: finds the command, runs it, and turns what goes wrong into one line and an exit code.

Exit codes: 0 done, 1 failed while working, 2 the input or the flags are wrong, 130 interrupted.
"""

import errno
import inspect
import io
import os
import signal
import sys
import warnings
from pathlib import Path

from cyclopts import App, CycloptsError

from glassgpt import __version__, settings
from glassgpt.cli import process  # noqa: F401 (it notes the time)
from glassgpt.cli.mistakes import advice, unknown_option
from glassgpt.config import SECTIONS
from glassgpt.settings import InputError
from glassgpt.training.interruption import stopping

app = App(
    name="glassgpt",
    help="Your text, your minutes, a GPT you can see through.",
    version=__version__,
    help_flags=["--help", "-h"],
    help_epilogue="Begin with: glassgpt train book.txt",
)
FIELDS = "; ".join(
    f"--{section}. " + ", ".join(name.replace("_", "-") for name in kind.__dataclass_fields__)
    for section, kind in SECTIONS.items()
)
EPILOGUES = {
    "train": {"help_epilogue": f"Every setting can be given, such as --model.n-layers 6. There are {FIELDS}."},
    "compare": {"help_epilogue": "Begin with: glassgpt compare --with optim.learning_rate=3e-3 --steps 300"},
    "generate": {"help_epilogue": "Begin with: glassgpt generate --prompt \"Once upon a time\""},
    "chat": {"help_epilogue": "On a pipe each line is a turn. In the conversation, /help lists its commands."},
    "eval": {"help_epilogue": "Begin with: glassgpt eval --data other.txt"},
    "inspect": {"help_epilogue": "Begin with: glassgpt inspect --prompt \"Once upon a time\" --out page.html"},
    "export": {"help_epilogue": "Begin with: glassgpt export runs/book --format html --out book.html"},
    "completion": {
        "help_epilogue": "~/.bashrc: eval \"$(glassgpt completion bash)\". ~/.zshrc, after compinit, the same for "
        "zsh. fish: glassgpt completion fish > ~/.config/fish/completions/glassgpt.fish"
    },
    "doctor": {"help_epilogue": "Begin with: glassgpt doctor. After a bad night: glassgpt data verify runs/book"},
    "plan": {"help_epilogue": "Any field can be changed, such as --model.n-layers 6 --optim.batch-size 4."},
}

for order, (verb, place, summary) in enumerate((
    ("train", "train:train", "Train a GPT on your text."),
    ("compare", "compare:compare", "Say which of several settings is better, if any."),
    ("generate", "generate:generate", "Let a model write on from a prompt."),
    ("chat", "chat:chat", "Talk with a model, or let it go on with your text."),
    ("eval", "evaluate:evaluate", "Measure bits per byte, loss and perplexity over all of a text."),
    ("inspect", "inspect:inspect", "Show what a model does with a prompt: tokens, attention, layers, heads."),
    ("export", "export:export", "Write a model as a directory of its own, or as one HTML file that writes."),
    ("plan", "plan:plan", "Say what a model is and costs, before it exists."),
    ("tokenizer", "tokenizer:app", "Train a tokenizer, encode a text, decode ids."),
    ("data", "data:app", "Prepare a text, look at what was prepared, check it or a whole run."),
    ("doctor", "doctor:doctor", "Say what this machine is and how fast, or what looks wrong in a run."),
    ("completion", "completion:completion", "Print a script by which your shell completes commands."),
)):
    app.command(f"glassgpt.cli.{place}", name=verb, help=summary, sort_key=order, **EPILOGUES.get(verb, {}))

OURS = str(Path(__file__).parents[1])
"""Where our own warnings come from; they are lines for the user."""
NEWEST = ""
"""What --resume without a name stands for."""
TAKES_SETTINGS = ("train", "plan")
"""The commands that take `--section.field value`."""


def main() -> None:
    """The entry point of the `glassgpt` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe of Windows may have no letter for what is written
            stream.reconfigure(errors="replace")
    warnings.formatwarning = _as_line
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    code = run([argument for argument in arguments if argument != "--debug"], debug)
    if code != 130:
        for number in stopping():  # all is done: a signal would only interrupt the leaving
            signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        pass
    os._exit(code)  # all files are closed; to take PyTorch apart would keep the user waiting for most of a second


def _as_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as Python shows it, but of our own only what it says."""
    if filename.startswith(OURS):
        return f"glassgpt: {settings.one_line(str(message))}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def run(arguments: list[str], debug: bool = False) -> int:
    """Run a command line and return its exit code. With `debug`, errors keep their traceback."""
    try:
        return _run(arguments)
    except (InputError, CycloptsError) as error:
        if debug:
            raise
        return _fail(advice(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _fail(f"{error.filename} is too long for the name of a file: give a shorter one", 2)
        text = " ".join(str(error).split()) or type(error).__name__
        known = type(error).__module__.startswith("glassgpt.")
        return _fail(text if known else f"{type(error).__name__}: {text}; --debug shows where", 1)


def _run(arguments: list[str]) -> int:
    overrides: dict[str, dict[str, str]] = {}
    if arguments and (arguments[0] in TAKES_SETTINGS or arguments[:2] == ["data", "prepare"]):
        overrides, arguments = settings.split_overrides(arguments, SECTIONS)
    if "--resume" in arguments and arguments[0] == "train":  # without a name it is the newest run
        after = [*arguments[arguments.index("--resume") + 1 :], "--"][0]
        arguments = [f"--resume={NEWEST}" if a == "--resume" and after.startswith("-") else a for a in arguments]
    command, bound, unparsed = app.parse_args(arguments or ["--help"], exit_on_error=False, print_error=False)
    for argument in bound.args:  # texts may be "-", so cyclopts lets every hyphen through to them
        if isinstance(argument, str) and argument.startswith("-") and argument != "-":
            raise InputError(unknown_option(argument, inspect.signature(command).parameters))
    if "overrides" in unparsed:
        bound.arguments["overrides"] = overrides
    return command(*bound.args, **bound.kwargs) or 0


def _fail(message: str, code: int) -> int:
    print(f"glassgpt: {settings.one_line(message)}", file=sys.stderr)
    return code
