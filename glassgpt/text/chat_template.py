"""Chat templates: how the messages of a conversation become ids.

A template marks who says what with control tokens. They are put in here as ids, and what people type is encoded as
ordinary text, so typing the name of a control token never makes one. The template is code; a model directory's own,
which is a program in Jinja, is only looked at to see which one it is.

ChatML is the one known so far: `<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n`.
"""

from pathlib import Path

from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.tokenizer_files import read_json

START, END = "<|im_start|>", "<|im_end|>"


class ChatML:
    """Messages between two control tokens, the first line of each naming who speaks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.start = tokenizer.vocabulary.special[START]
        self.end = tokenizer.vocabulary.special[END]

    def message(self, role: str, content: str) -> list[int]:
        """A whole message of `role`: "system", "user" or "assistant"."""
        return [self.start, *self._tokenizer.encode(f"{role}\n{content}"), *self.closing()]

    def opening(self) -> list[int]:
        """What the model's answer follows."""
        return [self.start, *self._tokenizer.encode("assistant\n")]

    def closing(self) -> list[int]:
        """What follows the model's answer, of which it writes the first token itself."""
        return [self.end, *self._tokenizer.encode("\n")]


def chat_template(directory: Path, tokenizer: Tokenizer) -> ChatML | None:
    """The template of a model directory, if it has one that is known."""
    has_tokens = {START, END} <= set(tokenizer.vocabulary.special)
    return ChatML(tokenizer) if has_tokens and START in _jinja(directory) else None


def _jinja(directory: Path) -> str:
    """The template that lies in the directory, in a file of its own or in tokenizer_config.json; else nothing."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    config = directory / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.is_file() else None
    return found if isinstance(found, str) else ""
