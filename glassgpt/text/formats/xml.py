"""XML parts of a document, read block by block with expat."""

from collections.abc import Callable, Iterator
from typing import Protocol
from xml.parsers import expat

from glassgpt.text.formats.interface import NotText, Source

_BLOCK = 1 << 18
_LARGEST_TAG = 16 * 1024 * 1024  # bytes; expat holds a whole tag or comment in memory
_DEEPEST = 5000
_MOST_NAMES = 50_000  # expat and its door in Python keep every name that they have met


class Reader(Protocol):
    """Makes text of the elements as they come; their names are "namespace local"."""

    pieces: list[str]

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def data(self, text: str) -> None: ...


def read_xml(source: Source, part: str, reader: Reader) -> Iterator[str]:
    """Give `source` to `reader`; yield its pieces of text after each block.

    Raises NotText, which names the `part`, for XML that is damaged, that declares entities or types of its own (a few
    entities can stand for gigabytes), that nests elements by the thousands, or that has names by the ten thousands.
    """
    parser = _parser(part, reader)
    n_read = 0
    while True:
        block = source.read(_BLOCK)
        n_read += len(block)
        try:
            parser.Parse(block, not block)
        except (expat.ExpatError, ValueError, LookupError) as error:
            reason = str(error).partition("\n")[0][:100]
            raise NotText(f"is damaged: {reason}, in {part}; save it anew with the program that made it") from None
        if n_read - parser.CurrentByteIndex > _LARGEST_TAG:
            raise NotText(f"has a tag of over {_LARGEST_TAG >> 20} MB in {part}; save it as plain text and give that")
        if len(parser.intern) > _MOST_NAMES:
            raise NotText(f"has over {_MOST_NAMES:,} names of elements in {part}; save it as plain text and give that")
        if reader.pieces:
            yield "".join(reader.pieces)
            reader.pieces.clear()
        if not block:
            return


def read_elements(source: Source, part: str, element: Callable[[str, dict[str, str]], None]) -> None:
    """Call `element` with the local name and the attributes of each element of a part that is no text."""
    for _ in read_xml(source, part, _Elements(element)):
        pass


class _Elements:
    """A reader without text."""

    def __init__(self, element: Callable[[str, dict[str, str]], None]) -> None:
        self.pieces: list[str] = []
        self._element = element

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._element(split_name(name)[1], attributes)

    def end(self, name: str) -> None: ...

    def data(self, text: str) -> None: ...


def _parser(part: str, reader: Reader) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise NotText(f"nests more than {_DEEPEST:,} elements in {part}; save it as plain text and give that")
        reader.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(name)

    def refuse_declarations(name: str, system: str | None, public: str | None, has_declarations: int) -> None:
        if has_declarations:
            raise NotText(f"declares entities in {part}, which is refused; save it as plain text and give that")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = refuse_declarations
    parser.StartNamespaceDeclHandler = lambda prefix, uri: None  # so that they are counted among the names
    return parser


def split_name(name: str) -> tuple[str, str]:
    """The namespace, empty where there is none, and the local name."""
    namespace, _, local = name.rpartition(" ")
    return namespace, local
