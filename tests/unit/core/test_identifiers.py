"""Random identifiers."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from student_success.core.identifiers import random_hex, time_ordered_hex

FORK = """
import os
from student_success.core.identifiers import random_hex
random_hex()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, "".join(random_hex() for _ in range(100)).encode())
    os._exit(0)
theirs = os.read(reader, 1 << 16).decode()
assert len(theirs) == 3200
assert not any(random_hex() in theirs for _ in range(1000))
"""


def test_identifiers_are_unique_across_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: random_hex(), range(20_000)))
    assert len(set(taken)) == 20_000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in taken)


def test_forked_child_returns_other_identifiers_than_its_parent() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True)


def test_time_ordered_identifiers_sort_by_time_and_are_unique() -> None:
    day = 86_400_000_000
    made = [time_ordered_hex(now) for now in range(0, 20_000 * day, day)]
    assert made == sorted(set(made))
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert len({time_ordered_hex(day)[12:] for _ in range(20_000)}) == 20_000
