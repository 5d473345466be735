"""The script whose rendering is measured: fifteen seconds, a slide of each kind; or the beginning of it."""

from domain.videos.script import Script, ScriptSegment

SHOWN = (
    (0, 3, "Backing up your photos"),
    (3, 6, "What I know so far"),
    (6, 11, "How does it fail? · What did it replace? · Who keeps it running?"),
    (11, 13, "“Nobody misses a photo until the phone is gone” (The Photo Post)."),
    (13, 15, "Your question?"),
)


def reference_script(seconds: int = 15) -> Script:
    return Script(
        title="Backing up your photos: what I would ask whoever built it",
        category="tech",
        segments=tuple(
            ScriptSegment(float(start), float(end), shown, "", "") for start, end, shown in SHOWN if end <= seconds
        ),
        prompt="",
        topic="backing up your photos",
        hashtags=(),
    )
