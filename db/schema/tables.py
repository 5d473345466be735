"""The whole schema: importing this module loads every table, function and trigger into `metadata`.

`migrations/` makes the schema of a database, and a test proves that the two agree.

Every table has row-level security (see `db/security.py`): a row is seen in the system scope, or in the scope of the
tenant whose id it carries. Foreign keys between tenant-owned tables include `tenant_id`, so that no row can point at
another tenant's. Columns that other programs need not know have defaults: a row inserted into `job_queue` by plain SQL
is an enqueued job.
"""

from db.schema import archive as archive
from db.schema import autopilot as autopilot
from db.schema import billing as billing
from db.schema import concepts as concepts
from db.schema import events as events
from db.schema import identity as identity
from db.schema import learning as learning
from db.schema import ops as ops
from db.schema import outgoing as outgoing
from db.schema import posting as posting
from db.schema import queue as queue
from db.schema import tenants as tenants
from db.schema import trends as trends
from db.schema import videos as videos
from db.schema.base import metadata as metadata
from db.schema.deletion import declare

declare()
