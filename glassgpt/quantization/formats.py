"""The two formats of a quantised matrix. No torch here."""

from typing import Literal

Format = Literal["int8", "int4"]

GROUP: dict[Format, int] = {"int8": 64, "int4": 32}
"""Columns of a row that share a scale: 8.25 and 4.5 bits a weight with it."""
