"""What the process of a job cluster runs: one Spark application, to which the tasks' processes attach.

``python -m depload.running.application``: standard input has a line of JSON (``master``, ``name``, ``conf``, ``file``),
and its end is the end of the application. ``file`` gets what a process needs to attach, the secret of the JVM's gateway
among it, and is readable by its owner alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from depload.errors import DeploadError
from depload.local.embedded import attachment, spark_session

MODULE = "depload.running.application"


def main() -> int:
    """Start Spark, say how to attach, and stay until standard input ends."""
    told = json.loads(sys.stdin.readline())
    try:
        with spark_session(told["master"], told["name"], **told["conf"]) as spark:
            _write(Path(told["file"]), json.dumps(attachment(spark)))
            sys.stdin.read()
    except DeploadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    fresh.replace(file)  # so that nobody reads half of it


if __name__ == "__main__":
    sys.exit(main())
