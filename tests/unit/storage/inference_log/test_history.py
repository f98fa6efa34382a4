"""The inference log: what was acknowledged is there, what was erased is not, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select

from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    ConflictError,
    DatabaseUnavailableError,
    TooManyRequestsError,
)
from student_success.core.paths import ROOT
from student_success.domain.idempotency import KEY_LIFETIME_US, IdempotencyKey, IdempotentRequest
from student_success.storage.engine import connect, reading, writing
from student_success.storage.inference_log import erasure
from student_success.storage.inference_log import group_commit as committer_module
from student_success.storage.inference_log import history as history_module
from student_success.storage.inference_log import idempotency_keys as idempotency
from student_success.storage.inference_log.group_commit import GroupCommitter
from student_success.storage.inference_log.history import History
from student_success.storage.inference_log.prediction_rows import PredictionInsert, PredictionRow
from student_success.storage.tables import idempotency_keys, outcomes
from tests.databases import file_of, ids, is_sqlite, locked

Make = Callable[..., History]
DAY_US = 86_400_000_000


def row(
    number: int, *, session: str = "s", at: int = 1_000_000, reference: str | None = None
) -> PredictionRow:
    return PredictionRow(
        prediction_id=f"{number:032x}",
        session_id=session,
        created_us=at,
        inputs_json='{"age":17}',
        reference=reference,
        predicted_grade=12.5,
        decision="reussite",
        pass_probability=0.9,
        interval_low=10,
        interval_high=14,
        interval_level=0.9,
        horizon="G1+G2",
        at_risk=False,
        model_version="seed",
    )


def key(
    name: str = "k",
    *,
    body: bytes = b"{}",
    asked: str = "s",
    answer: bytes = b"first",
) -> IdempotencyKey:
    return IdempotentRequest(name, body, asked).hashed("predict", session_id="s", answer=answer)


@pytest.fixture
def make(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a maker of started histories on the same database; they are closed at the end."""
    made: list[History] = []

    def start(*, quick: bool = True, busy_seconds: float = 0.2, **options: Any) -> History:
        history = History(
            connect(database_url, busy_seconds=busy_seconds),
            loop_engine=connect(database_url, busy_seconds=0, pool_size=1)
            if quick and is_sqlite(database_url)
            else None,
            **options,
        )
        history.start()
        made.append(history)
        return history

    yield start
    for history in made:
        history.close()


@pytest.fixture(params=[True, False], ids=["in the loop", "in the thread"])
def history(make: Make, database_url: str, request: pytest.FixtureRequest) -> History:
    if request.param and not is_sqlite(database_url):
        pytest.skip("commits in the event loop are for SQLite alone")
    return make(quick=request.param)


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


def test_acknowledged_means_committed(history: History, database_url: str) -> None:
    async def append() -> None:
        for number in range(5):
            assert await history.append([row(number)]) is None
            assert number in ids(database_url)

    asyncio.run(append())


def test_requests_of_one_moment_share_a_commit(
    history: History, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    real = PredictionInsert.commit

    def counted(self: Any, raw: Any, rows: list[PredictionRow]) -> None:
        commits.append(len(rows))
        real(self, raw, rows)

    monkeypatch.setattr(PredictionInsert, "commit", counted)

    async def append() -> None:
        await asyncio.gather(*(history.append([row(number)]) for number in range(100)))

    asyncio.run(append())
    assert commits == [100]
    assert ids(database_url) == list(range(100))


def test_large_batch_is_committed_whole_and_in_order(history: History, database_url: str) -> None:
    async def append() -> None:
        await history.append([row(number) for number in range(10_000)])

    asyncio.run(append())
    assert ids(database_url) == list(range(10_000))


def test_failure_is_told_to_all_it_concerns_and_passes(history: History, database_url: str) -> None:
    async def append() -> None:
        with locked(database_url):
            failed = await asyncio.gather(
                history.append([row(1)]),
                history.append([row(2)], key=key()),
                history.append([row(3)]),
                return_exceptions=True,
            )
        assert [type(error) for error in failed] == [DatabaseUnavailableError] * 3
        assert ids(database_url) == []
        await history.append([row(4)])
        # The key of a failed request is not used up.
        assert await history.append([row(5)], key=key()) is None

    asyncio.run(append())
    assert ids(database_url) == [4, 5]


def test_lock_that_is_let_go_in_time_is_waited_for(make: Make, database_url: str) -> None:
    history = make(busy_seconds=10.0)

    async def append() -> None:
        with locked(database_url):
            waiting = history.append([row(1)])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.05)
            # The event loop was free all the while; others join the wait.
            others = [history.append([row(number)]) for number in (2, 3)]
        await asyncio.gather(waiting, *others)

    asyncio.run(append())
    assert ids(database_url) == [1, 2, 3]


