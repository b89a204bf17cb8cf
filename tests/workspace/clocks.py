"""The time that a client of the SDK waits between attempts."""

from __future__ import annotations

import time

from databricks.sdk.clock import Clock

SHARE = 0.02


class Impatient(Clock):
    """Waits a small part of what it is told, so that retries do not take the time of a real outage."""

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds * SHARE)
