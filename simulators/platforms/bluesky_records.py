"""What a Bluesky post must be: its lexicon, and that a facet points at what it says."""

import re
from collections.abc import Iterator
from typing import Any

from domain.posting.text import Unit, count

POSTS = "app.bsky.feed.post"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
RECORD_FIELDS = frozenset(("$type", "text", "createdAt", "embed", "facets", "langs", "labels", "reply"))
FEATURES = {"app.bsky.richtext.facet#link": "uri", "app.bsky.richtext.facet#tag": "tag"}


def faults(record: Any) -> Iterator[str]:
    """Yield what is wrong with a post."""
    if not isinstance(record, dict) or not record.keys() <= RECORD_FIELDS or record.get("$type") != POSTS:
        yield f"it is no {POSTS}, or has more than its fields"
        return
    text = record.get("text")
    if not isinstance(text, str) or count(text, Unit.BYTES) > 3000 or count(text, Unit.GRAPHEMES) > 300:
        yield "text must not be longer than 3000 bytes and 300 graphemes"
        return
    if not MOMENT.fullmatch(str(record.get("createdAt"))):
        yield "createdAt must be a moment"
    langs = record.get("langs", ["en"])
    if not isinstance(langs, list) or not 0 < len(langs) <= 3:
        yield "langs must be one to three"
    labels = record.get("labels", {"$type": "com.atproto.label.defs#selfLabels", "values": []})
    if labels.keys() != {"$type", "values"} or any(each.keys() != {"val"} for each in labels["values"]):
        yield "labels must be selfLabels"
    if "reply" in record and (
        record["reply"].keys() != {"root", "parent"}
        or any(each.keys() != {"uri", "cid"} for each in record["reply"].values())
    ):
        yield "reply must have a root and a parent"
    yield from _faults_of_embed(record.get("embed"))
    for facet in record.get("facets", ()):
        yield from _faults_of_facet(facet, text.encode())


def _faults_of_embed(embed: Any) -> Iterator[str]:
    if embed is None:
        return
    if embed.keys() != {"$type", "video", "aspectRatio"} or embed["$type"] != "app.bsky.embed.video":
        yield "embed must be a video with its aspect ratio"
    elif not all(embed["aspectRatio"].get(side, 0) > 0 for side in ("width", "height")):
        yield "embed.aspectRatio must have a width and a height"
    elif embed["video"].keys() != {"$type", "ref", "mimeType", "size"}:
        yield "embed.video must be a blob"


def _faults_of_facet(facet: Any, text: bytes) -> Iterator[str]:
    if facet.keys() != {"index", "features"} or facet["index"].keys() != {"byteStart", "byteEnd"}:
        yield "a facet has an index and features"
        return
    start, end = facet["index"]["byteStart"], facet["index"]["byteEnd"]
    try:
        shown = text[start:end].decode()
    except UnicodeDecodeError:
        yield f"the facet at {start} cuts a character"
        return
    for feature in facet["features"]:
        name = FEATURES.get(feature.get("$type"), "")
        if feature.keys() != {"$type", name}:
            yield f"the facet at {start} has a feature that there is not"
        elif feature[name] != (shown if name == "uri" else shown[1:]) or (
            name == "tag" and shown[:1] not in ("#", "＃")
        ):
            yield f"the facet at {start} says {feature[name]}, and the text {shown}"
