"""What the tests' Java processes start with, so that a short life costs little.

``python tests/jvm.py FILE`` starts Spark once and keeps its classes as the JVM has laid them out (class-data sharing).
Each JVM of that Java and that Spark maps the file, where it would have read, checked and linked them all anew; another
passes it over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from depload.local.embedded import spark_session

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
    with spark_session("local[2]", **keeping) as spark:  # one JVM that does what drivers do, and executors
        from pyspark.sql.functions import udf

        spark.range(4).select(udf(str, "string")("id")).collect()
        spark.sparkContext.parallelize(range(2), 2).map(str).collect()
        gateway = spark.sparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    part.touch()
    part.replace(file)


if __name__ == "__main__":
    keep_classes(Path(sys.argv[1]))
