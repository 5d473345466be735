"""Evaluates the few forms of PromQL that our alert rules have, on the samples of one scrape.

expression  = term { ("or" | "unless on (label, …)") term }
term        = [ ("max" | "sum") [ "by (label, …)" ] "(" selector ")" | selector ] ( ">" | "==" ) number
"""

import re
from collections.abc import Iterator, Mapping

Labels = tuple[tuple[str, str], ...]
Vector = dict[Labels, float]
Samples = Mapping[tuple[str, Labels], float]

TOKENS = re.compile(r'\s*([A-Za-z_]\w*|"[^"]*"|==|[>(){},=]|\d+(?:\.\d+)?)')


def evaluate(expression: str, samples: Samples) -> Vector:
    """Return the labels and values for which the rule fires.

    Raises:
        ValueError: the expression has a form that nobody here reads.
    """
    return _Reader(expression, samples).whole()


class _Reader:
    def __init__(self, expression: str, samples: Samples) -> None:
        self._words = [*_words(expression), ""]
        self._samples = samples

    def whole(self) -> Vector:
        found = self._term()
        while (word := self._next()) != "":
            if word == "or":
                found = self._term() | found
            elif word == "unless":
                self._expect("on")
                labels = self._names()
                others = {_only(each, labels) for each in self._term()}
                found = {each: value for each, value in found.items() if _only(each, labels) not in others}
            else:
                raise ValueError(f"{word} is not read")
        return found

    def _term(self) -> Vector:
        word = self._next()
        if word in ("max", "sum"):
            by = self._names() if self._take("by") else []
            self._expect("(")
            selected = self._selector(self._next())
            self._expect(")")
            found: Vector = {}
            for labels, value in selected.items():
                group = _only(labels, by)
                if group not in found:
                    found[group] = value
                else:
                    found[group] = max(found[group], value) if word == "max" else found[group] + value
        else:
            found = self._selector(word)
        compare, number = self._next(), float(self._next())
        if compare not in (">", "=="):
            raise ValueError(f"{compare} is not read")
        return {each: value for each, value in found.items() if (value > number if compare == ">" else value == number)}

    def _selector(self, name: str) -> Vector:
        wanted: dict[str, str] = {}
        if self._take("{"):
            while not self._take("}"):
                label = self._next()
                self._expect("=")
                wanted[label] = self._next().strip('"')
                self._take(",")
        return {
            (*labels, ("__name__", name)): value
            for (each, labels), value in self._samples.items()
            if each == name and wanted.items() <= dict(labels).items()
        }

    def _names(self) -> list[str]:
        self._expect("(")
        found = [self._next()]
        while self._take(","):
            found.append(self._next())
        self._expect(")")
        return found

    def _next(self) -> str:
        return self._words.pop(0)

    def _take(self, word: str) -> bool:
        if self._words[0] != word:
            return False
        self._next()
        return True

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise ValueError(f"{word} was expected, not {self._words[0]}")


def _words(expression: str) -> Iterator[str]:
    at = 0
    while at < len(expression):
        found = TOKENS.match(expression, at)
        if found is None:
            raise ValueError(f"{expression[at:]} is not read")
        yield found[1]
        at = found.end()


def _only(labels: Labels, names: list[str]) -> Labels:
    return tuple(each for each in labels if each[0] in names)
