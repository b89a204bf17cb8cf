"""What runs in a cell's own environment: load a wheelhouse, then prove each kind of function that this PySpark has.

python cell.py '{"session": ..., "address": ..., "isolation": ..., ...}'

It prints one JSON, last. Everything that workers run is pickled by value, because this is the main module.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Ask = Callable[[Any, Sequence[str]], list[str]]

_PARTITIONS = 4
_REFUSAL = ("isolation='process'", 'isolation="process"')


@dataclass(frozen=True)
class Job:
    """What a cell is to prove."""

    session: str
    """``classic``, ``connect`` or ``none``."""
    address: str
    """The master, or the Connect server."""
    isolation: str
    path: str
    """The wheelhouse to load."""
    expected: Mapping[str, str]
    """Version by module, of what it brings."""
    before: Sequence[str] = ()
    """Modules that the workers import before anything is loaded, as after anybody's first pandas UDF."""
    refused: str | None = None
    """A wheelhouse that must not load into shared workers, because they have imported another version before."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Spark's, for a classic session."""


class ProofError(Exception):
    """What was seen is not what was to be proven."""


def main(job: Job) -> dict[str, Any]:
    """All that was seen: ``kinds`` by name, each with ``proven``, a ``reason`` why not, or ``failed``."""
    answer: dict[str, Any] = {"python": sys.version.split()[0], "pyspark": _version("pyspark")}
    if job.session == "none":
        return {**answer, "kinds": {}, **_driver_alone(job)}
    with _session(job) as spark:
        if job.refused:
            answer["refused"] = _attempt(lambda: _refusal(job, spark))
        answer.update(_isolated(job, spark) if job.isolation == "process" else _shared(job, spark))
    return answer


# --- what a cell proves ---------------------------------------------------------------------------------------------


def _driver_alone(job: Job) -> dict[str, Any]:
    import depload

    loaded = depload.load(job.path)
    return {"driver": _attempt(lambda: _checked([probe(list(job.expected))], job, loaded.digest))}


def _shared(job: Job, spark: Any) -> dict[str, Any]:
    import depload

    loaded = depload.load(job.path, spark)
    return {**_facts(loaded), "kinds": _kinds(job, spark, loaded.digest)}


def _isolated(job: Job, spark: Any) -> dict[str, Any]:
    """Workers of its own for this session, the old ones for its neighbour; and afterwards the old ones for it too."""
    import depload
    from depload.errors import DeploadWarning

    before = _seen(_by_udf(spark, job.before)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeploadWarning)  # a Connect client has imported pandas itself
        loaded = depload.load(job.path, spark, isolation="process")
    answer = {**_facts(loaded), "kinds": _kinds(job, spark, loaded.digest)}
    with _neighbour(job, spark) as other:
        answer["undisturbed"] = _attempt(lambda: _as_before(other, before))
    loaded.unload()
    answer["put back"] = _attempt(lambda: _as_before(spark, before))
    return answer


def _refusal(job: Job, spark: Any) -> dict[str, Any]:
    """In a session of its own, as a Connect session keeps what it was sent; for the workers, whose fault it is."""
    import depload

    with _neighbour(job, spark) as other:
        _by_udf(other, job.before)
        try:
            depload.load(str(job.refused), other, driver=False)
        except depload.DeploadError as error:
            if not any(remedy in str(error) for remedy in _REFUSAL):
                raise ProofError(f"the refusal does not name {_REFUSAL[0]}: {error}") from error
            return {"proven": type(error).__name__}
    raise ProofError("a version that the workers had not imported was loaded into them")


def _as_before(spark: Any, before: Mapping[str, str | None]) -> dict[str, Any]:
    """In this session functions see what they saw before, each way that has an interpreter of its own to choose."""
    for way in [_by_udf] if _is_connect(spark) else [_by_udf, _by_rdd]:
        for text in way(spark, list(before)):
            if _seen(text) != before:
                raise ProofError(f"{way.__name__}: the workers see {_seen(text)}, before it was {before}")
    return {"proven": before}


def _facts(loaded: Any) -> dict[str, Any]:
    workers = loaded.report.workers
    return {
        "delivery": loaded.report.delivery,
        "executors": sorted({worker.executor for worker in workers}),
        "sites": sorted({str(worker.site) for worker in workers}),
        "unpacked": sorted(str(worker.site) for worker in workers if worker.unpacked),
        "warnings": list(loaded.report.warnings),
    }


# --- each kind of function ------------------------------------------------------------------------------------------


def probe(modules: Sequence[str]) -> str:
    """What one process sees, as JSON; this is what every kind of function runs."""
    import importlib.util
    import json
    import os

    seen = {}
    for name in modules:
        module = importlib.import_module(name) if importlib.util.find_spec(name) else None
        seen[name] = [getattr(module, "__version__", None), getattr(module, "__file__", None)]
    return json.dumps({"pid": os.getpid(), "seen": seen})


def _seen(text: str) -> dict[str, str | None]:
    """Version by module, None where it cannot be imported."""
    return {name: version for name, (version, _) in json.loads(text)["seen"].items()}


def _by_udf(spark: Any, modules: Sequence[str]) -> list[str]:
    from pyspark.sql.functions import udf

    ask = udf(lambda _: probe(modules), "string")
    return [row[0] for row in _rows(spark).select(ask("id")).collect()]


def _by_pandas_udf(spark: Any, modules: Sequence[str]) -> list[str]:
    from pyspark.sql.functions import pandas_udf

    ask = pandas_udf(lambda ids: ids.map(lambda _: probe(modules)), "string")
    return [row[0] for row in _rows(spark).select(ask("id")).collect()]


