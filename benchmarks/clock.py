"""Runs one shell command and prints how long it took, in JSON: the clock of ``measuring.timed``.

A process of its own, because the peak memory of ended children is a maximum over all of them.
"""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
done = subprocess.run(sys.argv[1], shell=True, capture_output=True, text=True, check=False)
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
about = {
    "code": done.returncode,
    "said": done.stderr[-4000:] or done.stdout[-4000:],
    "last": (done.stdout.splitlines() or [""])[-1],
    "seconds": seconds,
    "cpu": used.ru_utime + used.ru_stime,
    "megabytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
}
print(json.dumps(about))
