"""The load generator of the tests and benchmarks.

`Load` sends requests from Python threads and records every response. `run_wrk` starts wrk, which
reaches rates that Python cannot, and returns its report. Both stop after a given time and number of
requests or connections, and both send to the loopback address only.
"""

from benchmarks.load.clients import (
    LARGE_BATCH,
    SMALL_BATCH,
    Exchange,
    Load,
    LoadRequest,
    LoadResult,
    mixed_predictions,
    prediction_ids,
    single_predictions,
)
from benchmarks.load.connection import (
    ConnectionLostError,
    HttpConnection,
    HttpResponse,
    http_request,
)
from benchmarks.load.pupils import random_pupils, with_all_grades
from benchmarks.load.wrk import WrkReport, parse_wrk_report, run_wrk, write_bodies

__all__ = [
    "LARGE_BATCH",
    "SMALL_BATCH",
    "ConnectionLostError",
    "Exchange",
    "HttpConnection",
    "HttpResponse",
    "Load",
    "LoadRequest",
    "LoadResult",
    "WrkReport",
    "http_request",
    "mixed_predictions",
    "parse_wrk_report",
    "prediction_ids",
    "random_pupils",
    "run_wrk",
    "single_predictions",
    "with_all_grades",
    "write_bodies",
]