def _by_map_in_pandas(spark: Any, modules: Sequence[str]) -> list[str]:
    def answers(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            yield frame.assign(answer=probe(modules))[["answer"]]

    return [row[0] for row in _rows(spark).mapInPandas(answers, "answer string").collect()]


def _by_apply_in_pandas(spark: Any, modules: Sequence[str]) -> list[str]:
    def answer(frame: Any) -> Any:
        return frame.assign(answer=probe(modules))[["answer"]]

    return [row[0] for row in _rows(spark).groupBy("id").applyInPandas(answer, "answer string").collect()]


def _by_rdd(spark: Any, modules: Sequence[str]) -> list[str]:
    rows = spark.sparkContext.parallelize(range(_PARTITIONS), _PARTITIONS)
    answers: list[str] = rows.map(lambda _: probe(modules)).collect()
    return answers


def _by_udtf(spark: Any, modules: Sequence[str]) -> list[str]:
    from pyspark.sql.functions import lit, udtf

    class Answers:
        def eval(self, _: int) -> Iterator[tuple[str]]:
            yield (probe(modules),)

    del spark  # the function belongs to the active session
    return [row[0] for row in udtf(Answers, returnType="answer string")(lit(1)).collect()]


def _by_data_source(spark: Any, modules: Sequence[str]) -> list[str]:
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

    class Reader(DataSourceReader):  # type: ignore[misc]
        def partitions(self) -> list[Any]:
            return [InputPartition(number) for number in range(_PARTITIONS)]

        def read(self, partition: Any) -> Iterator[tuple[str]]:
            del partition
            yield (probe(modules),)

    class Answers(DataSource):  # type: ignore[misc]
        def schema(self) -> str:
            return "answer string"

        def reader(self, schema: Any) -> Any:
            del schema
            return Reader()

    spark.dataSource.register(Answers)
    return [row[0] for row in spark.read.format("Answers").load().collect()]


def _rows(spark: Any) -> Any:
    return spark.range(0, _PARTITIONS, 1, _PARTITIONS)


@dataclass(frozen=True)
class Kind:
    """A kind of function, and what it needs."""

    name: str
    ask: Ask
    since: tuple[int, int] = (3, 4)
    by_arrow: bool = False
    classic: bool = False


KINDS = (
    Kind("UDF", _by_udf),
    Kind("pandas UDF", _by_pandas_udf, by_arrow=True),
    Kind("mapInPandas", _by_map_in_pandas, by_arrow=True),
    Kind("applyInPandas", _by_apply_in_pandas, by_arrow=True),
    Kind("RDD", _by_rdd, classic=True),
    Kind("UDTF", _by_udtf, since=(3, 5)),
    Kind("data source", _by_data_source, since=(4, 0), by_arrow=True),
)


def _kinds(job: Job, spark: Any, digest: str) -> dict[str, Any]:
    return {kind.name: _proof(kind, job, spark, digest) for kind in KINDS}


def _proof(kind: Kind, job: Job, spark: Any, digest: str) -> dict[str, Any]:
    if reason := _why_not(kind, job):
        return {"reason": reason}
    return _attempt(lambda: _checked(kind.ask(spark, list(job.expected)), job, digest))


def _why_not(kind: Kind, job: Job) -> str | None:
    major, minor = (int(part) for part in str(_version("pyspark")).split(".")[:2])
    if (major, minor) < kind.since:
        return f"from PySpark {kind.since[0]}.{kind.since[1]} on"
    if kind.classic and job.session == "connect":
        return "Spark Connect has none"
    missing = [name for name in ("pandas", "pyarrow") if importlib.util.find_spec(name) is None]
    if kind.by_arrow and missing:
        return f"no {' and no '.join(missing)} installed"
    return None


def _checked(texts: Sequence[str], job: Job, digest: str) -> dict[str, Any]:
    """Every process saw the versions that were loaded, and the files of the site that the digest names."""
    answers = [json.loads(text) for text in texts]
    if not answers:
        raise ProofError("no function ran")
    for answer in answers:
        for name, (version, file) in answer["seen"].items():
            if version != job.expected[name] or f"/{digest}/" not in str(file):
                raise ProofError(f"{name} is {version} from {file}, expected {job.expected[name]} of digest {digest}")
    return {"proven": answers[0]["seen"], "processes": len({answer["pid"] for answer in answers})}


def _attempt(prove: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A proof or its failure as text, so that one failure hides no other."""
    try:
        return prove()
    except Exception as error:  # noqa: BLE001 - whatever Spark raises
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"[:4000]}


# --- sessions -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _session(job: Job) -> Iterator[Any]:
    if job.session == "connect":
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.remote(job.address).getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()
        return
    from depload.local.embedded import spark_session

    with spark_session(job.address, **dict(job.config)) as spark:
        yield spark


@contextlib.contextmanager
def _neighbour(job: Job, spark: Any) -> Iterator[Any]:
    """Another session of the same application."""
    if job.session == "classic":
        yield spark.newSession()
        return
    from pyspark.sql import SparkSession

    other = SparkSession.builder.remote(job.address).create()
    try:
        yield other
    finally:
        other.stop()


def _is_connect(spark: Any) -> bool:
    return type(spark).__module__.startswith("pyspark.sql.connect")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: what lies beside this file is the runner's
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    print(json.dumps(main(Job(**json.loads(sys.argv[1])))))
