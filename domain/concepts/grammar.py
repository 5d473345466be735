"""The offline generator, `local-grammar/v1`: formats filled with what the sources said, and with nothing else.

It knows no facts and invents none. The same request gives the same drafts; another seed gives others.
"""

import re
from collections import Counter
from random import Random

from domain.concepts import trends
from domain.concepts.formats import HEADLINE, Beat, Format, formats
from domain.concepts.generation import (
    LOCAL_GRAMMAR,
    MOST_PER_CATEGORY,
    REMEMBERED,
    ConceptRequest,
    ConceptResponse,
    Draft,
    PastConcept,
    Segment,
    TrendsTooFew,
    Variant,
    near_duplicate,
)
from domain.concepts.trends import SOURCE_NAMES, Trend
from domain.concepts.wording import STOP_WORDS, counted, same_subject, shorten, words

NAMED = 5
"""Live topics that a refusal names."""
LONG = 6
"""A topic of more words is a sentence, and is quoted."""


class LocalGrammar:
    """A `ConceptWriter` that asks nobody."""

    runs_out = True

    def write(self, request: ConceptRequest) -> ConceptResponse:
        """As many drafts as the request asks for.

        Raises:
            TrendsTooFew: everything that fits was told within 90 days.
        """
        drafts = drafts_of(request)
        if len(drafts) < request.count:
            raise TrendsTooFew(_too_few(request, len(drafts)))
        return ConceptResponse(LOCAL_GRAMMAR, tuple(drafts))


def drafts_of(request: ConceptRequest) -> list[Draft]:
    """As many drafts as the request asks for, or all that can be made.

    Taking the first that fits loses none: a draft stands in the way only of others in its own category, and of each
    category two are taken if there are two.
    """
    rng = Random(request.seed)  # noqa: S311 - repeatable on purpose
    drafts: list[Draft] = []
    known = list(request.past)
    used = Counter[str]()
    for topics in (_in_turn(request), list(request.reserve)):
        found_one = True
        while found_one and len(drafts) < request.count:  # each topic once, before any a second time
            found_one = False
            for trend in topics:
                draft = _first_new(trend, _fitting(trend, rng, used, known), known, rng)
                if draft is None:
                    continue
                found_one = True
                drafts.append(draft)
                known.append(PastConcept(draft.title, draft.topic, draft.format))
                used.update([draft.category])
                if len(drafts) == request.count:
                    break
    return drafts


def _too_few(request: ConceptRequest, made: int) -> str:
    topics = [*request.trends, *request.reserve]
    live = [shorten(trend.topic, 40) for trend in topics if trend.live]
    named = f" ({', '.join(live[:NAMED])}{', …' if len(live) > NAMED else ''})" if live else ""
    from_what = f"{counted(len(live), 'live topic')}{named} and {counted(len(topics) - len(live), 'evergreen one')}"
    possible = f"only {made} can be made" if made else "none can be made"
    return (
        f"{counted(request.count, 'concept')} asked for, and {possible} from the present trends, {from_what}, that the "
        f"customer has not had within {REMEMBERED.days} days: "
        + (f"ask for {made}, or again" if made else "ask again")
        + " when there are other trends, or have a language model write them"
    )


def _in_turn(request: ConceptRequest) -> list[Trend]:
    """New topics before those told lately, live ones before evergreen ones, names before whole sentences, what several
    sources see before what one does."""
    told = [words(past.topic) for past in request.past]
    fresh = [not any(same_subject(words(trend.topic), each) for each in told) for trend in request.trends]
    ranked = sorted(
        zip(request.trends, fresh, strict=True),
        key=lambda each: (not each[1], not each[0].live, _is_sentence(each[0].topic), -len(each[0].sources)),
    )
    return [trend for trend, _ in ranked]


def _fitting(trend: Trend, rng: Random, used: Counter[str], known: list[PastConcept]) -> list[Format]:
    """The formats that may tell this topic, the likeliest first."""
    told = Counter(past.format for past in known)
    fitting = [
        each
        for each in formats()
        if used[each.category] < MOST_PER_CATEGORY
        and (not each.native or each.category == trend.category)
        and _has(trend, each.needs)
    ]

    def rank(each: Format) -> tuple[int, float]:
        # An evergreen topic belongs to its category; a live one may be told in any tone.
        own = 12.0 if trend.live else 60.0
        fit = own if each.category == trend.category else 1.0
        return told[each.name], -(rng.random() ** (1 / fit))

    return sorted(fitting, key=rank)


