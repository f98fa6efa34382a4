"""Write the results as a Markdown page and a plot."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Results, connections_of


@dataclass(frozen=True)
class Target:
    """A figure that the service must reach: a ratio within the same run, or a bound."""

    text: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether this run reached it."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def targets(results: Results) -> list[Target]:
    """Return every target for which this run has figures."""
    rate, p99 = results.rate, results.p99
    all_targets = [
        Target(
            "times the requests/s of the replaced application on both cores, 16 connections",
            rate("ours", 16) / rate("original", 16),
            500,
            True,
        ),
        Target(
            "times an empty BentoML method's requests/s as installed, 16 connections",
            rate("ours", 16) / rate("empty-bento", 16),
            6,
            True,
        ),
        Target(
            "times an empty FastAPI route's requests/s, 16 connections",
            rate("ours", 16) / rate("empty-fastapi", 16),
            0.5,
            True,
        ),
        Target(
            "times an empty async BentoML method's requests/s under our settings, 16 connections",
            rate("ours", 16) / rate("empty-bento-lean", 16),
            1,
            True,
        ),
        _tail("1 connection", p99("ours", 1), p99("empty-bento", 1), 30, 0.003),
        _tail("16 connections", p99("ours", 16), p99("empty-bento", 16), 10, 0.015),
        Target("µs for one row in the model, rows rotating", results.micro["model"], 30, False),
        Target(
            "rows/s through /predict_batch with 10,000 pupils", results.batch["10000"], 30_000, True
        ),
        Target(
            "times the start-up of an empty BentoML service",
            statistics.median(results.ready["ours"])
            / statistics.median(results.ready["empty-bento"]),
            1.5,
            False,
        ),
        Target(
            "MB resident, all processes of the API, one worker",
            results.resident["ours"],
            250,
            False,
        ),
    ]
    during = results.during
    if "training" in during:
        all_targets.append(
            Target(
                "times the idle p99 while a training runs, 1 connection",
                during["training"]["p99"] / during["idle"]["p99"],
                3,
                False,
            )
        )
    if "promotion" in during:
        all_targets.append(
            Target(
                "failed requests across a promotion under load",
                during["promotion"]["failed"],
                0,
                False,
            )
        )
    if results.memory:
        all_targets.append(
            Target(
                "times the memory after 500,000 requests",
                results.memory["after"] / results.memory["before"],
                1.05,
                False,
            )
        )
    return all_targets


def _tail(load: str, ours: float, empty_bento: float, fraction: int, bound: float) -> Target:
    """Return the target for a p99; the limit is a share of the other p99, or a time if greater."""
    limit = max(empty_bento / fraction, bound)
    return Target(
        f"ms p99 at {load} (limit: 1/{fraction} of the empty BentoML method's, or "
        f"{bound * 1e3:.0f} ms)",
        ours * 1e3,
        limit * 1e3,
        False,
    )


def markdown(results: Results) -> str:
    """Return the page."""
    connections = connections_of(results)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`, here with {results.plan['rounds']} interleaved rounds of "
        f"{results.plan['seconds']:g} s. Unless noted, each server runs one worker on one core and "
        "`wrk` runs on the other core. All servers run at the same time and are loaded in turn. "
        "Figures are medians over the rounds, with the lowest and highest in brackets. This "
        "service writes its history durably. The requests use 1,000 different pupils at all three "
        "horizons in turn. Compare the ratios: absolute times depend on the machine.",
        "",
        "## Targets",
        "",
        "| met | figure | limit | target |",
        "|---|---|---|---|",
    ]
    for target in targets(results):
        sign = "≥" if target.at_least else "≤"
        mark = "yes" if target.met else "**no**"
        lines.append(
            f"| {mark} | {target.value:,.4g} | {sign} {target.limit:,.4g} | {target.text} |"
        )
    lines += ["", "## Requests per second", "", _head(connections)]
    lines += _rows(results, lambda run: run["rate"], "{:,.0f}")
    lines += ["", "## p50 and p99, milliseconds", "", _head(connections)]
    lines += _rows(results, lambda run: run["p50"] * 1e3, "{:.2f}", suffix=" p50")
    lines += _rows(results, lambda run: run["p99"] * 1e3, "{:.1f}", suffix=" p99")
    lines += [
        "",
        "## Start-up and memory",
        "",
        "| server | ready after, s | resident, MB |",
        "|---|---|---|",
    ]
    lines += [
        f"| {results.titles[name]} | {results.ready_after(name):.2f} | {memory:.0f} |"
        for name, memory in results.resident.items()
    ]
    if results.image_mb is not None:
        lines += ["", f"The container image of the API has {results.image_mb:.0f} MB."]
    lines += ["", "## Cost of each step of a prediction", "", "| step | µs |", "|---|---|"]
    lines += [f"| {part} | {cost:.1f} |" for part, cost in results.micro.items()]
    lines += ["", "## `/predict_batch`", "", "| rows | rows/s, committed |", "|---|---|"]
    lines += [f"| {int(size):,} | {rate:,.0f} |" for size, rate in results.batch.items()]
    lines += [
        "",
        "## During training and promotion",
        "",
        "| during | requests/s | p99, ms | failed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {when} | {run['rate']:,.0f} | {run['p99'] * 1e3:.1f} | {run['failed']} |"
        for when, run in results.during.items()
    ]
    lines += [
        "",
        "A training runs at the lowest priority and leaves one core to requests. A kernel without "
        "full preemption (`PREEMPT_NONE` or lazy) still lets a request wait for the next timer "
        "tick if the training is on its core: 4 ms at 250 Hz.",
    ]
    if results.memory:
        memory = results.memory
        lines += [
            "",
            f"Memory after a warm-up: {memory['before']:.0f} MB; after another "
            f"{memory['requests']:,.0f} requests: {memory['after']:.0f} MB.",
        ]
    lines += [
        "",
        "![requests per second](img/benchmarks.png)",
        "",
        "With two workers, a few keep-alive connections may all go to the same worker: the kernel "
        "gives a connection to the worker that accepts it first. Measure with many connections. "
        "Put a load balancer in front if few clients send many requests.",
        "",
        "For whole files of pupils see [scaling.md](scaling.md#bulk-scoring), measured by "
        "`python -m benchmarks.bulk`.",
        "",
    ]
    return "\n".join(lines)


def _head(numbers: Sequence[int]) -> str:
    titles = " | ".join(f"{number} connection{'s' * (number > 1)}" for number in numbers)
    return f"| server | {titles} |\n|{'---|' * (len(numbers) + 1)}"


def _rows(
    results: Results,
    value: Callable[[dict[str, float]], float],
    number_format: str,
    suffix: str = "",
) -> list[str]:
    rows = []
    for name, by_connections in results.loads.items():
        cells = []
        for runs in by_connections.values():
            values = [value(run) for run in runs]
            median = number_format.format(statistics.median(values))
            spread = f"{number_format.format(min(values))}–{number_format.format(max(values))}"
            cells.append(f"{median} ({spread})" if len(values) > 1 else median)
        rows.append(f"| {results.titles[name]}{suffix} | {' | '.join(cells)} |")
    return rows


def plot(results: Results, path: Path) -> None:
    """Draw requests per second at 16 connections, on a logarithmic scale."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    names = list(reversed(results.loads))
    rates = [results.rate(name, 16) for name in names]
    colours = ["#1f5f8b" if name.startswith("ours") else "#9aa7b0" for name in names]
    figure, axes = plt.subplots(figsize=(9, 4.2))
    bars = axes.barh([results.titles[name] for name in names], rates, color=colours)
    axes.set_xscale("log")
    axes.set_xlabel("requests/s at 16 connections, one core (median)")
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
