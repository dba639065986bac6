"""`glassgpt chat`: a conversation with a model, in the terminal or line by line on a pipe."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from glassgpt.cli.process import interruptible_imports, say_which
from glassgpt.cli.words import WordWrap, command, printable
from glassgpt.cli.writing import DEFAULT, Writing
from glassgpt.config import Device, Dtype
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.conversation import Conversation

COMMANDS = {
    "/again": "another answer",
    "/reset": "forget the conversation",
    "/save FILE": "write the conversation to a file",
    "/help": "this list",
    "/quit": "leave; Ctrl-D does too",
}


def chat(
    directory: str | None = None,
    /,
    *,
    writing: Writing = DEFAULT,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    trust_code: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Talk with a model. One without a chat template goes on with your text instead.

    In a terminal, lines can be edited and the arrow up brings back earlier ones; Ctrl-C stops an answer. On a pipe,
    each line of standard input is a turn. /help lists the commands.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    dtype
        What the weights are rounded to; int8 and int4 are faster and less exact. auto: fp32, or what DIR has.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    """
    sampling = writing.sampling()
    writing.stop_strings()  # refuses what cannot be, before the model is loaded
    with interruptible_imports():
        from glassgpt.api.conversation import Conversation
        from glassgpt.api.loaded import load

        gpt = load(directory, device=device, dtype=dtype, trust_code=trust_code)
        gpt.prepare()
    if directory is None:
        say_which(gpt.directory)
    conversation = Conversation(gpt, sampling, writing.max_new_tokens, writing.stops)
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if conversation.template is None:
        _tell("This model has no chat template, so it was not taught to answer: it goes on with your text instead.")
    if in_terminal:
        _tell("Ctrl-C stops its writing or clears your line, Ctrl-D leaves, /help lists the commands.")
    if in_terminal:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as often as it is pressed
    for typed in _typed_lines() if in_terminal else _lines_of_stdin():
        try:
            if not _turn(conversation, typed):
                break
        except KeyboardInterrupt as interrupt:
            if not in_terminal or interrupt.args:  # SIGTERM or a closed terminal
                raise
            print(flush=True)
        except InputError as error:
            _tell(str(error))
    named = [*([directory] if directory else []), *(["--trust-code"] if trust_code else [])]
    after = command("generate", *named, "--show-probabilities")
    _tell(f"{'' if in_terminal else chr(10)}Next: {after}")
    return 0


def _turn(conversation: "Conversation", typed: str) -> bool:
    """Answer a line or obey a command; False where it ends the conversation."""
    name, _, argument = typed.strip().partition(" ")
    if not typed.startswith("/"):
        if typed or conversation.template is None:
            _show(conversation.say(typed))
    elif name == "/again":
        _show(conversation.again())
    elif name == "/reset":
        conversation.reset()
        _tell("The conversation is forgotten.")
    elif name == "/save":
        _save(conversation.text, argument.strip())
    elif name == "/help":
        for command, meaning in COMMANDS.items():
            _tell(f"{command:<12}{meaning}")
        _tell("A line that begins with a space is text, whatever follows.")
        if conversation.template is None:
            _tell("An empty line lets the model write on.")
    elif name != "/quit":
        _tell(f"there is no command {name}: /help lists those there are")
    return name != "/quit"


def _show(pieces: Iterator[str]) -> None:
    """Print pieces as they come; in a terminal, lines end between words."""
    wrap = WordWrap(shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
    try:
        for piece in pieces:
            print(wrap.feed(printable(piece)) if wrap else piece, end="", flush=True)
    finally:
        print(wrap.flush() if wrap else "", flush=True)


def _save(text: str, name: str) -> None:
    """Write the conversation to a new file. Raises InputError where that cannot be."""
    if not name:
        raise InputError("/save needs the name of a file, such as /save talk.txt")
    try:
        with open(Path(name).expanduser(), "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{name} exists already: give another name") from None
    except OSError as error:
        raise InputError(f"cannot write {name}: {error.strerror}; give another name") from None
    _tell(f"saved in {name}")


def _typed_lines() -> Iterator[str]:
    """Lines typed in a terminal, until Ctrl-D."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    from glassgpt.api.texts import DEFAULT_CACHE

    path = DEFAULT_CACHE.expanduser() / "chat_history"
    history: History
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(path)
    except OSError:  # a home that cannot be written: this conversation has its own history only
        history = InMemoryHistory()
    terminal: PromptSession[str] = PromptSession([("bold", "> ")], history=history)
    while True:
        try:
            yield terminal.prompt()
        except KeyboardInterrupt as interrupt:
            if interrupt.args:
                raise
            continue
        except EOFError:
            return


def _lines_of_stdin() -> Iterator[str]:
    for n, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"line {n} of standard input is not valid UTF-8: give UTF-8 text") from None


def _tell(text: str) -> None:
    """A line about the conversation, which is no part of it."""
    print(text, file=sys.stderr, flush=True)
