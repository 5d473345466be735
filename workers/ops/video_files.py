"""Files of videos, for the API and the shell: where they are, what is to be known of them, how one's own is added."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.videos.containers import HEAD, video_extension_of
from domain.videos.plan import Layout
from domain.videos.profiles import NAMES
from workers.adapters.ports import media_folder
from workers.app import App
from workers.jobs.media import keep

Row = dict[str, Any]


def addresses(app: App, video: Row, lifetime: timedelta) -> Row:
    """Return `url` and `thumbnail_url`, which end after `lifetime`, the `sha256` of the file, what a look at it found
    (`probe`), and its `path` where files are kept in a folder. All are None for a video that is not completed."""
    found: Row = dict.fromkeys(("url", "thumbnail_url", "sha256", "probe", "path"))
    found["probe"] = (video["details"] or {}).get("probe")
    if video["status"] != "completed":
        return found
    tenant_id = video["tenant_id"]
    with app.db.transaction(tenant_id) as tx:
        media, thumbnail = (
            video[name] and tx.media.get(tenant_id, video[name]) for name in ("media_id", "thumbnail_id")
        )
    for name, file in (("url", media), ("thumbnail_url", thumbnail)):
        if file is not None:
            found[name] = app.ports.media.address(file.key, lifetime=lifetime)
    if media is not None:
        found["sha256"] = media.sha256.hex()
        if not app.settings.s3_bucket:
            found["path"] = (media_folder(app.settings).folder / media.key).absolute()
    return found


def warnings_of(video: Mapping[str, Any]) -> list[str]:
    """Return what a person should know of the video before they post it, a sentence each."""
    details = video["details"] or {}
    noted = []
    if video["status"] == "completed" and video["source"] == "concept" and video["layout"] == Layout.STORYBOARD:
        noted.append("made by the built-in storyboard renderer, not by a video model")
    if left_out := details.get("left_out"):
        noted.append(f"no font here has these characters, so they were left out: {' '.join(map(str, left_out))}")
    slides = {**(details.get("slides") or {}), **(details.get("unusable_clips") or {})}
    slides = slides if video["status"] == "completed" else {}
    noted += [f"segment {int(scene) + 1} is a slide: {why}" for scene, why in sorted(slides.items(), key=_number)]
    noted += [
        f"{NAMES.get(platform, platform)} does not take the file: {'; '.join(map(str, wrong))}"
        for platform, wrong in sorted((details.get("faults") or {}).items())
    ]
    return noted + list(map(str, details.get("hints") or ()))


def _number(slide: tuple[str, object]) -> int:
    return int(slide[0])


def add_own(app: App, tenant_id: UUID, path: Path) -> UUID:
    """Keep a video file of the tenant's own, and return its id in `media`. It is looked at when a video is made of it.

    Raises:
        UnknownTenant: there is none of this id.
        MediaUnusable: it begins like no video.
        StoreUnavailable: the store is away or full.
    """
    with app.db.transaction(SYSTEM) as tx:
        tx.tenants.get(tenant_id)
    with path.open("rb") as file:
        extension = video_extension_of(file.read(HEAD))
    return keep(partial(app.db.transaction, tenant_id), app.ports.media, tenant_id, path, extension=extension).id
