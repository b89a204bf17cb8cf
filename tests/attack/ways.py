"""The ways in which inputs come to a target, each in a process of its own: by hand, kept, by hypothesis, by atheris.

python tests/attack/ways.py WAY TARGET SECONDS REPORT        (run.py does)
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)

from attack import cases, guard, scenes, targets
from attack.guard import Tried

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CORPUS = Path(__file__).parent / "corpus"
HANDMADE, KEPT, HYPOTHESIS, ATHERIS = "hand-made", "corpus", "hypothesis", "atheris"
MEMORY = 1024
"""MB that one input may take beyond what the process has."""

_EXAMPLES = 200  # of hypothesis, between two looks at the clock
_MOST_FINDINGS = 20


@dataclass
class Counted:
    """What came of all inputs of one way to one target."""

    inputs: int = 0
    seconds: float = 0.0
    """Of the slowest input."""
    slowest: str = ""
    memory: int = 0
    """MB that the hungriest input took beyond what was there before; of atheris, that the process had."""
    crashes: int = 0
    escapes: int = 0
    findings: list[tuple[str, str]] = field(default_factory=list)
    """What it was called, or its bytes in hex; and the finding."""

    def add(self, label: str, tried: Tried, memory: int = 0) -> bool:
        """Count an input; True where it found what no other before it did."""
        self.inputs += 1
        if tried.seconds > self.seconds:
            self.seconds, self.slowest = tried.seconds, label
        self.memory = max(self.memory, memory)
        if not tried.finding:
            return False
        self.crashes += not tried.escape
        self.escapes += bool(tried.escape)
        known = {_last_line(finding) for _, finding in self.findings}
        fresh = _last_line(tried.finding) not in known and len(self.findings) < _MOST_FINDINGS
        if fresh:
            self.findings.append((label, tried.finding))
        return fresh


def _last_line(finding: str) -> str:
    return finding.strip().splitlines()[-1][:100]


def _peak() -> int:
    """MB of memory that this process has had at most, since it was told to forget."""
    (line,) = (line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def _forget_peak() -> None:
    """Begin anew (Linux, proc(5), "clear_refs")."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


# --- by hand, and kept --------------------------------------------------------------------------------


Attack = Callable[[Path], object]


def by_hand(target: str) -> Iterator[tuple[str, Callable[[], Attack]]]:
    """Every case and scene of a target, those that take long as well; an input is made when it is its turn."""
    for label, scene in scenes.SCENES.get(target, {}).items():
        yield label, functools.partial(_same, scene)
    for label, case in {**cases.CASES.get(target, {}), **heavy(target)}.items():
        yield label, functools.partial(_with, target, case)


def heavy(target: str) -> dict[str, cases.Input]:
    """The cases that may take LONG_PATIENCE."""
    return cases.HEAVY.get(target, {})


def _same(scene: Attack) -> Attack:
    return scene


def _with(target: str, case: cases.Input) -> Attack:
    return functools.partial(targets.TARGETS[target].attack, cases.data_of(case))


def kept(target: str) -> Iterator[tuple[str, Callable[[], Attack]]]:
    """Every file of the corpus."""
    for file in sorted((CORPUS / target).glob("*")):
        yield file.name, functools.partial(_with, target, file.read_bytes())


def _apart(attacks: Iterable[tuple[str, Callable[[], Attack]]], patient: Iterable[str] = ()) -> Counted:
    """Each input in a process of its own, whose memory is bounded and measured."""
    counted, patient = Counted(), set(patient)
    for label, make in attacks:
        tried, memory = _forked(make, guard.LONG_PATIENCE if label in patient else guard.PATIENCE)
        counted.add(label, tried, memory)
    return counted


def _forked(make: Callable[[], Attack], patience: float) -> tuple[Tried, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        attack = make()
        _forget_peak()
        before = _peak()
        own = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        most = own + (MEMORY << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        tried = guard.tried(attack, patience=patience)
        answer = json.dumps([asdict(tried), _peak() - before]).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        return Tried(0.0, crash=f"the process died: status {status}"), 0
    fields, memory = json.loads(answer)
    return Tried(**fields), memory


# --- by hypothesis ------------------------------------------------------------------------------------


def by_hypothesis(target: str, seconds: float) -> Counted:
    """As many examples as there is time for; each round has a seed of its own."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from attack.strategies import STRATEGIES

    counted, before, end = Counted(), _peak(), time.monotonic() + seconds
    rules = settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def one(data: bytes) -> None:
        _try(counted, target, data)

    while time.monotonic() < end:
        seed(random.getrandbits(64))(rules(given(STRATEGIES[target])(one)))()
    counted.memory = _peak() - before
    return counted


def _try(counted: Counted, target: str, data: bytes) -> None:
    tried = guard.tried(functools.partial(targets.TARGETS[target].attack, data))
    if counted.add(data[:200].hex(), tried):
        keep(target, data, tried.finding)


def keep(target: str, data: bytes, finding: str) -> Path:
    """Put an input that found something into the corpus, with what it found beside the corpus."""
    name = f"found-{guard.digest(data)}"
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(data)
    told = finding.replace(f"{Path(__file__).parents[2]}/", "").replace(sys.base_prefix, "python")
    (CORPUS / f"{target}.{name}.txt").write_text(told, encoding="utf-8")
    return CORPUS / target / name


# --- by atheris ---------------------------------------------------------------------------------------


def by_atheris(target: str, seconds: float, report: Path) -> None:
    """Let libFuzzer choose the inputs by what they reach; it ends the process, so it reports as it goes."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with atheris.instrument_imports(include=list(targets.TARGETS[target].modules)):
        for name in [name for name in sys.modules if name.startswith(targets.TARGETS[target].modules)]:
            del sys.modules[name]  # what was imported already was not instrumented
        for name in [name for name in sys.modules if name.startswith(("depload", "attack.targets"))]:
            del sys.modules[name]
        from attack.targets import TARGETS

    counted, told = Counted(), time.monotonic()

    def one(data: bytes) -> None:
        nonlocal told
        tried = guard.tried(functools.partial(TARGETS[target].attack, data))
        fresh = counted.add(data[:200].hex(), tried)
        if fresh:
            keep(target, data, tried.finding)
        if fresh or time.monotonic() - told > 1:
            told, counted.memory = time.monotonic(), _peak()
            report.write_text(json.dumps(asdict(counted)))

    seeds = report.with_name(f"{target}-seeds")
    _seed(target, seeds)
    flags = [f"-max_total_time={int(seconds)}", "-timeout=0", "-rss_limit_mb=4096", "-max_len=4096", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={report.parent}/", str(seeds)], one)
    atheris.Fuzz()


def _seed(target: str, seeds: Path) -> None:
    """What was made by hand and is small, and the corpus."""
    seeds.mkdir()
    made = [case for case in cases.CASES[target].values() if isinstance(case, bytes)]
    made += [file.read_bytes() for file in (CORPUS / target).glob("*")]
    for data in made:
        if len(data) <= 4096:
            (seeds / guard.digest(data)).write_bytes(data)


def main(way: str, target: str, seconds: str, report: str) -> None:
    """Take one target one way, and write what came of it to the file ``report``."""
    if way == ATHERIS:
        by_atheris(target, float(seconds), Path(report))
        return
    counted = by_hypothesis(target, float(seconds)) if way == HYPOTHESIS else _apart(_WAYS[way](target), heavy(target))
    Path(report).write_text(json.dumps(asdict(counted)), encoding="utf-8")


_WAYS = {HANDMADE: by_hand, KEPT: kept}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
