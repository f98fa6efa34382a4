"""python -m benchmarks.history_size [--rows N] [--database-url URL]: measure a long history.

Fills a database (SQLite in a temporary folder unless a URL is given; its history must be empty),
then measures the service on it: pages, erasure, and predictions meanwhile. Ten million rows take
some minutes and 6 GB. With --folder the files are kept and used again by the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import Engine, func, make_url, select, text

from benchmarks.fill_history import LARGE_SESSION, ROWS_A_SESSION, SPAN_DAYS, fill, session_name
from benchmarks.load import random_pupils
from benchmarks.measure import print_progress
from benchmarks.servers_under_test import RunningServer, running, this_service
from student_success.storage.engine import connect, reading
from student_success.storage.migrate import migrate
from student_success.storage.tables import inference_logs

REQUESTS = 1000
ERASED_SHARE = 0.01
_log = inference_logs.c

Query = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the report; times in seconds."""

    name: str
    times: Sequence[float]
    note: str = ""

    def markdown(self) -> str:
        """Write it as a row of a table, in milliseconds."""
        ordered = sorted(self.times)
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        cells = f"{statistics.median(ordered) * 1e3:.1f} | {p99 * 1e3:.1f}"
        return f"| {self.name} | {cells} | {self.note} |"


def main() -> int:
    """Fill the database, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history_size", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--database-url", help="URL of an empty database; SQLite if not given")
    parser.add_argument("--folder", type=Path, help="folder for SQLite's file, which is kept")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        url = arguments.database_url or f"sqlite:///{folder / 'student_success.db'}"
        migrate(url, state_dir=folder)
        engine = connect(url)
        if newest_id(engine) == 0:
            print_progress(f"filling with {arguments.rows} rows")
            took = fill(url, rows=arguments.rows, state_dir=folder).seconds
            print_progress(f"filled in {took:.0f} s, {arguments.rows / took:.0f} rows/s")
        rows = newest_id(engine)
        size = database_bytes(engine)
        lines = list(measure(url, engine, rows, folder))
        engine.dispose()
    print(f"{make_url(url).get_backend_name()}, {rows:,} rows, {size / rows:.0f} bytes a row\n")
    print("| | p50, ms | p99, ms | |\n|---|---:|---:|---|")
    print("\n".join(line.markdown() for line in lines))
    return 0


def newest_id(engine: Engine) -> int:
    """Return the id of the newest prediction, 0 for none."""
    with reading(engine) as connection:
        return int(connection.execute(select(func.max(_log.id))).scalar() or 0)


def database_bytes(engine: Engine) -> int:
    """Return the size of the tables and indexes on disk, in bytes."""
    query = "SELECT pg_database_size(current_database())"
    if engine.dialect.name == "sqlite":
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    with reading(engine) as connection:
        return int(connection.execute(text(query)).scalar_one())


def measure(url: str, engine: Engine, rows: int, folder: Path) -> Iterator[Line]:
    """Measure a server on the filled database, then a server that erases old rows."""
    generator = random.Random(1)
    sessions = rows // ROWS_A_SESSION
    draw = generator.randint

    def session() -> str:
        return session_name(generator.randrange(sessions))

    pages: dict[str, Callable[[], Query]] = {
        "newest page, 50 rows": lambda: {},
        "page anywhere, with outcomes": lambda: {"before_id": draw(51, rows // 2)},
        "page anywhere, without outcomes": lambda: {"before_id": rows - draw(0, rows // 8)},
        "page of 1000 rows anywhere": lambda: {"before_id": draw(1001, rows), "limit": 1000},
        "newest page of a session": lambda: {"session_id": session()},
        "page of a session anywhere": lambda: {
            "session_id": session(),
            "before_id": draw(1, rows),
        },
        "page anywhere in the largest session": lambda: {
            "session_id": LARGE_SESSION,
            "before_id": draw(1, rows),
        },
        "session that does not exist": lambda: {"session_id": "nobody"},
    }
    with running(this_service(DATABASE_URL=url), folder) as server, client(server) as http:
        for name, query in pages.items():
            yield Line(f"`/history`: {name}", paging(http, query))
        yield Line("`/predict`, alone", predicting(http, REQUESTS))
        with in_thread(lambda: paging(http, lambda: {"before_id": generator.randint(51, rows)})):
            yield Line("`/predict`, beside pages", predicting(client(server), REQUESTS))
        yield Line(
            f"erasing a session of {ROWS_A_SESSION}", [erasing(http, session()) for _ in range(20)]
        )
        erasures: list[float] = []
        times = predicting_while(server, lambda: erasures.append(erasing(http, LARGE_SESSION)))
        yield Line("erasing the largest session", erasures, f"{rows // 1000} rows")
        yield Line("`/predict`, beside that", times)
    days = round(SPAN_DAYS * (1 - ERASED_SHARE))
    oldest_kept = f"{(time.time_ns() // 1_000_000 - days * 86_400_000):012x}"
    with reading(engine) as connection:
        old = connection.execute(
            select(func.count()).where(_log.prediction_id < oldest_kept)
        ).scalar_one()
    with running(
        this_service(DATABASE_URL=url, HISTORY_RETENTION_DAYS=str(days)), folder
    ) as server:
        sweeps: list[float] = []
        times = predicting_while(server, lambda: sweeps.append(sweeping(engine, oldest_kept)))
        yield Line("erasing by age", sweeps, f"{old} rows, {old / max(sweeps[0], 0.1):.0f} rows/s")
        yield Line("`/predict`, beside that", times)


def client(server: RunningServer) -> httpx.Client:
    """Return an administrator's client."""
    base = server.url.removesuffix(server.server.path)
    return httpx.Client(base_url=base, headers={"Authorization": "Bearer bench"}, timeout=600)


def timed(action: Callable[[], httpx.Response]) -> float:
    """Return how long a request took, in seconds."""
    started = time.perf_counter()
    response = action()
    took = time.perf_counter() - started
    response.raise_for_status()
    return took


def paging(http: httpx.Client, query: Callable[[], Query]) -> list[float]:
    """Return the times of pages that are requested one after another, in seconds."""
    return [timed(lambda: http.get("/history", params=query())) for _ in range(REQUESTS)]


def predicting(http: httpx.Client, number: int) -> list[float]:
    """Return the times of predictions that are requested one after another, in seconds."""
    bodies = random_pupils(100)
    return [
        timed(lambda turn=turn: http.post("/predict", json=bodies[turn % 100]))  # type: ignore[misc]
        for turn in range(number)
    ]


def predicting_while(server: RunningServer, action: Callable[[], None]) -> list[float]:
    """Return the times of predictions, one every 10 ms, while a function runs."""
    times: list[float] = []
    with client(server) as http, in_thread(action) as thread:
        while thread.is_alive() or len(times) < 20:
            times += predicting(http, 1)
            time.sleep(0.01)
    return times


def erasing(http: httpx.Client, session_id: str) -> float:
    """Return the time to erase a session, in seconds."""
    return timed(lambda: http.delete("/history", params={"session_id": session_id}))


def sweeping(engine: Engine, oldest_kept: str) -> float:
    """Wait until the server has erased all rows older than this id; return the seconds."""
    started = time.perf_counter()
    query = select(_log.id).where(_log.prediction_id < oldest_kept).limit(1)
    while True:
        with reading(engine) as connection:
            if connection.execute(query).first() is None:
                return time.perf_counter() - started
        time.sleep(0.1)


@contextlib.contextmanager
def in_thread(action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run a function in a thread during the block, and wait for it at the end."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
