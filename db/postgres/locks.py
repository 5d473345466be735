"""The one order of locks. A transaction that needs several takes them in this order, so that none waits in a circle:

1. an account outside: the advisory lock of a Stripe customer (`Billing`), of Clerk as a whole or of one person
   (`Identity`; of several people by their keys, `ClerkAccounts`); then the rows that mirror it, and its events, which
   are stored by (source, external_id)
2. the tenant; of several, by id
3. the gate of posting (an advisory lock: shared by who submits a post, alone for who halts posting), then the places
   of accounts (advisory, by bucket)
4. the tenant's own rows: the autopilot's settings (shared by who submits a post that it made), then its chains; holds,
   ledger, imports, generations, keys; media files; a month's video budget, submissions, videos; social accounts, then
   their posts, then the numbers of these, then what was learned of them (`learners`, by their keys); of several in one
   table, by id, and outcomes by when they were observed. Sounds that were imported, which no tenant
   has, then competitors' videos; of several, by key
5. new jobs; of several with unique keys, by key
6. the job that is ended
7. advisory locks of ordering keys and of limits of queues (`Claims`), sorted; a transaction that has one of these
   waits for no row

Buckets of rates are locked by a transaction that has no other lock; of several, by name (`db/queue/rates.py`).

A statement that cannot follow the order does not wait: it says SKIP LOCKED (claims, the reaper, the monthly reset,
posts that are due), or tries.

A row that will be changed is locked with `against_changes`, before or after its children are added: adding a child
locks the parent FOR KEY SHARE, and of two who have done that, each would wait for the other if they asked FOR UPDATE.
FOR UPDATE is for rows that are deleted, and only `db/queue/archive.py`, `db/videos/media.py` and the mark of a deleted
tenant (`db/ops/tenant_rows.py`) do so. A change of a
column of a unique index takes the same lock as a deletion, unless the index is partial: so no column of a whole unique
index is ever changed, but the id of a media file that is about to be deleted.
"""

from typing import Any, TypeVar

from sqlalchemy import Select

Query = TypeVar("Query", bound=Select[Any])


def against_changes(query: Query) -> Query:
    """Lock the rows that the query finds until the transaction ends (FOR NO KEY UPDATE): only it may change them, and
    others may refer to them."""
    return query.with_for_update(key_share=True)


def against_changes_where_free(query: Query) -> Query:
    """`against_changes` of those rows that nobody else has locked (SKIP LOCKED)."""
    return query.with_for_update(key_share=True, skip_locked=True)


def against_deletion(query: Query) -> Query:
    """Lock the rows that the query finds until the transaction ends (FOR KEY SHARE): nobody deletes them."""
    return query.with_for_update(read=True, key_share=True)


def against_references(query: Query) -> Query:
    """Lock the rows that the query finds until the transaction ends (FOR UPDATE): nobody changes them or begins to
    refer to them. For rows that are about to be deleted."""
    return query.with_for_update()
