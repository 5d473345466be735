"""Cursors of lists, newest first: the moment and the id of a page's last row, as a text that callers hand back."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from uuid import UUID

from web.error_responses import ApiError

LONGEST = 200


def encode_cursor(cursor: tuple[datetime, UUID]) -> str:
    moment, row_id = cursor
    return urlsafe_b64encode(json.dumps([moment.isoformat(), str(row_id)]).encode()).decode().rstrip("=")


def decode_cursor(text: str) -> tuple[datetime, UUID]:
    """Return the cursor that was encoded.

    Raises:
        ApiError: it is none of ours.
    """
    try:
        moment, row_id = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        cursor = datetime.fromisoformat(moment), UUID(row_id)
        if cursor[0].tzinfo is None:
            raise ValueError("a moment has an offset")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ApiError(422, "cursor: not one of ours; begin without it", "INVALID") from error
    return cursor
