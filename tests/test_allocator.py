"""Memory that a step frees is there for the next one."""

import os
import subprocess
import sys

import pytest

AFTER = """
import resource, sys
import torch
from kdframe.allocator import keep_freed
kept = keep_freed() if sys.argv[1] == "kept" else None
def work():
    for _ in range(2):
        torch.ones(2**24)  # 64 MiB: by itself, glibc asks the system for it every time
for _ in range(4):  # until the heap is as large as it will be
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **environment: str) -> tuple[str, int]:
    """What keep_freed said, and how many pages the system had to hand out afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER, word],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    said, count = done.stdout.split()
    return said, int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_used_again_without_the_system() -> None:
    said, count = faults("kept")
    assert (said, count < 100) == ("True", True)
    assert faults("not")[1] > 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_the_users_own_threshold_stands() -> None:
    assert faults("kept", MALLOC_TRIM_THRESHOLD_="100000")[0] == "False"
