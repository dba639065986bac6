"""Files of any format -> text, block by block: no file is ever held in memory as a whole.

Reading order: `interface` (what a reader is given and gives), `encodings` and `guessing` (bytes -> text), the text
formats `json_lines` and `html` with `layout`, then `archives` and `xml` with the formats made of them, `word`,
`opendocument` and `epub`, `foreign` (what is refused, and the advice), and `reading`, the door to all of them.
"""

from glassgpt.text.formats.encodings import check_encoding as check_encoding
from glassgpt.text.formats.interface import FileFacts as FileFacts
from glassgpt.text.formats.interface import FormatOptions as FormatOptions
from glassgpt.text.formats.interface import NotText as NotText
from glassgpt.text.formats.interface import TextSink as TextSink
from glassgpt.text.formats.reading import read_file as read_file
