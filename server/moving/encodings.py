"""Finds out in what encoding and with what delimiter a text file was written."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from server.errors import UsageError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE_BYTES = 1 << 18
_SAMPLE_ROWS = 50
_CHUNK_BYTES = 1 << 20
#: Of the characters beyond ASCII so many must be Russian letters in words, before a text is taken for Russian.
_RUSSIAN_SHARE = 0.8
_ASCII_LAST = 127
_CYRILLIC = ("cp1251", "koi8-r", "cp866", "iso8859-5")
_RUSSIAN = frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяё")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def found_encoding(file: Path) -> str:
    """Return the name of the encoding, as Python knows it. A few broken bytes do not make UTF-8 something else."""
    with file.open("rb") as stream:
        head = stream.read(_SAMPLE_BYTES)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)
    # No text of single bytes has zeros.
    if even + odd > len(head) // 100:
        return "utf-16-le" if odd > even else "utf-16-be"
    good, bad, sample = _lines_beyond_ascii(file)
    if good >= bad:
        return "utf-8"
    return _russian(sample) or _guessed(sample)


def _lines_beyond_ascii(file: Path) -> tuple[int, int, bytes]:
    """Return how many lines beyond ASCII are UTF-8 and how many are not, and some of the latter."""
    good = bad = 0
    sample = b""
    with file.open("rb") as stream:
        while line := stream.readline(_CHUNK_BYTES):
            if line.isascii():
                continue
            try:
                line.decode()
            except UnicodeDecodeError:
                bad += 1
                if len(sample) < _SAMPLE_BYTES:
                    sample += line
            else:
                good += 1
    return good, bad, sample


def _russian(sample: bytes) -> str | None:
    """Return the Cyrillic encoding in which the text has the most small Russian letters, if it is Russian at all."""
    beyond = [byte > _ASCII_LAST for byte in sample]
    in_words = sum(
        one and (before or after)
        for before, one, after in zip([False, *beyond], beyond, [*beyond[1:], False], strict=False)
    )
    # Of western letters beyond ASCII hardly two stand side by side, of Russian ones hardly one alone.
    if in_words < _RUSSIAN_SHARE * sum(beyond):
        return None
    scores = {}
    for name in _CYRILLIC:
        text = [character for character in sample.decode(name, "replace") if not character.isascii()]
        letters = sum(character.casefold() in _RUSSIAN for character in text)
        small = sum(character in _RUSSIAN for character in text)
        if letters >= _RUSSIAN_SHARE * len(text):
            scores[name] = (small, letters)
    return max(scores, key=lambda name: scores[name]) if scores else None


def _guessed(sample: bytes) -> str:
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def known_encoding(name: str) -> str:
    """Return an encoding that was asked for by name. Raises UsageError."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise UsageError(f"--encoding {name!r} is unknown: try utf-8, utf-16, cp1251 or cp1252") from None


def found_delimiter(file: Path, encoding: str) -> str:
    """Return the delimiter that cuts the first rows into the most columns, and into as many in each."""
    head = list(_first_lines(file, encoding))
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(head, delimiter=delimiter) if row]
        if widths and widths[0] > 1:
            score = (widths.count(widths[0]) / len(widths), widths[0])
            # A column more is worth more than a row that fits.
            if (score[0] >= 0.5, score[1], score[0]) > (best_score[0] >= 0.5, best_score[1], best_score[0]):  # noqa: PLR2004
                best, best_score = delimiter, score
    return best


def _first_lines(file: Path, encoding: str) -> Iterator[str]:
    with file.open(encoding=encoding, errors="replace", newline="") as stream:
        for _ in range(_SAMPLE_ROWS):
            yield stream.readline(_CHUNK_BYTES)


def known_delimiter(text: str) -> str:
    """Return a delimiter that was asked for, as itself or by name. Raises UsageError."""
    for delimiter, name in DELIMITERS.items():
        if text.casefold() in (delimiter, name, repr(delimiter).strip("'")):
            return delimiter
    raise UsageError(f"--delimiter {text!r} is none of comma, semicolon, tab and bar")
