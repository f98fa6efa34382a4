"""Many values at once give the same histogram as one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Sample

from student_success.server.prometheus_histogram import observe_many


def samples(registry: CollectorRegistry) -> list[Sample]:
    return [
        sample
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


@given(st.lists(st.floats(-5, 25) | st.sampled_from([0.0, 1.0, 5.0, 20.0]), max_size=50))
def test_observe_many_equals_observe_for_each_value(values: list[float]) -> None:
    single, many = CollectorRegistry(), CollectorRegistry()
    expected_histogram = Histogram("h", "h", buckets=(0, 1, 5, 20), registry=single)
    for value in values:
        expected_histogram.observe(value)
    if values:
        observe_many(Histogram("h", "h", buckets=(0, 1, 5, 20), registry=many), values)
    else:
        Histogram("h", "h", buckets=(0, 1, 5, 20), registry=many)
    for expected, actual in zip(samples(single), samples(many), strict=True):
        assert (expected.name, expected.labels) == (actual.name, actual.labels)
        assert actual.value == pytest.approx(expected.value)
