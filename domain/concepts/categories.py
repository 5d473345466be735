"""The twelve categories: their words, their usual marks, and topics that are never out of season."""

CATEGORIES = (
    "news",
    "absurd",
    "luxury",
    "emotional",
    "tech",
    "cartoon",
    "gaming",
    "fitness",
    "food",
    "finance",
    "music",
    "relationships",
)

BASE_MARKS = {
    "news": (45, 60, 60),
    "absurd": (75, 55, 75),
    "luxury": (80, 50, 60),
    "emotional": (60, 80, 70),
    "tech": (60, 45, 55),
    "cartoon": (78, 60, 65),
    "gaming": (75, 55, 65),
    "fitness": (70, 50, 60),
    "food": (80, 55, 70),
    "finance": (45, 50, 55),
    "music": (60, 75, 75),
    "relationships": (55, 80, 70),
}
"""Visual potential, emotional impact and shareability of a topic of the category of which nothing else is known."""

KEYWORDS = {
    "news": (
        "election|president|minister|congress|senate|court|law|strike|summit|border|police|weather|storm"
        "|climate|vote|government|mayor|treaty|embassy|protest"
    ),
    "absurd": "weird|bizarre|prank|absurd|cursed|meme|raccoon|goose|possum|unhinged|world record",
    "luxury": (
        "luxury|yacht|mansion|supercar|ferrari|rolex|couture|jewel(?:le)?ry|villa|penthouse|birkin"
        "|runway show|fashion week"
    ),
    "emotional": (
        "reunion|rescue[sd]?|adopt(?:s|ed|ion)?|farewell|tribute|kindness|grandmother|grandfather|veteran"
        "|nostalgia|childhood|retire[sd]?|homecoming|puppy"
    ),
    "tech": (
        "ai|app|iphone|android|google|apple|microsoft|openai|chip|gpu|software|robot|browser|open source"
        "|startup|linux|python|rust|database|satellite|rocket|spacex|nasa|postgres|chatbot|llm|smartphone"
        "|laptop|quantum"
    ),
    "cartoon": "anime|manga|pixar|disney|cartoon|animated|animation|ghibli|simpsons|pokemon|pokémon|lego",
    "gaming": (
        "game|gaming|gamer|xbox|playstation|ps5|nintendo|switch 2|steam|fortnite|minecraft|roblox|esport"
        "|speedrun|gta|zelda|mario|elden ring|call of duty|dlc|patch notes"
    ),
    "fitness": (
        "gym|workout|marathon|yoga|pilates|running|runner|protein|fitness|steps|squat|training plan|olympic"
        "|nba|nfl|nhl|mlb|soccer|football|basketball|tennis|world cup|lakers|celtics|premier league"
        "|grand prix|ufc"
    ),
    "food": (
        "recipe|food|restaurant|chef|pizza|burger|coffee|cake|baking|cook|cooking|cheese|chocolate|ramen"
        "|sushi|taco|bread|thanksgiving dinner|turkey recipe|snack|matcha|air fryer"
    ),
    "finance": (
        "stock|stocks|market|bitcoin|crypto|inflation|mortgage|tax|taxes|earnings|interest rate|fed|rent"
        "|salary|bank|budget|tariff|nasdaq|dow jones|ipo|layoff"
    ),
    "music": (
        "song|album|concert|tour|band|singer|rapper|music|lyrics|grammy|spotify|remix|vinyl|guitar|festival"
        "|orchestra|k-pop|kpop|music video|single"
    ),
    "relationships": (
        "wedding|dating|divorce|breakup|marriage|married|engaged|girlfriend|boyfriend|husband|wife|couple"
        "|roommate|friendship|proposal|in-law|family dinner"
    ),
}
"""Regular expressions, matched as whole words (a plural `s` may follow), so that "ai" is not found in "said"."""

SENSITIVE = (
    r"dead|dies|died|death|deaths|dying|killed|kills|killing|murder(?:s|ed|er)?|shooting|shot dead|stabbing"
    r"|suicide|overdose|rape[ds]?|rapist|sexual assault|abuse[ds]?|molest\w*|kidnap\w*|hostage|massacre"
    r"|genocide|terror\w*|bomb(?:ing|ed|s)?|war|missile|airstrike|invasion|casualt\w+|victim|victims|funeral"
    r"|obituary|cancer|earthquake|wildfire|hurricane|tornado|tsunami|flood(?:s|ing)?|plane crash"
    r"|crash(?:es|ed)? kill\w*|fatal\w*|missing (?:girl|boy|child|teen|woman|man)|manhunt|executed|execution"
    r"|porn\w*|nude|nudes|onlyfans|nsfw|sex tape|arrested|indicted|sentenced"
)

EVERGREEN_TOPICS = {
    "news": (
        "how a headline gets made",
        "reading past the headline",
        "what your town council decides",
        "checking where a photo came from",
    ),
    "absurd": (
        "the missing second sock",
        "assembling furniture without instructions",
        "a drawer that holds only cables",
        "waving back at someone who did not wave at you",
    ),
    "luxury": (
        "making a small room feel expensive",
        "one good coat for ten winters",
        "hotel-style bed making",
        "the quiet of an early museum visit",
    ),
    "emotional": (
        "calling a friend instead of texting",
        "the first place that felt like home",
        "keeping old birthday cards",
        "a teacher you never thanked",
    ),
    "tech": (
        "passwords you can actually remember",
        "backing up your photos",
        "keyboard shortcuts that save a morning",
        "what happens when you open a web page",
    ),
    "cartoon": (
        "drawing one face in five styles",
        "what your pet does when you leave",
        "a flip-book on sticky notes",
        "Monday as a cartoon character",
    ),
    "gaming": (
        "the tutorial everyone skips",
        "couch co-op nights",
        "the first game you finished",
        "side quests in real life",
    ),
    "fitness": (
        "stretching between meetings",
        "walking instead of scrolling",
        "the first ten minutes of a run",
        "learning one push-up properly",
    ),
    "food": (
        "the perfect grilled cheese",
        "cooking with what is left in the fridge",
        "a dish your family argues about",
        "better coffee at home",
    ),
    "finance": (
        "subscriptions you forgot about",
        "a weekend without spending",
        "splitting the bill fairly",
        "the envelope method",
    ),
    "music": (
        "the song that got you through the year",
        "learning one chord a day",
        "headphones on a long train ride",
        "making a beat from kitchen sounds",
    ),
    "relationships": (
        "the long goodbye at the door",
        "planning a trip with friends",
        "living with a roommate",
        "meeting the parents",
    ),
}
"""Topics of which nothing is claimed: they fill up a list when few live ones can be used."""
