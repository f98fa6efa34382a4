"""Counts gathered in plain Python reach Prometheus as if each had been made there."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Sample

from student_success.core.metrics_buffer import FLUSH_SECONDS, Tally, observe_many


def samples(registry: CollectorRegistry) -> list[Sample]:
    return [
        sample
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


@given(st.lists(st.floats(-5, 25) | st.sampled_from([0.0, 1.0, 5.0, 20.0]), max_size=50))
def test_many_values_at_once_make_the_histogram_of_one_by_one(values: list[float]) -> None:
    one, many = CollectorRegistry(), CollectorRegistry()
    by_one = Histogram("h", "h", buckets=(0, 1, 5, 20), registry=one)
    for value in values:
        by_one.observe(value)
    if values:
        observe_many(Histogram("h", "h", buckets=(0, 1, 5, 20), registry=many), values)
    else:
        Histogram("h", "h", buckets=(0, 1, 5, 20), registry=many)
    for expected, found in zip(samples(one), samples(many), strict=True):
        assert (expected.name, expected.labels) == (found.name, found.labels)
        assert found.value == pytest.approx(expected.value)


def test_counts_arrive_together_a_moment_later() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", ["who"], registry=registry)
    gauge = Gauge("g", "g", registry=registry)
    histogram = Histogram("h", "h", buckets=(1,), registry=registry)
    tally = Tally()

    async def work() -> None:
        for _ in range(3):
            tally.count(counter.labels("a"))
            tally.set(gauge, 7)
            tally.observe(histogram, 0.5)
        assert registry.get_sample_value("c_total", {"who": "a"}) == 0
        await asyncio.sleep(1.5 * FLUSH_SECONDS)
        assert registry.get_sample_value("c_total", {"who": "a"}) == 3
        tally.count(counter.labels("a"))
        await asyncio.sleep(1.5 * FLUSH_SECONDS)

    asyncio.run(work())
    assert registry.get_sample_value("c_total", {"who": "a"}) == 4
    assert registry.get_sample_value("g") == 7
    assert registry.get_sample_value("h_count") == 3


def test_without_an_event_loop_nothing_waits() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", registry=registry)
    Tally().count(counter)
    assert registry.get_sample_value("c_total") == 1
