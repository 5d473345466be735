"""R15: the schema changes under load.

Migrating down to nothing loses all data and is for nobody's production. What has to hold is that a *new* migration can
be applied, taken back and applied again while everything runs: so a throwaway chain of additive migrations on top of
the product's newest one (`tests/chaos/versions`) goes up and down, with workers being killed as in R1.
"""

import os
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from db.migrate.revisions import compatibility_comment
from db.migrate.upgrade import MIGRATIONS, newest, owners_engine
from tests.chaos.experiments.kills import kill_one
from tests.chaos.fleet import FAST
from tests.chaos.load import feeding
from tests.chaos.report import Finding
from tests.chaos.stage import Stage, landed, settle
from tests.wait import until

VERSIONS = Path(__file__).resolve().parents[1] / "versions"
COLUMNS = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'job_queue' AND column_name LIKE 'chaos%'"


def migrating(stage: Stage, finding: Finding) -> None:
    """R15."""
    rng = stage.rng()
    rounds = stage.size(12, 2)
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.workers(3)
        slowest = 0.0
        up = down = 0
        with feeding(system, rng, per_second=120) as feeder:
            for n in range(rounds):
                goal = len(feeder.promised) + 60
                until(lambda goal=goal: len(feeder.promised) > goal, "jobs between two migrations")  # type: ignore[misc]
                if n % 3 == 1:
                    kill_one(fleet, rng)
                for target, columns in (("head", 2), (str(newest()), 0)):
                    began = time.monotonic()
                    migrate(system.owner_url, target)
                    slowest = max(slowest, time.monotonic() - began)
                    changed = system.value(COLUMNS) == columns
                    finding.expect(changed, f"migrating to {target} did not change the table")
                    up, down = up + (changed and columns > 0), down + (changed and columns == 0)
                    fleet.restart_fallen()
            finding.trials = 2 * rounds
            finding.saw("migrations up under load", up, least=rounds)
            finding.saw("migrations down under load", down, least=rounds)
            settle(finding, system, fleet, feeder, restarting=True)
        finding.figures |= {"slowest_migration_s": round(slowest, 2), "kills_amid_jobs": landed(system)}


def migrate(url: str, revision: str) -> None:
    """What `db.migrate.upgrade` does, with the throwaway chain in sight."""
    engine = owners_engine(url)
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.set_main_option("version_locations", os.pathsep.join([str(MIGRATIONS / "versions"), str(VERSIONS)]))
        config.attributes["connection"] = connection
        if revision == "head":
            command.upgrade(config, revision)
            # The release before may be started again on the new schema.
            connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{compatibility_comment({newest()})}'"))
        else:
            command.downgrade(config, revision)
        connection.commit()
    engine.dispose()
