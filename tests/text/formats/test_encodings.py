import random

import pytest
from format_files import read, refusal, text_of

from glassgpt.settings import InputError
from glassgpt.text.formats import NotText
from glassgpt.text.formats.encodings import BLOCK

TEXTS = {
    "de": "Über den Wäldern lag Nebel, als Jörg mit nassen Füßen das Häuschen erreichte. „Grüß dich“, sagte die "
    "Großmutter, öffnete die Tür und erzählte, was in der Straße über Nacht geschehen war.\n",
    "fr": "L’été dernier, le garçon traversa la forêt où chantaient les oiseaux; fatigué, il répétait à voix basse "
    "une leçon apprise à l’école. « Êtes-vous sûr ? » demanda sa sœur, déjà prête.\n",
    "es": "El niño corrió por la montaña mientras su mamá le gritaba que volviera. ¿Qué pasó después? Nadie lo sabía, "
    "pero según la señora del café encontró allí una caña pequeña.\n",
    "en": "“It’s late,” she said—“and the café isn’t open.” He didn’t answer; he’d heard the clock strike, and the "
    "street’s lamps were lit. “We’ll wait,” said he, “till it’s day.”\n",
    "pl": "Dziewczyna poszła wieczorem nad rzekę, żeby zobaczyć księżyc i usłyszeć śpiew słowików. Nikt jeszcze nie "
    "wiedział, że źródło wyschło, a łąkę zaorał już sąsiad.\n",
    "cs": "Starý muž seděl u okna a díval se, jak děti běží přes zahradu k řece. Později přišel déšť a všichni se "
    "vrátili domů, kde už vřel čaj a hořel oheň.\n",
    "hu": "Az öreg a folyó mellett ült, és nézte, hogyan játszanak a gyerekek a fűben, miközben a nap lenyugodott "
    "a hegyek mögött. Később eső jött, és ők hazafutottak.\n",
    "tr": "Yaşlı adam her sabah erkenden kalkıp denize bakardı. Çocuklar güneşin doğuşunu görmek için kıyıya gelir, "
    "öğleye doğru evlerine dönerlerdi.\n",
    "ru": "Старик каждое утро выходил к реке и смотрел, как поднимается туман. Дети прибегали к нему послушать сказки, "
    "а вечером возвращались домой усталые и счастливые.\n",
    "el": "Η γυναίκα κοίταξε τη θάλασσα και είπε ότι ο άνεμος θα αλλάξει πριν από το βράδυ. Κανείς δεν της απάντησε.\n",
    "ja": "老人は毎朝、川のほとりへ出て霧を眺めていた。子供たちは物語を聞きに来て、夕方には疲れて家に帰った。"
    "それでも次の日にはまた来るのだった。\n",
    "zh": "从前有一个小村庄，村里住着一位老人。他每天早上到河边看日出，晚上给孩子们讲故事。没有人知道他从哪里来。\n",
}
TEXTS |= {
    "ko": "노인은 매일 아침 강가에 나가 안개를 바라보았다. 아이들은 이야기를 들으러 달려와 저녁이면 집으로 돌아갔다.\n",
    "ar": "خرج الرجل العجوز كل صباح الى النهر، وكان الاطفال يأتون ليسمعوا حكاياته ثم يعودون في المساء.\n",
    "he": "בכל בוקר יצא הזקן אל הנהר והביט בערפל. הילדים באו לשמוע סיפורים ובערב חזרו הביתה עייפים.\n",
}
WRITTEN = [
    *(("de", "cp1252"), ("fr", "cp1252"), ("es", "cp1252"), ("en", "cp1252"), ("pl", "cp1250"), ("pl", "iso8859-2")),
    *(("cs", "cp1250"), ("cs", "iso8859-2"), ("hu", "iso8859-2"), ("tr", "cp1254"), ("ru", "cp1251"), ("ru", "koi8-r")),
    *(("ko", "cp949"), ("zh", "gbk"), ("de", "mac-roman"), ("fr", "mac-roman"), ("ar", "cp1256"), ("he", "cp1255")),
    *(("ru", "cp866"), ("ru", "iso8859-5"), ("el", "cp1253"), ("ja", "shift_jis"), ("ja", "euc-jp"), ("zh", "gb18030")),
    *(("ru", "utf-16-le"), ("de", "utf-16-be"), ("zh", "utf-16-le"), ("en", "utf-32-le")),
]


@pytest.mark.parametrize("n_times", [2, 2000])
@pytest.mark.parametrize(("language", "encoding"), WRITTEN)
def test_the_encoding_of_a_text_is_detected(language: str, encoding: str, n_times: int) -> None:
    text = TEXTS[language] * n_times
    (document,), facts = read(text.encode(encoding), "a.txt")
    assert document == text
    assert facts.detected


@pytest.mark.parametrize(("language", "encoding"), WRITTEN)
def test_a_named_encoding_is_read_in_it(language: str, encoding: str) -> None:
    (document,), facts = read(TEXTS[language].encode(encoding), "a.txt", encoding=encoding)
    assert document == TEXTS[language]
    assert not facts.detected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_is_obeyed_and_outranks_a_name(encoding: str) -> None:
    text = TEXTS["ja"] + "🦊"
    for options in ({}, {"encoding": "cp1252"}):
        (document,), facts = read(("\ufeff" + text).encode(encoding), "a.txt", **options)
        assert document == text
        assert facts.encoding == encoding


