"""Which encoding bytes are in that are not UTF-8, where they show it beyond doubt.

charset-normalizer says in which encodings a sample looks like the text of some language. Its best answer is often one
of several that differ in a few letters (ż for ¿), so the letters decide: only a reading counts whose letters belong to
the alphabet of one language, but for 1 in 200. Where two of them do so equally well, nothing is guessed.
"""

import codecs
import itertools
import re
import unicodedata
from typing import NamedTuple

from glassgpt.text.formats.encodings import BLOCK
from glassgpt.text.formats.interface import Source

_SAMPLE = 128_000  # bytes from where the file stops being ASCII, and as many from where it stops being UTF-8
_BEFORE = 32_000
_SEARCHED = 16 * BLOCK
_LONGEST_LINE = 4096
_ENOUGH = 16  # characters beyond ASCII
_WINDOWS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256")
_OTHERS = ("koi8_r", "iso8859_15", "iso8859_2", "iso8859_5", "cp866")
_MULTI_BYTE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_OLD = ("cp850", "mac_roman")  # of DOS and of the Macintosh: taken only where no other reading makes sense
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")

_SIGNS = "“”„‘’‚‹›«»–—…•€£§©®°·½¼¾×™\xa0\xad"
_LETTERS = (
    *("äöüß", "àâæçéèêëîïôœùûü", "áéíñóúü¿¡ºª", "ãáâàçéêíóôõúüºª", "àèéìíîòóùú", "áàçèéíïòóúüñ", "éëïóöüè"),
    *("åäöé", "æøåéèêóòâ", "ðþæöáéíóúý", "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű"),
    *("ăâîșțşţ", "čćđšž", "çğıöşüâîûİ", "абвгдежзийклмнопрстуфхцчшщъыьэюяё№"),
    *("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя№", "абвгдђежзијклљмнњопрстћуфхцчџш"),
    *("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ·", "אבגדהוזחטיךכלםמןנסעףפץצקרשת"),
)
_ALPHABETS = [frozenset(letters + letters.upper()) for letters in _LETTERS]
_NOT_WITHIN_WORDS = re.compile(r"[^\W\d_][¼½¾](?=[^\W\d_])|[ςךםןףץ](?=[^\W\d_])")  # œ in ISO 8859-15, and final letters
_ARABIC = re.compile(r"[\u0600-\u06ff]")
_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_EAST_ASIAN = re.compile(r"[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e\u2010-\u2026×·°〜]")


def guess_encoding(source: Source, first: int, offset: int) -> str | None:
    """The encoding of `source`, or None where its bytes do not show it.

    `first` is an offset before which all is ASCII, `offset` that of a byte which is not UTF-8.
    """
    source.seek(0)
    if wide := _guess_wide(source.read(_SAMPLE)):
        return wide
    sample = _lines_beyond_ascii(source, first)
    if offset > first + _SAMPLE:
        sample += _lines_beyond_ascii(source, offset - _BEFORE).partition(b"\n")[2]  # its first line is half a line
    if _is_damaged_utf8(sample) or b"\0" in sample:
        return None
    return _guess_by_language(sample)


def _guess_by_language(sample: bytes) -> str | None:
    import charset_normalizer  # loads large tables, which most runs do not need

    candidates: list[str] = [*_WINDOWS, *_OTHERS, *_MULTI_BYTE, *_OLD]  # of two that read the same, the first
    matches = charset_normalizer.from_bytes(
        sample, 16, 1024, 0.2, candidates, preemptive_behaviour=False, enable_fallback=False
    )
    readings: dict[str, _Reading] = {}  # by the text
    for match in matches:
        encoding = min(match.could_be_from_charset, key=candidates.index)
        if match.chaos <= 0.1 and (match.coherence >= 0.2 or encoding in _MULTI_BYTE):
            text = sample.decode(encoding, errors="replace")
            n_strangers = _n_strangers(text)
            if n_strangers is not None:
                readings[text] = _Reading(encoding in _OLD, n_strangers, -match.coherence, encoding)
    if not readings:
        return None
    best, *others = sorted(readings.values())
    return codecs.lookup(best.encoding).name if all(map(best.is_clearly_before, others)) else None


class _Reading(NamedTuple):
    """What speaks for an encoding; the smallest is the best."""

    is_old: bool
    n_strangers: int
    unlikeness: float  # to the letter frequencies of a language
    encoding: str

    def is_clearly_before(self, other: "_Reading") -> bool:
        return self[:2] < other[:2] or self.unlikeness < other.unlikeness - 0.15


