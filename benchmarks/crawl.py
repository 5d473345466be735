"""Every page of `/ops` that a person can get to by clicking: links are followed, and forms are filled in.

Pages and filters that are added later are found by themselves, since they are linked or lie in a form. Of each page so
many addresses are asked for: first those with a filter, or a value of one, that was not seen before.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

Ask = Callable[[str], tuple[int, str]]
"""Ask for a path with its query; returns the status and the text."""

LEFT_OUT = ("/ops/static/", "/ops/live", "/ops/log")
ONLY_ONCE = "theme"
VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))


@dataclass
class Element:
    tag: str
    attributes: list[tuple[str, str]]

    def __getitem__(self, name: str) -> str | None:
        return dict(self.attributes).get(name)


@dataclass
class Form:
    """A form that asks by GET: its address, and for each field the values that it may have (none: any text)."""

    action: str
    fields: dict[str, list[str]] = field(default_factory=dict)


class Document(HTMLParser):
    """A page in parts: its elements, the text of each, and what can be followed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.texts: list[tuple[str, str]] = []
        """Each piece of text, with the tag that it is in."""
        self.forms: list[Form] = []
        self._open: list[str] = []
        self._form: Form | None = None
        self._select: str | None = None
        self.feed(text)
        self.close()

    @property
    def text(self) -> str:
        """What a person reads, with single spaces."""
        seen = " ".join(text for tag, text in self.texts if tag not in ("script", "style", "title"))
        return " ".join(seen.split())

    @property
    def links(self) -> list[str]:
        return [href for each in self.elements if each.tag == "a" and (href := each["href"])]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, [(name, value or "") for name, value in attrs])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            self._form = Form(element["action"] or "") if (element["method"] or "get").lower() == "get" else None
            if self._form is not None:
                self.forms.append(self._form)
        elif self._form is not None:
            self._field(self._form, element)

    def _field(self, form: Form, element: Element) -> None:
        name = element["name"]
        if element.tag == "select" and name:
            self._select = name
            form.fields[name] = []
        elif element.tag == "option" and self._select:
            form.fields[self._select].append(element["value"] or "")
        elif element.tag == "textarea" and name:
            form.fields[name] = []
        elif element.tag == "input" and name:
            kind = (element["type"] or "text").lower()
            if kind in ("radio", "checkbox"):
                form.fields.setdefault(name, []).append(element["value"] or "on")
            elif kind == "hidden":
                form.fields[name] = [element["value"] or ""]
            elif kind not in ("submit", "button", "reset"):
                form.fields[name] = []

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))


@dataclass(frozen=True)
class Visit:
    """`page` is the path of the page as it is declared, such as `/jobs/{id}`."""

    page: str
    address: str
    status: int
    text: str


def crawl(
    ask: Ask,
    pages: Sequence[str],
    *,
    typed: Sequence[str] = ("a",),
    most: int = 40,
    also: Mapping[str, Sequence[str]] | None = None,
) -> list[Visit]:
    """Ask for all `pages` (paths below `/ops`, perhaps with parts in braces), beginning with those without a part in
    braces and the addresses in `also`. `typed`: what is typed into fields of forms, and for filters of links that have
    any text. `most`: so many addresses a page."""
    patterns = [(page, re.compile("/ops" + re.sub(r"\{[^}]+\}", "[^/]+", page))) for page in pages]
    waiting = deque(f"/ops{page}" for page in pages if "{" not in page)
    waiting.extend(address for addresses in (also or {}).values() for address in addresses)
    asked: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    visits: list[Visit] = []
    counts: dict[str, int] = dict.fromkeys(pages, 0)
    while waiting:
        address = waiting.popleft()
        page = _page_of(address, patterns)
        if page is None or address in asked:
            continue
        asked.add(address)
        shapes = set(_shapes(page, address, typed))
        if counts[page] >= most or (shapes <= seen and counts[page] >= 3):
            continue
        seen |= shapes
        counts[page] += 1
        status, text = ask(address)
        visits.append(Visit(page, address, status, text))
        document = Document(text)
        waiting.extend(_followed(address, document, typed))
    return visits


def _page_of(address: str, patterns: Sequence[tuple[str, re.Pattern[str]]]) -> str | None:
    path = urlsplit(address).path
    return next((page for page, pattern in patterns if pattern.fullmatch(path)), None)


def _shapes(page: str, address: str, typed: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What may be new in an address: each filter with its value; of ids and cursors only that there is one."""
    yield (page,)
    for name, value in parse_qsl(urlsplit(address).query, keep_blank_values=True):
        is_word = value in typed or re.fullmatch(r"[A-Za-z_:.-]{0,40}", value)
        yield (page, name, value if is_word else "...")


def _followed(address: str, document: Document, typed: Sequence[str]) -> Iterator[str]:
    for link in document.links:
        target = urlsplit(urljoin(address, link))
        query = parse_qsl(target.query, keep_blank_values=True)
        if target.netloc or target.path.startswith(LEFT_OUT) or ONLY_ONCE in dict(query):
            continue
        yield target.path + (f"?{target.query}" if target.query else "")
    for form in document.forms:
        action = urlsplit(urljoin(address, form.action)).path
        first = {name: values[0] for name, values in form.fields.items() if values}
        for name, values in form.fields.items():
            for value in values or typed:
                yield f"{action}?{urlencode({**first, name: value})}"
