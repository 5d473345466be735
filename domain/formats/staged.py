"""Formats for any topic that are staged: news, absurd, luxury. See `domain/formats/format.py`."""

from domain.formats.format import LIVE, Beat, Format

STAGED = (
    Format(
        "short-version",
        "news",
        ("{Topic}: the short version", "What is {topic} about? Thirty seconds", "{Topic}, before your coffee is ready"),
        (
            Beat(
                0,
                3,
                "A presenter at a table by a window sets down a full cup and looks up",
                "{topic}",
                "locked, chest-up",
            ),
            Beat(
                3,
                11,
                "The presenter reads one sentence from a printed page, a finger under the line",
                "{fact}",
                "over the shoulder, slow push to the page",
                "What it is, in one sentence",
            ),
            Beat(
                11,
                24,
                "Three cards are laid on the table, one by one",
                "We know · We don't know yet · What comes next",
                "straight from above",
            ),
            Beat(
                24,
                30,
                "The presenter holds the third card to the lens and drinks the coffee",
                "What should I look up next?",
                "locked, chest-up",
            ),
        ),
        (
            "{Topic} in half a minute: what is known, what is not, what is next. What should I look up for part two?",
            "One question about {topic} you would like answered? I read every comment before part two.",
        ),
        "It answers one question quickly, admits what is open, and ends with a question that is easy to answer.",
        "quiet room tone, cards on wood, one soft piano chord at the end",
        ("explained", "newsinshort"),
        needs=LIVE,
    ),
    Format(
        "two-chairs",
        "news",
        ("Two sides of {topic}, one table", "{Topic}: I argue with myself", "Both chairs: {topic}"),
        (
            Beat(
                0,
                3,
                "One person sits down opposite themselves at a small table",
                "{topic}: two views",
                "locked wide, split",
            ),
            Beat(
                3,
                10,
                "The left one slides a printed page across the table",
                "{fact}",
                "close on the paper",
                "Why people bring it up",
            ),
            Beat(
                10,
                22,
                "They take turns: one sentence each, a chess clock pressed between them",
                "For · Against",
                "cutting left and right on each press",
            ),
            Beat(
                22,
                28,
                "Both look at the camera and push the clock forward",
                "Which chair are you in?",
                "locked wide, split",
            ),
        ),
        (
            "I gave both sides of {topic} the same ten seconds. Left chair or right chair?",
            "Which chair did you agree with first, and did it change by the end? {Topic}, both sides.",
        ),
        "Equal time for two views makes people pick one, and the comment is one word long.",
        "a chess clock ticking and its button, nothing else",
        ("bothsides", "debate"),
    ),
    Format(
        "plant-press-conference",
        "absurd",
        (
            "A houseplant holds a press conference about {topic}",
            "“No further questions.” A houseplant on {topic}",
            "The houseplant finally comments on {topic}",
        ),
        (
            Beat(
                0, 3, "A potted fern behind five microphones, flashes going off", "LIVE: {topic}", "shaky press camera"
            ),
            Beat(
                3,
                10,
                "A reporter's hand holds out a recorder; the fern sways in a draught",
                "“Is it true?” {fact}",
                "fast zoom to one leaf",
                "“Have you any comment?”",
            ),
            Beat(
                10,
                18,
                "Long silence. A leaf falls. Every pen in the front row starts writing",
                "(he said everything)",
                "slow push in",
            ),
            Beat(
                18, 22, "An aide waters the fern and ends the conference", "Your question to the fern?", "locked wide"
            ),
        ),
        (
            "The fern has heard your questions about {topic} and will take one more. Ask it below.",
            "Nobody in that room was calmer about {topic} than the fern.",
        ),
        "Full seriousness about a plant is funny without a punchline, and asking the fern is a game to join.",
        "press room murmur, camera shutters, sudden silence, water",
        ("absurdhumor", "pressconference"),
    ),
    Format(
        "nature-documentary",
        "absurd",
        (
            "{Topic}, narrated like a nature documentary",
            "In its natural habitat: {topic}",
            "A quiet expedition to {topic}",
        ),
        (
            Beat(
                0,
                4,
                "Tall kitchen herbs part; behind them somebody scrolls on a sofa",
                "Here it is: {topic}",
                "telephoto, whispering",
            ),
            Beat(
                4,
                12,
                "The person slowly turns a phone around; its light wakes a sleeping dog",
                "{fact}",
                "very slow zoom",
                "Observe how it spreads",
            ),
            Beat(
                12,
                20,
                "A second person approaches with snacks, unaware that they are filmed",
                "The others have noticed.",
                "telephoto pan",
            ),
            Beat(
                20,
                26,
                "All heads turn to the lens at once; the herbs close",
                "We must leave them now.",
                "quick retreat",
            ),
        ),
        (
            "Filmed with great patience and a lot of basil: {topic} in the wild. Which habitat should we visit next?",
            "Tag the friend who would be spotted first in a documentary about {topic}.",
        ),
        "The voice and the sofa do not belong together; the last look at the lens is made to be replayed.",
        "soft strings, birds, a whispering narrator",
        ("naturedocumentary", "parody"),
    ),
    Format(
        "white-gloves",
        "luxury",
        ("{Topic}, unboxed like a luxury watch", "White gloves for {topic}", "The velvet-box treatment: {topic}"),
        (
            Beat(0, 3, "White gloves place a velvet box on a marble board", None, "macro, shallow focus"),
            Beat(
                3,
                10,
                "The box opens: inside lies a small engraved card with the topic's name",
                "{topic}",
                "macro orbit",
            ),
            Beat(
                10,
                18,
                "A gloved finger turns the card over; on its back stands one line in fine print",
                "{fact}",
                "macro, slow tilt",
                "Turn it over. What would you engrave?",
            ),
            Beat(
                18,
                24,
                "The box closes with a soft click; the gloves are laid on top, crossed",
                "Worth the box?",
                "top-down",
            ),
        ),
        (
            "Everything looks expensive on velvet, {topic} too. What should get the white gloves next?",
            "Marble, velvet, one card: {topic} as if it came with a certificate. Worth the box?",
        ),
        "Slow close-ups hold the eye, and the contrast of an ordinary topic with a ceremony is the joke.",
        "cloth on marble, a soft click, low strings",
        ("quietluxury", "unboxing"),
        needs=LIVE,
    ),
    Format(
        "five-star-concierge",
        "luxury",
        ("The five-star concierge handles {topic}", "“Regarding {topic}, madam…”", "Room service, but for {topic}"),
        (
            Beat(0, 3, "A guest in a bathrobe dials a gold telephone", "“It's about {topic}.”", "slow dolly in"),
            Beat(
                3,
                10,
                "A concierge with a silver tray reads from a folded note, unmoved",
                "{fact}",
                "symmetrical medium shot",
                "“Naturally. We expected your call.”",
            ),
            Beat(
                10,
                18,
                "Three staff members carry in, with great care, a single cup of tea",
                "“This usually helps.”",
                "tracking along a corridor",
            ),
            Beat(
                18,
                24,
                "The guest sips and nods; the concierge ticks a box on a list",
                "What should they handle next?",
                "locked wide",
            ),
        ),
        (
            "If only somebody with a silver tray took care of {topic}. What would you call down for?",
            "Five stars, one cup of tea, and {topic} is no longer your problem.",
        ),
        "Calm service for a small problem is a wish that everybody has, told in one joke that grows.",
        "lobby piano, a telephone bell, porcelain",
        ("hotellife", "luxuryhumor"),
    ),
)