def _lines_beyond_ascii(source: Source, start: int) -> bytes:
    """Whole lines that are not all ASCII, from `start` on; of a very long one the beginning."""
    source.seek(start)
    found: list[bytes] = []
    n_found, rest = 0, b""
    for _ in range(_SEARCHED // BLOCK):
        block = source.read(BLOCK)
        *lines, rest = (rest + block).split(b"\n")
        is_last = not block or len(rest) > BLOCK
        if is_last:
            lines.append(rest)
        for line in lines:
            if len(line) > _LONGEST_LINE:
                end = max(line.rfind(mark, 0, _LONGEST_LINE) for mark in (b" ", b"\r", b"\t", b"."))
                line = line[: end + 1 if end > 0 else _SAMPLE]  # these four never are half of a character
            if not line.isascii() and n_found < _SAMPLE:
                found.append(line)
                n_found += len(line) + 1
        if is_last or n_found >= _SAMPLE:
            break
    return b"\n".join(found) + b"\n"


def _is_damaged_utf8(sample: bytes) -> bool:
    """Whether more of the characters beyond ASCII are valid UTF-8 than not."""
    text = sample.decode("utf-8", errors="replace")
    n_invalid = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - n_invalid > n_invalid


def _n_strangers(text: str) -> int | None:
    """How many characters beyond ASCII are not those of the language that the text is most likely in.

    None where they are too many for any language, or where there are too few characters to tell.
    """
    beyond = "".join(character for character in text if character > "\x7f" and character not in "\xa0\xad")
    if len(beyond) < _ENOUGH:
        return None
    if _n_misplaced(text) > len(beyond) / 500:
        return None
    letters = "".join(character for character in beyond if character not in _SIGNS)
    n_east_asian = len(_EAST_ASIAN.findall(letters))
    n_kana, n_hangul = len(_KANA.findall(letters)), len(_HANGUL.findall(letters))
    if n_kana > n_east_asian / 5:
        n_strangers = len(letters) - n_east_asian + n_hangul
    elif n_hangul > n_east_asian * 0.8:  # almost all that is written in Korean is in EUC-KR's smaller set of syllables
        n_strangers = sum(len(letter.encode("euc_kr", "ignore")) != 2 for letter in letters) + n_kana
    elif n_east_asian > len(letters) / 2:
        n_strangers = len(letters) - n_east_asian + n_kana + n_hangul
    elif len(_ARABIC.findall(letters)) > len(letters) * 0.95:
        n_strangers = 0
    elif sum(map(str.isupper, letters)) > sum(map(str.islower, letters)):
        return None  # KOI8 and Windows Cyrillic taken for each other swap the case
    else:
        n_strangers = min(sum(character not in alphabet for character in letters) for alphabet in _ALPHABETS)
    return n_strangers if n_strangers <= len(beyond) / 200 else None


def _n_misplaced(text: str) -> int:
    """Characters that stand where no language has them: capitals behind small letters, final letters before others."""
    pairs = itertools.pairwise(text)
    n_capitals = sum(one > "\x7f" and other > "\x7f" and one.islower() and other.isupper() for one, other in pairs)
    return n_capitals + len(_NOT_WITHIN_WORDS.findall(text))


def _guess_wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark: few scripts, spaces among them, nothing unassigned."""
    for encoding in _WIDE:
        width = 4 if "32" in encoding else 2
        try:
            text = sample[: len(sample) // width * width].decode(encoding)
        except UnicodeDecodeError as error:
            if error.start < len(sample) - 4:
                continue
            text = sample[: error.start].decode(encoding)
        if len(text) >= _ENOUGH and _is_plain(text):
            return encoding
    return None


def _is_plain(text: str) -> bool:
    """Whether there is nothing in `text` but characters that texts are made of."""
    n_spaces = sum(character in " \n\r\t\u3000\u3001\u3002\uff0c" for character in text)
    if n_spaces < len(text) / 50:
        return False
    scripts: dict[str, int] = {}
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cn", "Co", "Cs") and character not in "\t\n\r\f\ufeff":
            return False
        if category.startswith("L"):
            script = unicodedata.name(character, "").partition(" ")[0]
            scripts[script] = scripts.get(script, 0) + 1
    counts = sorted(scripts.values(), reverse=True)
    return sum(counts[:4]) >= 0.98 * sum(counts) > 0
