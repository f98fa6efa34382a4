"""Buffered metric updates reach Prometheus unchanged."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from student_success.core.metrics_buffer import FLUSH_SECONDS, MetricsBuffer


def test_buffer_writes_all_updates_after_flush_interval() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", ["who"], registry=registry)
    gauge = Gauge("g", "g", registry=registry)
    histogram = Histogram("h", "h", buckets=(1,), registry=registry)
    metrics_buffer = MetricsBuffer()

    async def work() -> None:
        for _ in range(3):
            metrics_buffer.count(counter.labels("a"))
            metrics_buffer.set(gauge, 7)
            metrics_buffer.observe(histogram, 0.5)
        assert registry.get_sample_value("c_total", {"who": "a"}) == 0
        await asyncio.sleep(1.5 * FLUSH_SECONDS)
        assert registry.get_sample_value("c_total", {"who": "a"}) == 3
        metrics_buffer.count(counter.labels("a"))
        await asyncio.sleep(1.5 * FLUSH_SECONDS)

    asyncio.run(work())
    assert registry.get_sample_value("c_total", {"who": "a"}) == 4
    assert registry.get_sample_value("g") == 7
    assert registry.get_sample_value("h_count") == 3


def test_buffer_writes_at_once_without_event_loop() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", registry=registry)
    MetricsBuffer().count(counter)
    assert registry.get_sample_value("c_total") == 1
