"""What the tests' Java processes start with, so that a short life costs little.

``python tests/jvm.py FILE`` starts Spark once and keeps its classes as the JVM has laid them out (class-data sharing).
Each JVM of that Java and that Spark maps the file, where it would have read, checked and linked them all anew; another
passes it over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from depload.local.embedded import DEFAULT_MASTER, spark_session

CLASSES = Path(sys.prefix) / "spark.jsa"
# Only the quick one of Java's two compilers: the other takes the cores that a short application starts on.
_QUICK = "-XX:TieredStopAtLevel=1"


def options() -> str:
    """For JDK_JAVA_OPTIONS, which every ``java`` reads."""
    return f"{_QUICK} -XX:SharedArchiveFile={CLASSES} -Xlog:disable"


def keep_classes(file: Path) -> None:
    """Write the file; an empty one, which does no harm, where this Java writes none."""
    part = file.with_suffix(".part")
    keeping = {"spark.driver.defaultJavaOptions": f"{_QUICK} -XX:ArchiveClassesAtExit={part} -Xlog:disable"}
    for master in (DEFAULT_MASTER, "local[2]"):  # what drivers use, and what executors do: both in one JVM
        with spark_session(master, **keeping) as spark:
            gateway = spark.sparkContext._gateway
            spark.range(4).selectExpr("sum(id)").collect()
            spark.sparkContext.parallelize(range(2), 2).map(str).collect()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    part.touch()
    part.replace(file)


if __name__ == "__main__":
    keep_classes(Path(sys.argv[1]))
