"""Formats that are not read, recognised by their first bytes or their name, and how to make text of them."""

AS_TEXT = "save it as plain text in UTF-8 and give that"
_UNPACK = "unpack it and give the folder"
_PDF = "a PDF document; make text of it first (pdftotext FILE, or copy its text into a .txt file) and give that"
_OLD_WORD = "an old Word document; open it and save it as .docx, or as plain text in UTF-8, and give that"
_SHEET = "a spreadsheet; save its sheet as .csv and give that"
_SLIDES = f"a presentation; {AS_TEXT}"
_PAGES = f"a Pages document; export it as .docx or .epub, or {AS_TEXT}"
_KINDLE = "a Kindle book; convert it to .epub (ebook-convert FILE book.epub, from calibre) and give that"
_PICTURE = "a picture; give the text itself"
_SOUND = "a recording; give the text itself"
OLD_OFFICE = "an old Office document, or one locked by a password; save it as plain text in UTF-8 and give that"

_BY_FIRST_BYTES = (
    (0, b"%PDF-", _PDF),
    (0, b"{\\rtf", f"a Rich Text document; open it and save it as .docx or .odt, or {AS_TEXT}"),
    (0, b"\x89PNG\r\n\x1a\n", _PICTURE),
    (0, b"\xff\xd8\xff", _PICTURE),
    (0, b"GIF87a", _PICTURE),
    (0, b"GIF89a", _PICTURE),
    (8, b"WEBP", _PICTURE),
    (60, b"BOOKMOBI", _KINDLE),
    (0, b"\xfd7zXZ\0", "compressed by xz; unpack it first (unxz FILE)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first (unzstd FILE)"),
    (4, b"1AY&SY", "compressed by bzip2; unpack it first (bunzip2 FILE)"),
    (0, b"7z\xbc\xaf\x27\x1c", f"an archive; {_UNPACK}"),
    (0, b"Rar!\x1a\x07", f"an archive; {_UNPACK}"),
    (257, b"ustar", f"an archive; {_UNPACK} (tar -xf FILE -C FOLDER)"),
)
_BY_SUFFIX = {
    ".pdf": _PDF,
    ".doc": _OLD_WORD,
    ".dot": _OLD_WORD,
    ".xls": _SHEET,
    ".ppt": _SLIDES,
    ".pages": _PAGES,
    ".mobi": _KINDLE,
    ".azw": _KINDLE,
    ".azw3": _KINDLE,
    ".tar": f"an archive; {_UNPACK} (tar -xf FILE -C FOLDER)",
    ".tgz": f"an archive; {_UNPACK} (tar -xf FILE -C FOLDER)",
    ".zip": f"an archive; {_UNPACK} (unzip FILE -d FOLDER)",
    ".xz": "compressed by xz; unpack it first (unxz FILE)",
    ".zst": "compressed by zstd; unpack it first (unzstd FILE)",
    ".bz2": "compressed by bzip2; unpack it first (bunzip2 FILE)",
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".heic"), _PICTURE),
    **dict.fromkeys((".mp3", ".m4a", ".wav", ".ogg", ".flac", ".mp4", ".mov", ".mkv"), _SOUND),
}
_BY_PART = (("xl/", _SHEET), ("ppt/", _SLIDES), ("Index/", _PAGES), ("Index.zip", _PAGES))
_BY_MIMETYPE = ((b"spreadsheet", _SHEET), (b"presentation", _SLIDES))
N_FIRST_BYTES = 300


def foreign_by_first_bytes(head: bytes) -> str | None:
    """What a file with these first bytes is, and the advice; None where they do not tell."""
    return next((what for at, mark, what in _BY_FIRST_BYTES if head.startswith(mark, at)), None)


def foreign_by_suffix(suffix: str) -> str | None:
    """What a file with this suffix is, should its bytes be no text, and the advice."""
    return _BY_SUFFIX.get(suffix)


def foreign_by_parts(names: list[str], mimetype: bytes) -> str:
    """What a zip archive with these parts is, and the advice."""
    for mark, what in _BY_MIMETYPE:
        if mark in mimetype:
            return what
    return next((what for start, what in _BY_PART for name in names if name.startswith(start)), _BY_SUFFIX[".zip"])
