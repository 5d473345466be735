"""`viral media list`."""

from hashlib import sha256

from sqlalchemy import insert

from db.schema.videos import videos
from tests.builders import a_tenant
from tests.cli.shell import Shell
from workers.app import App


def test_files_are_listed_with_whether_a_video_uses_them(viral: Shell, app: App) -> None:
    ada, bob = a_tenant(app), a_tenant(app)
    for tenant_id, content in ((ada, b"a"), (ada, b"b"), (bob, b"a")):
        with app.db.transaction(tenant_id) as tx:
            file = tx.media.begin(tenant_id, sha256=sha256(content).digest(), size=1, extension="mp4")
            tx.media.mark_stored(tenant_id, file.id)
            if tenant_id == bob:
                tx.sql.execute(insert(videos).values(tenant_id=bob, media_id=file.id))
    assert [row["used"] for row in viral.json("media", "list", "--tenant", ada)] == [False, False]
    rows = viral.json("media", "list")
    assert [(row["tenant_id"], row["used"]) for row in rows[:1]] == [(str(bob), True)]
    assert rows[0]["sha256"] == sha256(b"a").hexdigest()
    assert len(rows) == 3
    assert str(ada) in viral("media", "list").out
