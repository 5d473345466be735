"""What a worker process knows of the job types that it can run, as a claim is told it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Terms:
    """What a worker knows of a job type: the newest payload version that it reads, and how long a run may take."""

    payload_version: int = 1
    timeout: timedelta = timedelta(minutes=10)


Known = str
"""The job types that a process can run, and on which terms; see `known`."""


def known(job_types: Mapping[str, Terms]) -> Known:
    """What a claim may take. A type that is missing here, or a payload that is newer, waits for another process."""
    return json.dumps(
        {name: [terms.payload_version, terms.timeout.total_seconds()] for name, terms in job_types.items()}
    )