def _first_new(trend: Trend, fitting: list[Format], known: list[PastConcept], rng: Random) -> Draft | None:
    # What is held against everything is costly, so what was told of this topic in this way is left out first.
    about = words(trend.topic)
    told = {past.format for past in known if same_subject(about, words(past.topic))}
    for each in fitting:
        if each.name not in told:
            first = rng.randrange(len(each.titles))
            for n in range(len(each.titles)):
                draft = _tell(trend, each, first + n)
                if not near_duplicate(draft, known):
                    return draft
    return None


def _tell(trend: Trend, told_as: Format, first: int) -> Draft:
    """The draft that has the format's title number `first`, counted round, as its own; variants have the others."""
    fact = _fact(trend)
    titles = [_filled(title, trend, fact) for title in told_as.titles]
    first %= len(titles)
    titles = titles[first:] + titles[:first]
    captions = [f"{_filled(caption, trend, fact)}{_seen_on(trend)}" for caption in told_as.captions]
    script = tuple(_segment(beat, trend, fact) for beat in told_as.beats)
    return Draft(
        topic=trend.topic,
        category=told_as.category,
        title=titles[0],
        script=script,
        video_prompt=_prompt(script, trend),
        sound=told_as.sound,
        caption=captions[0],
        hashtags=_hashtags(trend, told_as),
        why_it_works=told_as.why,
        variants=(Variant(titles[1], captions[1]), Variant(titles[2], captions[0])),
        format=told_as.name,
    )


def _fact(trend: Trend) -> str | None:
    """The fact to show: somebody's words before a figure."""
    known = trends.facts(trend)
    return next((fact for fact in known if fact.startswith("“")), known[0] if known else None)


def _has(trend: Trend, needed: str | None) -> bool:
    quoted = (_fact(trend) or "").startswith("“")
    return needed is None or (quoted if needed == HEADLINE else trend.live)


def _segment(beat: Beat, trend: Trend, fact: str | None) -> Segment:
    text = beat.unproven if beat.unproven is not None and fact is None else beat.text
    shown = None if text is None else shorten(_filled(text, trend, fact), 160)
    return Segment(beat.start, beat.end, _filled(beat.visual, trend, fact), shown, beat.camera)


def _filled(pattern: str, trend: Trend, fact: str | None) -> str:
    topic = _spoken(trend.topic)
    first, _, rest = topic.partition(" ")
    inside = f"{first.casefold()} {rest}" if first in ("A", "An", "The") and rest else topic
    begun = topic if _has_own_case(topic) else topic[:1].upper() + topic[1:]
    words_of = {"topic": inside, "Topic": begun, "fact": fact or ""}
    # One pass, so that nothing in a topic is taken for a slot.
    filled = re.sub(r"\{(topic|Topic|fact)\}", lambda slot: words_of[slot[1]], pattern)
    return begun + filled[len(inside) :] if filled.startswith(inside) else filled


def _spoken(topic: str) -> str:
    """The topic as a part of a sentence: a title that is a sentence itself is quoted, and shortened."""
    if not _is_sentence(topic):
        return topic
    bare = topic.strip('“”"')
    return f"“{shorten(bare, 48)}”"


def _is_sentence(topic: str) -> bool:
    """A title that somebody wrote, not a name: long, with a sentence's marks, or "Every coffee I drank"."""
    first, *others = topic.split()
    plain = sum(word.islower() and word not in STOP_WORDS for word in others)
    return len(others) >= LONG or bool(re.search(r"[.!?:;](?:\s|$)", topic)) or (first[0].isupper() and plain >= 2)


def _has_own_case(topic: str) -> bool:
    """iPhone is not Iphone."""
    return any(letter.isupper() for letter in topic.split(maxsplit=1)[0][1:])


def _seen_on(trend: Trend) -> str:
    if not trend.live:
        return ""
    names = dict.fromkeys(each.publisher or SOURCE_NAMES.get(each.source, each.source) for each in trend.sightings[:3])
    return f" Seen on: {', '.join(names)}."


def _hashtags(trend: Trend, told_as: Format) -> tuple[str, ...]:
    topic = "".join(re.findall(r"[^\W_]+", trend.topic.casefold()))
    own = [topic] if 2 <= len(topic) <= 30 else []
    return tuple(dict.fromkeys(f"#{tag}" for tag in (*own, told_as.category, *told_as.tags, "shortvideo")))[:8]


def _prompt(script: tuple[Segment, ...], trend: Trend) -> str:
    shots = " ".join(
        f"Shot {n} ({shot.start}-{shot.end} s): {shot.visual}. Camera: {shot.camera}."
        for n, shot in enumerate(script, 1)
    )
    return (
        f"Vertical 9:16 video, {script[-1].end} seconds, natural light, realistic, about {_spoken(trend.topic)}. "
        f"{shots} Leave calm space in the upper third for text added later; no text, logos, brands or known people."
    )
