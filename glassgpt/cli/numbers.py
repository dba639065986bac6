"""Numbers as a user types them."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def whole_number(kind: Any, tokens: Sequence[Token]) -> int:
    """The whole number that was typed. Raises ValueError for anything else, 1.5 too (cyclopts would round it)."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{tokens[0].keyword or 'the value'} is {text!r}, but must be a whole number") from None


Whole = Annotated[int, Parameter(converter=whole_number)]
"""An option that takes a whole number."""
