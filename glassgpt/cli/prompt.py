"""A prompt as a user gives it."""

import sys

from glassgpt.settings import InputError, is_unicode


def read_prompt(prompt: str) -> str:
    """The text; - is all of standard input. Raises InputError where it is no UTF-8."""
    if prompt == "-":
        try:
            return sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"the prompt is not valid UTF-8 (at byte {error.start}): give it as UTF-8 text") from None
    if not is_unicode(prompt):
        raise InputError("the prompt is not valid UTF-8: give it as UTF-8 text")
    return prompt