def test_lock_of_a_moment_does_not_send_later_commits_to_the_thread(
    make: Make, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_sqlite(database_url):
        pytest.skip("commits in the event loop are for SQLite alone")
    history = make()
    handed: list[int] = []
    real = history._committer._queue_group

    def seen(group: Any) -> None:
        handed.append(len(group))
        real(group)

    monkeypatch.setattr(history._committer, "_queue_group", seen)

    async def append() -> None:
        with locked(database_url):
            waiting = history.append([row(1)])
            await asyncio.sleep(0.01)
        await waiting
        for number in (2, 3, 4):
            await history.append([row(number)])

    asyncio.run(append())
    assert handed == [1]
    assert ids(database_url) == [1, 2, 3, 4]


def test_row_that_no_driver_takes_fails_alone_and_stops_nothing(
    history: History, database_url: str
) -> None:
    async def append() -> None:
        with pytest.raises(DatabaseUnavailableError):
            await history.append([row(1, reference="\ud800")])
        await history.append([row(2)])

    asyncio.run(append())
    assert ids(database_url) == [2]


def test_repeated_key_gives_the_first_answer_and_one_row(
    history: History, database_url: str
) -> None:
    async def append() -> None:
        assert await history.append([row(1)], key=key(answer=b"first")) is None
        assert await history.append([row(2)], key=key(answer=b"second")) == b"first"

    asyncio.run(append())
    assert ids(database_url) == [1]


def test_same_key_at_the_same_moment_counts_once(history: History, database_url: str) -> None:
    async def append() -> list[bytes | None]:
        return await asyncio.gather(
            *(history.append([row(n)], key=key(answer=b"%d" % n)) for n in range(1, 21)),
            history.append([row(99)]),
        )

    answers = asyncio.run(append())
    assert answers == [None, *[b"1"] * 19, None]
    assert ids(database_url) == [1, 99]


def test_same_key_with_another_request_is_a_conflict_for_it_alone(
    history: History, database_url: str
) -> None:
    async def append() -> list[Any]:
        return await asyncio.gather(
            history.append([row(1)], key=key()),
            history.append([row(2)], key=key(body=b"other")),
            history.append([row(3)], key=key("another")),
            history.append([row(4)], key=key(asked="other")),
            return_exceptions=True,
        )

    answers = asyncio.run(append())
    assert [type(answer) for answer in answers] == [
        type(None),
        ConflictError,
        type(None),
        type(None),
    ]
    assert ids(database_url) == [1, 3, 4]


def test_key_counts_for_a_day(
    history: History, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10 * DAY_US
    monkeypatch.setattr(idempotency, "now_us", lambda: now)
    monkeypatch.setattr(idempotency, "cautious_now_us", lambda: now)

    async def append(number: int, answer: bytes) -> bytes | None:
        return await history.append([row(number)], key=key(answer=answer))

    assert asyncio.run(append(1, b"first")) is None
    now += KEY_LIFETIME_US
    assert asyncio.run(append(2, b"second")) == b"first"
    now += 1
    assert asyncio.run(append(3, b"third")) is None
    assert asyncio.run(append(4, b"fourth")) == b"third"
    assert ids(database_url) == [1, 3]


def test_client_that_goes_away_leaves_its_row(history: History, database_url: str) -> None:
    async def append() -> None:
        gone = history.append([row(1)])
        stays = history.append([row(2)])
        gone.cancel()
        await stays

    asyncio.run(append())
    assert ids(database_url) == [1, 2]


def test_closing_commits_what_waits(make: Make, database_url: str) -> None:
    for quick in (True, False):
        history = make(quick=quick, busy_seconds=10.0)
        before = ids(database_url)

        async def append(history: History = history, before: list[int] = before) -> None:
            with locked(database_url):
                waiting = [history.append([row(len(before) + n)]) for n in range(50)]
                await asyncio.sleep(0)
                closing = asyncio.create_task(asyncio.to_thread(history.close))
                await asyncio.sleep(0.05)
                assert not closing.done()
            await closing
            assert await asyncio.gather(*waiting) == [None] * 50

        asyncio.run(append())
        assert ids(database_url) == list(range(len(before) + 50))


def test_too_many_waiting_are_turned_away(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "MAX_QUEUED", 0)

    async def append() -> None:
        with pytest.raises(TooManyRequestsError) as caught:
            await history.append([row(1)])
        assert caught.value.retry_after >= 1

    asyncio.run(append())


def test_killed_process_loses_nothing_it_acknowledged(database_url: str) -> None:
    code = f"""
import asyncio, itertools
from tests.unit.storage.inference_log.test_history import row
from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from student_success.storage.inference_log.prediction_rows import PredictionInsert, PredictionRow
url = {database_url!r}
quick = connect(url, busy_seconds=0, pool_size=1) if {is_sqlite(database_url)} else None
history = History(connect(url), loop_engine=quick)
history.start()
async def client(first):
    for number in itertools.count(first, 8):
        await history.append([row(number)])
        print(number, flush=True)
async def main():
    await asyncio.gather(*(client(first) for first in range(8)))
asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(200)]
    process.kill()
    rest, _ = process.communicate(timeout=10)
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    found = ids(database_url)
    assert set(acknowledged) <= set(found)
    assert len(set(found)) == len(found)
    if is_sqlite(database_url):
        with contextlib.closing(sqlite3.connect(file_of(database_url))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_workers_write_side_by_side(make: Make, database_url: str) -> None:
    workers = [make(busy_seconds=10.0), make(busy_seconds=10.0)]

    def work(history: History, first: int) -> None:
        async def append() -> None:
            for number in range(first, first + 100):
                await history.append([row(number)], key=key(str(number)))

        asyncio.run(append())

    threads = [
        threading.Thread(target=work, args=(history, 1000 * number))
        for number, history in enumerate(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(database_url)) == [*range(100), *range(1000, 1100)]


def fill(history: History, *rows: PredictionRow) -> None:
    async def append() -> None:
        await history.append(rows)

    asyncio.run(append())


def test_pages_go_from_the_newest_to_the_oldest_also_when_the_clock_jumps(
    history: History,
) -> None:
    fill(history, *(row(n, at=1_000_000 * (50 - n)) for n in range(25)))
    seen: list[int] = []
    before: int | None = None
    while page := history.page(limit=10, before_id=before):
        seen += [int(item["prediction_id"], 16) for item in page]
        before = page[-1]["id"]
    assert seen == list(range(24, -1, -1))


def test_page_shows_one_session_only_and_outcomes_beside(history: History) -> None:
    fill(history, row(1, session="a"), row(2, session="b"), row(3, session="a"))
    with writing(history._engine) as connection:
        values = {"prediction_id": f"{3:032x}", "session_id": "a"}
        connection.execute(insert(outcomes).values(**values, actual_grade=11, created_us=1))
    page = history.page(limit=10, session_id="a")
    assert [item["actual_G3"] for item in page] == [11, None]
    assert [item["session_id"] for item in page] == ["a", "a"]
    assert page[0]["timestamp"] == "1970-01-01T00:00:01.000000Z"
    assert page[0]["interval"] == {"low": 10, "high": 14, "level": 0.9}
    assert history.page(limit=10, session_id="nobody") == []


def remember(history: History, number: int, session: str) -> None:
    with writing(history._engine) as connection:
        connection.execute(
            insert(outcomes).values(
                prediction_id=f"{number:032x}", session_id=session, actual_grade=1, created_us=1
            )
        )


def left(history: History, table: Any) -> int:
    with reading(history._engine) as connection:
        return len(connection.execute(select(table)).all())


MARK = "marked-session-9d2f"
ANSWER = b'{"session_id":"marked-session-9d2f"}'


@pytest.fixture
def marked(history: History) -> History:
    """Return a history with a session to be erased, and another that stays."""

    async def append() -> None:
        request = IdempotentRequest("k", b"{}", MARK)
        kept = request.hashed("predict", session_id=MARK, answer=ANSWER)
        await history.append([row(1, session=MARK, reference="marked-pupil")], key=kept)
        await history.append([row(2, session="other", reference="kept-pupil")])

    asyncio.run(append())
    remember(history, 1, MARK)
    remember(history, 2, "other")
    return history


def test_erased_session_is_gone_with_all_that_hangs_on_it(
    marked: History, database_url: str
) -> None:
    assert marked.erase_session(MARK) == 1
    assert ids(database_url) == [2]
    assert left(marked, outcomes) == 1
    assert left(marked, idempotency_keys) == 0
    assert marked.erase_session(MARK) == 0


def test_erased_session_leaves_no_byte(marked: History, path: Path) -> None:
    stored = zlib.compress(ANSWER)
    for needle in (MARK.encode(), b"marked-pupil", stored):
        assert needle in bytes_on_disk(path)
    marked.erase_session(MARK)
    for needle in (MARK.encode(), b"marked-pupil", stored, f"{1:032x}".encode()):
        assert needle not in bytes_on_disk(path)
    assert b"kept-pupil" in bytes_on_disk(path)


def test_large_session_is_erased_whole(history: History, database_url: str) -> None:
    fill(history, *(row(n, session="large") for n in range(12_000)), row(12_000, session="o"))
    assert history.erase_session("large") == 12_000
    assert ids(database_url) == [12_000]


def test_reader_in_the_way_delays_the_overwriting_and_does_not_prevent_it(
    history: History, path: Path
) -> None:
    fill(history, row(1, session="marked-9d2f"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM inference_logs").fetchone()
        assert history.erase_session("marked-9d2f") == 1
        assert history.page(limit=10) == []
        assert b"marked-9d2f" in bytes_on_disk(path), "the reader still sees its moment"
    end = time.monotonic() + 10
    while b"marked-9d2f" in bytes_on_disk(path) and time.monotonic() < end:
        time.sleep(0.02)
    assert b"marked-9d2f" not in bytes_on_disk(path)


def test_predictions_are_committed_while_a_reader_prevents_the_overwriting(
    path: Path, database_url: str
) -> None:
    """A checkpoint that waits for the reader holds the lock that commits need."""
    history = History.open(Settings(_env_file=None, database_url=database_url))
    history.start()
    slowest = 0.0
    with (
        contextlib.closing(history),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        fill(history, row(1, session="marked-9d2f"))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM inference_logs").fetchone()
        history.erase_session("marked-9d2f")
        # The checkpoint is tried again each second.
        for number in range(2, 100):
            started = time.monotonic()
            fill(history, row(number))
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.03)
    assert slowest < 2


def test_erased_session_leaves_no_byte_after_a_short_reader(history: History, path: Path) -> None:
    fill(history, row(1, session="marked-9d2f"))
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM inference_logs").fetchone()
        end = threading.Timer(0.5, lambda: reader.execute("COMMIT"))
        end.start()
        history.erase_session("marked-9d2f")
        assert b"marked-9d2f" not in bytes_on_disk(path)
        end.join()


def test_old_predictions_are_erased_by_themselves(
    make: Make, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100 * DAY_US
    monkeypatch.setattr(history_module, "cautious_now_us", lambda: now)
    monkeypatch.setattr(history_module, "RETENTION_SECONDS", 0.0)
    history = make(retention_days=30)
    fill(
        history,
        row(1, session="marked-old", at=now - 30 * DAY_US - 1),
        row(2, session="marked-young", at=now - 30 * DAY_US + DAY_US),
    )
    end = time.monotonic() + 10
    while ids(database_url) != [2] and time.monotonic() < end:
        time.sleep(0.02)
    assert ids(database_url) == [2]
    if not is_sqlite(database_url):
        return
    path = file_of(database_url)
    while b"marked-old" in bytes_on_disk(path) and time.monotonic() < end:
        time.sleep(0.02)
    assert b"marked-old" not in bytes_on_disk(path)
    assert b"marked-young" in bytes_on_disk(path)


def test_old_predictions_are_found_by_index_and_a_younger_one_stays(
    history: History, engine: Engine
) -> None:
    limit = 100 * DAY_US
    start = f"{limit // 1000:012x}"
    old = [f"{limit // 1000 - 1 - number:012x}{number:020x}" for number in range(250)]
    rows = [(one, *row(0, at=limit - 1)[1:]) for one in old]
    # An id that says less than the time: not one of ours, and not to be erased too soon.
    rows += [(f"{'0' * 31}1", *row(0, at=limit)[1:]), (f"{start}{'0' * 20}", *row(0, at=limit)[1:])]
    fill(history, *rows)
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
    assert erasure.erase_before(engine, limit) == 250
    assert len(history.page(limit=1000)) == 2
    query, values = next(said for said in asked if said[0].startswith("SELECT"))
    explain = "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            explain = "EXPLAIN"
            # In a small table it would not be worth it.
            connection.exec_driver_sql("SET enable_seqscan = off")
        plan = str(connection.exec_driver_sql(f"{explain} {query}", values).all())
    assert "prediction_id" in plan
    assert "SCAN inference_logs" not in plan


def test_long_erasure_ends_with_the_service(
    history: History, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_between_erasures", lambda: False)
    fill(history, *(row(number, at=1) for number in range(1000)))
    erased = history.erase_before(DAY_US)
    assert erased == erasure.FIRST_BATCH_ROWS
    assert len(ids(database_url)) == 1000 - erased


def test_nothing_is_erased_by_age_unless_asked(
    make: Make, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "cautious_now_us", lambda: 100_000 * DAY_US)
    history = make()

    async def append() -> None:
        await history.append([row(1, at=0)], key=key())

    asyncio.run(append())
    history._erase_old()
    assert ids(database_url) == [1]
    assert left(history, idempotency_keys) == 0, "an answer is kept for a day"


def test_log_is_moved_into_the_database_by_itself(history: History, path: Path) -> None:
    fill(history, *(row(n) for n in range(100)))
    end = time.monotonic() + 10
    while f"{99:032x}".encode() not in path.read_bytes() and time.monotonic() < end:
        time.sleep(0.02)
    assert f"{99:032x}".encode() in path.read_bytes()


def test_keeper_lives_through_trouble(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()
    real = history_module.limit_log_size

    def failing(*arguments: Any) -> None:
        tried.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(history_module, "limit_log_size", failing)
    monkeypatch.setattr(history_module, "UPKEEP_SECONDS", 0.05)
    history = make()
    assert tried.wait(10)
    monkeypatch.setattr(history_module, "limit_log_size", real)
    test_log_is_moved_into_the_database_by_itself(history, path)


def test_check_says_whether_a_prediction_could_be_saved(
    history: History, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("student_success.storage.inference_log.history.CHECK_SECONDS", 0.0)
    history.check()
    with locked(database_url), pytest.raises(DatabaseUnavailableError):
        history.check()
    history.check()


def test_committer_of_another_loop_is_told_in_its_own(database_url: str) -> None:
    committer = GroupCommitter(connect(database_url), loop_engine=None)
    committer.start()

    async def append(number: int) -> bool:
        await committer.append([row(number)])
        return True

    assert [asyncio.run(append(number)) for number in range(3)] == [True] * 3
    committer.close()
    committer._engine.dispose()
