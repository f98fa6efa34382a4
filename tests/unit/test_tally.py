from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from student_success.tally import FLUSH_SECONDS, Tally, observe_many

VALUES = [0.0, 0.5, 1.0, 1.0000001, 2.0, 2.5, 99.0]


def histogram(registry: CollectorRegistry) -> Histogram:
    return Histogram("h", "h", buckets=(1.0, 2.0), registry=registry)


def samples(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "created" not in line]


def test_observe_many_is_what_the_library_does_one_by_one() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    observe_many(histogram(ours), VALUES)
    one_by_one = histogram(theirs)
    for value in VALUES:
        one_by_one.observe(value)
    assert samples(ours) == samples(theirs)


def test_tally_hands_over_by_itself_within_its_interval() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", registry=registry)
    gauge = Gauge("g", "g", registry=registry)
    observed = histogram(registry)

    async def use() -> None:
        tally = Tally()
        for value in VALUES:
            tally.count(counter)
            tally.observe(observed, value)
            tally.set(gauge, value)
        assert counter._value.get() == 0
        await asyncio.sleep(FLUSH_SECONDS * 1.5)

    asyncio.run(use())
    assert counter._value.get() == len(VALUES)
    assert gauge._value.get() == VALUES[-1]
    assert f"h_count {float(len(VALUES))}" in samples(registry)


def test_tally_outside_an_event_loop_hands_over_at_once() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", registry=registry)
    Tally().count(counter)
    assert counter._value.get() == 1
