"""An export of the old app on its way into a tenant's tables: first it is read whole and reported on, and nothing is
written; then, once somebody wants it, it is taken over.

    checking ──▶ checked ──▶ importing ──▶ done
        └───────────┴────────────┴──▶ failed, cancelled
"""

from enum import StrEnum


class ImportStatus(StrEnum):
    CHECKING = "checking"
    CHECKED = "checked"
    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
