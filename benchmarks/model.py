"""What a load takes, predicted from what its parts take: for so many executors, on so many nodes, by each way.

A load is one proof job, beside which the driver hashes the file and unpacks; every node unpacks once, every Python
worker imports and answers. On one machine that plays all nodes these share its cores; on a cluster every node has its
own, and bytes take the time that their way is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE, URI, WHEELS = "reference", "uri", "wheels"


@dataclass(frozen=True)
class Parts:
    """What was measured of one set, each by itself: seconds, CPU seconds, bytes."""

    fixed: float
    """s: a load with one executor of a wheelhouse with next to nothing in it, which the node has."""
    executor_cpu: float
    """CPU s for each further executor of that: a Python worker starts, activates, answers."""
    driver_cpu: float
    """CPU s of these that are the driver's: for each task of the proof job."""
    verify: float
    """s, all of it of one core: the driver hashes the wheelhouse."""
    unpack: float
    """s: one process unpacks it on a node that does nothing else."""
    unpack_cpu: float
    worker: float
    """s: one process finds the site complete (a stat for each file), imports, and lists its packages."""
    worker_cpu: float
    send: float
    """s: the wheelhouse through Spark's file server to one executor."""
    send_cpu: float
    size: float
    """Bytes of the wheelhouse."""
    reference: float
    """Bytes of the reference to it."""


@dataclass(frozen=True)
class Cluster:
    """What a cluster has; assumed, and told with what is predicted of it."""

    cores: int = 4
    """Of a node, which is one executor with so many slots and so many Python workers."""
    store: float = 100e6
    """Bytes/s that one node reads from the store."""
    driver: float = 1.25e9
    """Bytes/s that leave the driver's node: 10 Gbit/s."""


def on_one_machine(
    parts: Parts, executors: int, nodes: int, cores: int, way: str = REFERENCE, *, warm: bool = False
) -> float:
    """Seconds of a load where all executors and nodes share the cores of the driver's machine."""
    sent = way == WHEELS
    unpacking = 0 if warm else 1
    path = sent * parts.send + unpacking * parts.unpack + parts.worker
    work = (
        (executors - 1) * parts.executor_cpu
        + executors * (parts.worker_cpu + sent * parts.send_cpu)
        + unpacking * (nodes + 1) * parts.unpack_cpu  # the driver has a site of its own
        + parts.verify
    )
    # Where the reference is tried in vain, its proof job has been run before.
    return parts.fixed * (2 if sent else 1) + max(path, work / cores)


def on_cluster(parts: Parts, executors: int, cluster: Cluster, way: str = REFERENCE, *, warm: bool = False) -> float:
    """Seconds of a load on a cluster with a node for each executor."""
    fetched = parts.size / cluster.store
    arrives = {
        REFERENCE: 0 if warm else fetched,
        URI: fetched,  # Spark fetches it before a worker can say that it has the site
        WHEELS: parts.size / cluster.driver * executors,
    }[way]
    unpacking = 0 if warm else parts.unpack
    jobs = {REFERENCE: 1, URI: 2, WHEELS: 2}[way]
    # As if the driver dealt with one task after the other, with a JVM as cold as where it was measured.
    serial = jobs * (parts.fixed + executors * cluster.cores * parts.driver_cpu)
    return serial + max(parts.verify, arrives + unpacking + parts.worker)


def from_store(parts: Parts, executors: int, way: str, *, warm: bool = False) -> float:
    """Bytes that one run reads from the store; the driver's own reading included."""
    return parts.size * (1 + {REFERENCE: 0 if warm else executors, URI: executors, WHEELS: 0}[way])


def through_driver(parts: Parts, executors: int, way: str) -> float:
    """Bytes that leave the driver of one run; nodes that have the site are sent no less."""
    return executors * {REFERENCE: parts.reference, URI: parts.reference, WHEELS: parts.reference + parts.size}[way]


def narrow(cluster: Cluster) -> int:
    """Executors from which on the driver's network is what a cold load waits for, more than a node's own reading."""
    return int(cluster.driver / cluster.store) + 1