@pytest.mark.parametrize("encoding", ["cp1257", "cp852", "cp437", "mac-cyrillic", "mac-latin2", "koi8-u", "iso8859-9"])
def test_an_encoding_that_is_no_candidate_is_refused_and_not_taken_for_another(encoding: str) -> None:
    for text in TEXTS.values():
        fitting = text.encode(encoding, "ignore").decode(encoding) * 3
        if fitting.isascii() or len(fitting) < 2.9 * len(text):
            continue
        try:
            found = text_of(fitting.encode(encoding), "a.txt")
        except NotText:
            continue
        assert found == fitting


def test_an_english_text_with_a_few_foreign_letters_is_detected() -> None:
    text = TEXTS["en"].replace("é", "e") * 100 + "He said “voilà” to the fête.\n"
    assert text_of(text.encode("cp1252"), "a.txt") == text


def test_one_line_again_and_again_is_no_other_language() -> None:
    text = "老人は毎朝、川のほとりへ出て霧を眺めていた。\n" * 5000
    assert text_of(text.encode("cp932"), "a.txt") == text


def test_a_ligature_tells_two_latin_encodings_apart() -> None:
    text = TEXTS["fr"].replace("’", "'") * 10
    for encoding in ("cp1252", "iso8859-15"):
        assert text_of(text.encode(encoding), "a.txt") == text


def test_letters_far_behind_plain_ascii_are_found() -> None:
    text = "plain words\n" * 500_000 + TEXTS["fr"] * 10
    assert text_of(text.encode("cp1252"), "a.txt") == text


@pytest.mark.parametrize(
    "data",
    [
        b"ab\xff",
        b"\xef\xbb\xbfab\xff",
        b"plain text with a stray byte \xff in each of its sentences. " * 100,
        ("Grüße aus Köln. " * 100).encode() + b"\xff" + ("Grüße aus Köln. " * 100).encode(),
        ("Grüße aus Köln. " * 9).encode() + ("Grüße aus Köln. " * 9).encode("cp1252"),
        "Grüße".encode("cp1252"),
        (TEXTS["ru"] * 9).encode("mac-cyrillic"),
        (TEXTS["pl"] * 9).encode("cp852"),
        bytes(random.Random(0).randrange(1, 256) for _ in range(300_000)),
        bytes(range(1, 256)) * 9,
    ],
)
def test_what_is_not_certain_is_refused_naming_byte_and_offset(data: bytes) -> None:
    reason = refusal(data, "a.txt")
    assert "offset" in reason
    assert "--data.encoding" in reason
    with pytest.raises(UnicodeDecodeError) as error:
        data.decode()
    assert f"byte 0x{data[error.value.start]:02x} at offset {error.value.start}" in reason


def test_replacement_signs_are_counted_but_not_those_of_the_text() -> None:
    (document,), facts = read("a\ufffdb".encode() + b"\xff\xfe c \xe4\xb8", "a.txt", invalid_utf8="replace")
    assert document == "a\ufffdb\ufffd\ufffd c \ufffd"
    assert facts.n_replaced == 3


@pytest.mark.parametrize("shift", range(4))
def test_a_character_may_lie_across_two_blocks(shift: int) -> None:
    text = "x" * (BLOCK - shift) + "🦊\ufffdé" + "y"
    assert text_of(text.encode(), "a.txt") == text
    damaged = text.encode() + b"\xff"
    assert f"byte 0xff at offset {len(damaged) - 1}" in refusal(damaged, "a.txt")
    (document,), facts = read(damaged, "a.txt", invalid_utf8="replace")
    assert (document, facts.n_replaced) == (text + "\ufffd", 1)


def test_a_byte_that_does_not_fit_a_named_encoding_is_refused() -> None:
    assert "cp1252 (byte 0x81 at offset 1)" in refusal(b"a\x81", "a.txt", encoding="windows-1252")
    assert "byte 0x82 at offset 0" in refusal(b"\x82", "a.txt", encoding="shift_jis")
    assert "offset 0" in refusal(b"a", "a.txt", encoding="utf-16-le")


def test_a_zero_byte_is_binary_whatever_the_encoding() -> None:
    assert "zero byte at offset 4" in refusal(b"text\0text", "a.txt")
    assert "zero byte at offset 4" in refusal(b"text\0text", "a.txt", encoding="cp1252")
    assert "zero byte at offset 4" in refusal(b"text\0text", "a.txt", invalid_utf8="replace")
    assert "binary" in refusal("a\0".encode("utf-16"), "a.txt")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("uft-8", "utf-8"), ("cp12521", "cp1252"), ("hex", "for example"), ("idna", ""), ("\0", ""), ("", "")],
)
def test_an_encoding_that_does_not_exist_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=r"data\.encoding") as error:
        read(b"a", "a.txt", encoding=name)
    assert hint in str(error.value)
