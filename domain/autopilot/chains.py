"""A chain is one concept's way from the day's concepts to its posts, without anybody's help.

    concepts ──▶ video ──▶ posts ──▶ done
        └──────────┴─────────┴─────▶ stopped

Each stage is done by the ordinary jobs; the chain only begins the next one, and says where it stands. A stage that
fails stops its own chain, and no other.
"""

from enum import StrEnum


class Mode(StrEnum):
    """What a tenant lets the autopilot do: nothing; prepare everything for a person to approve; post."""

    OFF = "off"
    APPROVE = "approve"
    AUTO = "auto"


class Stage(StrEnum):
    """What a chain waits for; or how it ended."""

    CONCEPTS = "concepts"
    VIDEO = "video"
    POSTS = "posts"
    DONE = "done"
    STOPPED = "stopped"
