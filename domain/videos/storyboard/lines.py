"""Breaking text into lines: between words, and between characters in scripts that use no spaces.

Widths are asked of `measure`, in ems: how wide a text is in a font of size 1.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Measure = Callable[[str], float]

NOT_FIRST = frozenset(
    "、。，．・：；？！゛゜ヽヾゝゞ々ー）」』】〕〉》〟’”…‥ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ!?,.:;)]}»%"
)
"""A line does not begin with these: they hang on to what is before them."""
NOT_LAST = frozenset("（「『【〔〈《〝‘“([{«¡¿")
LEADING = 1.16
"""From one baseline to the next, in sizes."""
_STEP = 0.95
_TRIED = 5
"""Sizes that are tried for a better last line."""


@dataclass(frozen=True, slots=True)
class Fitted:
    lines: tuple[str, ...]
    size: int

    @property
    def height(self) -> float:
        return len(self.lines) * self.size * LEADING


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that is kept together; `spaced` if a space is before it."""

    text: str
    spaced: bool


def fit(
    text: str, measure: Measure, *, width: float, height: float, largest: int, smallest: int, most_lines: int = 99
) -> Fitted:
    """Return the text at the largest size at which it fits; a little smaller if that leaves no word alone at its end.

    Whole words are kept at half the largest size and above; then words are broken; what does not fit at the smallest
    size is cut, with an ellipsis.
    """
    pieces = tuple(_pieces(text))
    fitting: list[Fitted] = []
    for size in _sizes(largest, max(smallest, largest // 2)):
        ems = width / size
        if any(measure(piece.text) > ems for piece in pieces):
            continue
        count = len(_filled(pieces, ems, measure))
        if count <= most_lines and count * size * LEADING <= height:
            fitting.append(Fitted(_balanced(pieces, ems, count, measure), size))
            if not _ends_alone(fitting[-1].lines, measure):
                return fitting[-1]
            if len(fitting) == _TRIED:
                break
    if fitting:
        return fitting[0]
    for size in _sizes(largest, smallest):
        parts = tuple(_broken(pieces, width / size, measure))
        count = len(_filled(parts, width / size, measure))
        if count <= most_lines and count * size * LEADING <= height:
            return Fitted(_balanced(parts, width / size, count, measure), size)
    most = min(most_lines, max(1, int(height / (smallest * LEADING))))
    lines = _filled(tuple(_broken(pieces, width / smallest, measure)), width / smallest, measure)[:most]
    last = lines[-1]
    while last and measure(last + "…") > width / smallest:
        last = last[:-1]
    return Fitted((*lines[:-1], last.rstrip() + "…"), smallest)


def shortened(text: str, most: int) -> str:
    """Return the text, cut after a word if it has more than so many characters."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > most // 2 else cut).rstrip(" ,;:–—-") + "…"


def _sizes(largest: int, smallest: int) -> Iterator[int]:
    size = float(largest)
    while size > smallest:
        yield round(size)
        size *= _STEP
    yield smallest


def _balanced(pieces: tuple[_Piece, ...], width: float, count: int, measure: Measure) -> tuple[str, ...]:
    """Return so many lines of about equal length, so that no word is left alone on the last one."""
    # best[n][end]: the least sum of squared slack of `n` lines that hold the pieces before `end`, and where the last
    # of these lines starts.
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for _ in range(count):
        reached: dict[int, tuple[float, int]] = {}
        for start, (slack, _) in best[-1].items():
            line = ""
            for end in range(start + 1, len(pieces) + 1):
                line = _joined(line, pieces[end - 1])
                wide = measure(line)
                if wide > width and end > start + 1:
                    break
                total = slack + (width - wide) ** 2
                if end < len(pieces) and not _breaks_well(pieces[end - 1], pieces[end]):
                    total += (width / 3) ** 2
                if end not in reached or total < reached[end][0]:
                    reached[end] = total, start
        best.append(reached)
    lines: list[str] = []
    end = len(pieces)
    for reached in reversed(best[1:]):
        start = reached[end][1]
        line = ""
        for piece in pieces[start:end]:
            line = _joined(line, piece)
        lines.insert(0, line)
        end = start
    return tuple(lines)


def _ends_alone(lines: tuple[str, ...], measure: Measure) -> bool:
    """Whether a short word is left on the last line of several."""
    if len(lines) < 3 or " " in lines[-1]:
        return False
    return measure(lines[-1]) < 0.6 * max(measure(line) for line in lines)


def _breaks_well(before: _Piece, after: _Piece) -> bool:
    """Whether a line ends well here: between words, and, where no spaces tell, after a mark or before a new word, which
    in Japanese mostly is where hiragana ends."""
    last, first = before.text[-1], after.text[0]
    return after.spaced or last in NOT_FIRST or (_script(last) == "hiragana" != _script(first)) or first in NOT_LAST


def _joined(line: str, piece: _Piece) -> str:
    return f"{line} {piece.text}" if line and piece.spaced else line + piece.text


def _filled(pieces: tuple[_Piece, ...], width: float, measure: Measure) -> tuple[str, ...]:
    lines: list[str] = []
    line = ""
    for piece in pieces:
        longer = _joined(line, piece)
        if line and measure(longer) > width:
            lines.append(line)
            line = piece.text
        else:
            line = longer
    return (*lines, line) if line else tuple(lines)


def _broken(pieces: tuple[_Piece, ...], width: float, measure: Measure) -> Iterator[_Piece]:
    """Yield the pieces; those that are wider than a line in parts, with hyphens between letters."""
    for piece in pieces:
        rest, spaced = piece.text, piece.spaced
        while measure(rest) > width and len(rest) > 1:
            ends = [n for n in range(1, len(rest)) if measure(rest[:n] + _hyphen(rest, n)) <= width] or [1]
            end = next((n for n in reversed(ends[-8:]) if _between_consonants(rest, n)), ends[-1])
            yield _Piece(rest[:end] + _hyphen(rest, end), spaced)
            rest, spaced = rest[end:], False
        yield _Piece(rest, spaced)


def _hyphen(word: str, at: int) -> str:
    return "-" if word[at - 1].isalpha() and word[at].isalpha() and not _script(word[at]) else ""


def _between_consonants(word: str, at: int) -> bool:
    """Whether a word may look right when it is broken here: syllables often meet between two consonants."""
    around = unicodedata.normalize("NFD", word[at - 1]) + unicodedata.normalize("NFD", word[at])
    return around.isalpha() and not set(around.casefold()) & set("aeiouyаеёиоуыэюяhь")


def _pieces(text: str) -> Iterator[_Piece]:
    for word in text.split():
        piece, spaced = "", True
        for before, char in zip(" " + word, word, strict=False):
            if piece and _may_break(before, char):
                yield _Piece(piece, spaced)
                piece, spaced = "", False
            piece += char
        yield _Piece(piece, spaced)


def _may_break(before: str, after: str) -> bool:
    if after in NOT_FIRST or before in NOT_LAST or unicodedata.category(after).startswith("M"):
        return False
    if _script(before) == _script(after) == "katakana":
        return False
    return "" not in {_script(before), _script(after)} or _script(before) != _script(after)


def _script(char: str) -> str:
    """Return the name of a script that is written without spaces; "" for all others."""
    code = ord(char)
    if 0x30A0 <= code <= 0x30FF or 0xFF66 <= code <= 0xFF9F:
        return "katakana"
    if 0x3040 <= code <= 0x309F:
        return "hiragana"
    if 0x2E80 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF or 0xFF00 <= code <= 0xFF65:
        return "han"
    if 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF:
        return "south-east"
    return ""
