"""The offline generator, `local-grammar/v1`, fills formats with what the sources said, and with nothing else.

It knows no facts and invents none. The same request gives the same drafts; another seed gives others.
"""

import re
from collections import Counter
from collections.abc import Sequence
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
from domain.learning.critique.lessons import ActiveLesson, weight

NAMED = 5
"""How many live topics an error names."""
LONG = 6
"""A topic of more words counts as a sentence, and is quoted."""


class LocalGrammar:
    """A `ConceptWriter` that asks nobody."""

    runs_out = True

    def write(self, request: ConceptRequest) -> ConceptResponse:
        """Return as many drafts as the request asks for.

        Raises:
            TrendsTooFew: everything that fits was delivered within 90 days.
        """
        drafts = drafts_of(request)
        if len(drafts) < request.count:
            raise TrendsTooFew(_too_few(request, len(drafts)))
        return ConceptResponse(LOCAL_GRAMMAR, tuple(drafts))


def drafts_of(request: ConceptRequest) -> list[Draft]:
    """Return as many drafts as the request asks for, or all that can be made.

    Taking the first that fits loses none: a draft stands in the way only of others in its own category, and of each
    category two are taken if there are two.
    """
    rng = Random(request.seed)  # noqa: S311 - repeatable on purpose
    drafts: list[Draft] = []
    past = list(request.past)
    used = Counter[str]()
    for topics in (_ranked(request), request.reserve):
        found_one = True
        while found_one and len(drafts) < request.count:  # each topic once, before any a second time
            found_one = False
            for trend in topics:
                draft = _first_new(trend, _fitting(trend, rng, used, past, request.lessons), past, rng)
                if draft is None:
                    continue
                found_one = True
                drafts.append(draft)
                past.append(PastConcept(draft.title, draft.topic, draft.format))
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


def _ranked(request: ConceptRequest) -> list[Trend]:
    """Return the trends: new topics before recent ones, live ones before evergreen ones, names before whole sentences,
    what several sources see before what one does."""
    past = [words(each.topic) for each in request.past]

    def rank(trend: Trend) -> tuple[bool, bool, bool, int]:
        repeated = any(same_subject(words(trend.topic), topic) for topic in past)
        return repeated, not trend.live, _is_sentence(trend.topic), -len(trend.sources)

    return sorted(request.trends, key=rank)


def _fitting(
    trend: Trend, rng: Random, used: Counter[str], past: list[PastConcept], lessons: Sequence[ActiveLesson]
) -> list[Format]:
    """Return the formats that may tell this topic, the likeliest first. Lessons exclude none."""
    uses = Counter(each.format for each in past)
    fitting = [
        each
        for each in formats()
        if used[each.category] < MOST_PER_CATEGORY
        and (not each.native or each.category == trend.category)
        and _has(trend, each.needs)
    ]

    def rank(each: Format) -> tuple[float, float]:
        # An evergreen topic belongs to its category; a live one may be told in any tone.
        own = 12.0 if trend.live else 60.0
        likelier = weight(lessons, each.name)
        fit = (own if each.category == trend.category else 1.0) * likelier
        # Formats take turns; one that a lesson is for has more of them, not only its first ones earlier.
        return uses[each.name] / likelier, -(rng.random() ** (1 / fit))

    return sorted(fitting, key=rank)


def _first_new(trend: Trend, fitting: list[Format], past: list[PastConcept], rng: Random) -> Draft | None:
    # Comparing a draft with all that is past is costly, so the formats that this topic had are left out first.
    about = words(trend.topic)
    used = {each.format for each in past if same_subject(about, words(each.topic))}
    for each in fitting:
        if each.name not in used:
            first = rng.randrange(len(each.titles))
            for n in range(len(each.titles)):
                draft = _draft(trend, each, first + n)
                if not near_duplicate(draft, past):
                    return draft
    return None


def _draft(trend: Trend, form: Format, first: int) -> Draft:
    """Return the draft with the format's title number `first`, counted round; its variants have the others."""
    fact = _fact(trend)
    titles = [_filled(title, trend, fact) for title in form.titles]
    first %= len(titles)
    titles = titles[first:] + titles[:first]
    captions = [f"{_filled(caption, trend, fact)}{_seen_on(trend)}" for caption in form.captions]
    script = tuple(_segment(beat, trend, fact) for beat in form.beats)
    return Draft(
        topic=trend.topic,
        category=form.category,
        title=titles[0],
        script=script,
        video_prompt=_prompt(script, trend),
        sound=form.sound,
        caption=captions[0],
        hashtags=_hashtags(trend, form),
        why_it_works=form.why,
        variants=(Variant(titles[1], captions[1]), Variant(titles[2], captions[0])),
        format=form.name,
    )


def _fact(trend: Trend) -> str | None:
    """Return the fact to show: somebody's words rather than a figure."""
    facts = trends.facts(trend)
    return next((fact for fact in facts if fact.startswith("“")), facts[0] if facts else None)


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
    """Return the topic as a part of a sentence: a title that is a sentence itself is quoted, and shortened."""
    if not _is_sentence(topic):
        return topic
    bare = topic.strip('“”"')
    return f"“{shorten(bare, 48)}”"


def _is_sentence(topic: str) -> bool:
    """Whether somebody wrote this title: it is long, has a sentence's marks, or is like "Every coffee I drank"."""
    first, *others = topic.split()
    plain = sum(word.islower() and word not in STOP_WORDS for word in others)
    return len(others) >= LONG or bool(re.search(r"[.!?:;](?:\s|$)", topic)) or (first[0].isupper() and plain >= 2)


def _has_own_case(topic: str) -> bool:
    """Whether the topic is like iPhone, which is not Iphone."""
    return any(letter.isupper() for letter in topic.split(maxsplit=1)[0][1:])


def _seen_on(trend: Trend) -> str:
    if not trend.live:
        return ""
    names = dict.fromkeys(each.publisher or SOURCE_NAMES.get(each.source, each.source) for each in trend.sightings[:3])
    return f" Seen on: {', '.join(names)}."


def _hashtags(trend: Trend, form: Format) -> tuple[str, ...]:
    topic = "".join(re.findall(r"[^\W_]+", trend.topic.casefold()))
    own = [topic] if 2 <= len(topic) <= 30 else []
    return tuple(dict.fromkeys(f"#{tag}" for tag in (*own, form.category, *form.tags, "shortvideo")))[:8]


def _prompt(script: tuple[Segment, ...], trend: Trend) -> str:
    shots = " ".join(
        f"Shot {n} ({shot.start}-{shot.end} s): {shot.visual}. Camera: {shot.camera}."
        for n, shot in enumerate(script, 1)
    )
    return (
        f"Vertical 9:16 video, {script[-1].end} seconds, natural light, realistic, about {_spoken(trend.topic)}. "
        f"{shots} Leave calm space in the upper third for text added later; no text, logos, brands or known people."
    )
