"""Formats for any topic that are counted, sung or shared: finance, music, relationships. See `format.py`."""

from domain.formats.format import Beat, Format

SHARED = (
    Format(
        "blank-receipt",
        "finance",
        (
            "What {topic} costs you, printed as a receipt",
            "Your receipt for {topic}",
            "{Topic}: time, attention, money?",
        ),
        (
            Beat(0, 3, "A small printer whirs and pushes out paper", "Receipt: {topic}", "macro"),
            Beat(
                3,
                10,
                "The first line appears: the item, and where it was seen",
                "{fact}",
                "macro, following the paper",
                "Item: {topic}",
            ),
            Beat(
                10, 20, "Three more lines appear, each with an empty amount", "Time …… Attention …… Money ……", "macro"
            ),
            Beat(20, 25, "The receipt is torn off and a pen is laid on it", "Fill in your amounts", "from above"),
        ),
        (
            "I left the amounts blank, because only you know what {topic} costs you. Fill them in.",
            "Time, attention, money: which line is your biggest for {topic}?",
        ),
        "Blank amounts make people count for themselves, and no number is claimed that nobody measured.",
        "thermal printer, paper tear, a cash drawer far away",
        ("moneymindset", "attentionbudget"),
    ),
    Format(
        "ten-coins",
        "finance",
        ("Ten coins of attention: how many for {topic}?", "Spending my attention on {topic}", "{Topic} gets a jar"),
        (
            Beat(
                0,
                3,
                "Ten coins are counted onto a table next to two jars",
                "Ten coins = my attention today",
                "from above",
            ),
            Beat(
                3,
                10,
                "One jar gets a paper label; beside it a printed line",
                "{fact}",
                "close on the label",
                "Jar one: {topic}",
            ),
            Beat(
                10,
                20,
                "Coins go left, right, left; a hand hesitates with the last one",
                "{topic} or everything else",
                "from above, real time",
            ),
            Beat(20, 25, "The last coin is held up between both jars", "Where does it go?", "close, shallow focus"),
        ),
        (
            "The last coin is yours. Does {topic} get it, or does something else?",
            "Ten coins of attention a day. How many for {topic}? Numbers only.",
        ),
        "An undecided last coin leaves a question open, and the answer is one word or one number.",
        "coins on wood and glass, nothing else",
        ("moneyhabits", "attention"),
    ),
    Format(
        "kitchen-jingle",
        "music",
        (
            "A jingle about {topic}, made from kitchen sounds",
            "{Topic}, but it is a jingle",
            "Spoons, glasses, {topic}: one take",
        ),
        (
            Beat(0, 3, "A spoon taps three glasses until the notes fit", "Making a jingle: {topic}", "close, handheld"),
            Beat(
                3,
                9,
                "Layers are recorded one by one: a drawer as the drum, a fork as the hi-hat",
                "1 · 2 · 3",
                "quick cuts on the beat",
            ),
            Beat(
                9,
                20,
                "The loop plays; the singer reads the verse off a note",
                "{fact}",
                "medium, swaying",
                "♪ {topic}, {topic} ♪",
            ),
            Beat(
                20, 26, "Everything stops except one glass that still rings", "Your second verse?", "macro of the glass"
            ),
        ),
        (
            "The second verse about {topic} is yours: write it and I will record it.",
            "Recorded with two spoons and a drawer: {topic}.",
        ),
        "Seeing a loop being built keeps people listening; an open verse is an invitation to take part.",
        "an original loop of spoons, glasses and a drawer; no existing song",
        ("kitchenbeat", "originalsound"),
    ),
    Format(
        "three-soundtracks",
        "music",
        (
            "{Topic} in three moods: same clip, three soundtracks",
            "Same scene, three scores: {topic}",
            "Which mood is {topic}?",
        ),
        (
            Beat(
                0,
                3,
                "Somebody reads a message and looks up: the clip that will be repeated",
                "{topic}: three soundtracks",
                "locked, medium",
            ),
            Beat(3, 9, "The same clip with a bright ukulele", "A · sunny", "same shot"),
            Beat(
                9,
                15,
                "The same clip with a low drone; the message is now readable",
                "{fact}",
                "same shot, slightly closer",
                "B · uneasy",
            ),
            Beat(
                15,
                22,
                "The same clip with a lonely trumpet, in black and white",
                "C · film noir. A, B or C?",
                "same shot",
            ),
        ),
        (
            "Same six seconds, three scores. Is {topic} an A, a B or a C?",
            "It is all in the music. Which version of {topic} would you have believed?",
        ),
        "The comparison rewards watching to the end, and a letter is enough to answer.",
        "three short original cues: ukulele, drone, trumpet",
        ("filmscore", "soundtrack"),
    ),
    Format(
        "group-chat",
        "relationships",
        (
            "The group chat finds out about {topic}",
            "Four friends, one message: {topic}",
            "POV: you bring up {topic} in the group chat",
        ),
        (
            Beat(0, 3, "A phone lights up on a pillow", "“guys. {topic}.”", "close, dark room"),
            Beat(3, 10, "Four people in four rooms read the same line", "{fact}", "four-way split", "typing…"),
            Beat(
                10,
                20,
                "The roles appear: sources, jokes, too late, reactions only",
                "sources · jokes · late · just 👀",
                "cutting between the four",
            ),
            Beat(
                20,
                25,
                "The phone lies dark again; one last message arrives, unread",
                "Which one are you?",
                "close, dark room",
            ),
        ),
        (
            "Sources, jokes, late, or just reacting: who are you when {topic} comes up?",
            "Tag your group chat. Somebody has not heard about {topic} yet.",
        ),
        "Everybody recognises a role of their own and tags the friends for the other three.",
        "message pops, a blanket, muffled laughter",
        ("groupchat", "friends"),
    ),
    Format(
        "back-to-back",
        "relationships",
        ("How well do you know each other? The {topic} round", "Back to back: {topic}", "Same answer or not: {topic}"),
        (
            Beat(
                0,
                3,
                "Two people sit back to back with a sign in each hand: me, you",
                "{topic}: who is it?",
                "locked, symmetrical",
            ),
            Beat(
                3,
                10,
                "The questioner reads out one line first",
                "{fact}",
                "close on both faces",
                "“Who heard of it first?”",
            ),
            Beat(
                10,
                22,
                "Three quick questions; signs go up, sometimes the same, sometimes not",
                "Who cares more? · Who explains it? · Who will bring it up at dinner?",
                "locked, symmetrical",
            ),
            Beat(22, 27, "They turn around, see the score on the floor and laugh", "Play it with yours", "wide"),
        ),
        (
            "We agreed less than expected about {topic}. Play it with yours and tell me the score.",
            "Three questions about {topic}. Same answer or an evening's conversation?",
        ),
        "A game for two that can be copied at once, with an outcome that viewers guess along.",
        "signs whooshing up, a small drum roll, real laughter",
        ("couplegame", "bestfriends"),
    ),
)
