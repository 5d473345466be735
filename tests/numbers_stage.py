"""Published posts with numbers, as rows: for tests of what reads them."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.learning.numbers import Horizon
from tests.workers.ops.test_posts import CONCEPT, NOW, Tenant

DAY = timedelta(days=1)
NUMBERS = ("views", "likes", "comments", "shares")


class Measured(Tenant):
    """Somebody whose posts are out, and were looked at."""

    def published(
        self,
        account_id: UUID,
        *,
        at: datetime | None = NOW - 3 * DAY,
        status: str = "published",
        video_id: UUID | None = None,
        **columns: Any,
    ) -> UUID:
        """Add a post that was published at this moment; return its id."""
        post_id, video_id = uuid4(), video_id or self.video(status="pending")
        columns |= {"published_at": at, "prediction": json.dumps({"score": 71, "label": "high"})}
        names = ("id", "tenant_id", "video_id", "account_id", "status", *columns)
        values = (post_id, self.id, video_id, account_id, status, *columns.values())
        places = ", ".join(["%s"] * len(names))
        with self._app.db.transaction(self.id) as tx:
            tx.driver.execute(f"INSERT INTO social_posts ({', '.join(names)}) VALUES ({places})", values)
        return post_id

    def look(
        self,
        post_id: UUID,
        horizon: Horizon | None = Horizon.H24,
        *numbers: int | None,
        age: timedelta | None = None,
        definition: str | None = None,
        details: dict[str, int] | None = None,
        source: str = "simulated",
    ) -> None:
        """Add what was seen of a post: views, likes, comments, shares; those that are left out are unknown."""
        views, likes, comments, shares = (*numbers, *(None,) * (4 - len(numbers)))
        age = age or (horizon or Horizon.D7).age
        with self._app.db.transaction(self.id) as tx:
            tx.driver.execute(
                "INSERT INTO analytics_snapshots (tenant_id, post_id, captured_at, views, likes, comments, shares,"
                " details, horizon, age, source, definition)"
                " SELECT tenant_id, id, published_at + %(age)s, %(views)s, %(likes)s, %(comments)s, %(shares)s,"
                " %(details)s, %(horizon)s, %(age)s, %(source)s, %(definition)s FROM social_posts WHERE id = %(id)s",
                {
                    **{"id": post_id, "views": views, "likes": likes, "comments": comments, "shares": shares},
                    **{"age": age, "horizon": horizon, "source": source, "definition": definition},
                    "details": json.dumps(details or {}),
                },
            )

    def miss(self, post_id: UUID, horizon: Horizon, reason: str) -> None:
        with self._app.db.transaction(self.id) as tx:
            tx.driver.execute(
                "INSERT INTO missed_horizons (tenant_id, post_id, horizon, reason) VALUES (%s, %s, %s, %s)",
                (self.id, post_id, horizon, reason),
            )

    def category(self, category: object) -> UUID:
        """Add a video of a concept of this category; return its id."""
        video_id = self.video(concept=True, status="pending")
        concepts = json.dumps([CONCEPT | {"id": "c0", "category": "other"}, CONCEPT | {"category": category}])
        with self._app.db.transaction(self.id) as tx:
            tx.driver.execute(
                "UPDATE generations SET concepts = %s WHERE id = (SELECT generation_id FROM videos WHERE id = %s)",
                (concepts, video_id),
            )
        return video_id
