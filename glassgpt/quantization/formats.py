"""The formats of whole numbers. No torch here."""

from typing import Literal, get_args

Format = Literal["int8", "int4"]
FORMATS: tuple[Format, ...] = get_args(Format)
