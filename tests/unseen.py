"""Characters that no terminal may be sent, from the Unicode standard and not from our own rule."""

from unicodedata import category

C0, C1 = [chr(n) for n in (*range(0x20), 0x7F)], [chr(n) for n in range(0x80, 0xA0)]
BIDI = [chr(n) for n in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
NOT_SEEN = ["\u00ad", "\u180e", "\u200b", "\u200c", "\u200d", "\u2060", "\u2064", "\ufeff", "\ufff9", "\U000e0041"]
SEPARATORS, HALVES, PRIVATE = ["\u2028", "\u2029"], ["\ud800", "\udfff"], ["\ue000", "\U0010fffd"]
UNSEEN = [each for each in C0 + C1 if each not in "\n\t"] + BIDI + NOT_SEEN + SEPARATORS + HALVES + PRIVATE


def unseen(text: str) -> set[str]:
    """Those of the text, other than line feeds and tabs."""
    return {each for each in text if category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")} - {"\n", "\t"}
