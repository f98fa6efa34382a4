"""The results as one Markdown page and one plot."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Results, connections_of


@dataclass(frozen=True)
class Aim:
    """One thing the service is to be, as a ratio or a bound within the same run."""

    words: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it is so in this run."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def aims(results: Results) -> list[Aim]:
    """Return every aim that this run has the figures for."""
    rate, p99 = results.rate, results.p99
    found = [
        Aim(
            "times the requests/s of the replaced application on both cores, 16 connections",
            rate("ours", 16) / rate("original", 16),
            500,
            True,
        ),
        Aim(
            "times an empty BentoML method's requests/s as installed, 16 connections",
            rate("ours", 16) / rate("empty-bento", 16),
            5,
            True,
        ),
        Aim(
            "times an empty FastAPI route's requests/s, 16 connections",
            rate("ours", 16) / rate("empty-fastapi", 16),
            0.5,
            True,
        ),
        Aim(
            "times an empty async BentoML method's requests/s under our settings, 16 connections",
            rate("ours", 16) / rate("empty-bento-lean", 16),
            1,
            True,
        ),
        _tail("1 connection", p99("ours", 1), p99("empty-bento", 1), 30, 0.004),
        _tail("16 connections", p99("ours", 16), p99("empty-bento", 16), 10, 0.015),
        Aim("µs for one row in the model, rows rotating", results.micro["model"], 30, False),
        Aim(
            "rows/s through /predict_batch with 10,000 pupils", results.batch["10000"], 30_000, True
        ),
        Aim(
            "times the start-up of an empty BentoML service",
            statistics.median(results.ready["ours"])
            / statistics.median(results.ready["empty-bento"]),
            1.3,
            False,
        ),
        Aim(
            "MB resident, all processes of the API, one worker",
            results.resident["ours"],
            250,
            False,
        ),
    ]
    during = results.during
    if "training" in during:
        found.append(
            Aim(
                "times the idle p99 while a training runs, 1 connection",
                during["training"]["p99"] / during["idle"]["p99"],
                3,
                False,
            )
        )
    if "promotion" in during:
        found.append(
            Aim(
                "failed requests across a promotion under load",
                during["promotion"]["failed"],
                0,
                False,
            )
        )
    if results.memory:
        found.append(
            Aim(
                "times the memory after 500,000 requests",
                results.memory["after"] / results.memory["before"],
                1.05,
                False,
            )
        )
    return found


def _tail(where: str, ours: float, stock: float, fraction: int, bound: float) -> Aim:
    """Take the easier of the two bounds: a share of the stock tail, or a time."""
    limit = max(stock / fraction, bound)
    return Aim(
        f"ms p99 at {where} (limit: 1/{fraction} of the empty BentoML method's, or "
        f"{bound * 1e3:.0f} ms)",
        ours * 1e3,
        limit * 1e3,
        False,
    )


def markdown(results: Results) -> str:
    """Write the page."""
    connections = connections_of(results)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`, here with {results.plan['rounds']} interleaved rounds of "
        f"{results.plan['seconds']:g} s. All servers run one worker on one core unless said, `wrk` "
        "on the other; all are up at the same time and are loaded in turn. Medians over the "
        "rounds, in brackets the lowest and highest. Our history is on and durable; the pupils are "
        "1,000 different ones in all three horizons, in turn. Absolute times say more about the "
        "machine than about the software; the ratios are what to read.",
        "",
        "## Aims",
        "",
        "| met | figure | limit | what |",
        "|---|---|---|---|",
    ]
    for aim in aims(results):
        sign = "≥" if aim.at_least else "≤"
        mark = "yes" if aim.met else "**no**"
        lines.append(f"| {mark} | {aim.value:,.4g} | {sign} {aim.limit:,.4g} | {aim.words} |")
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
    lines += ["", "## Where a prediction's time goes", "", "| part | µs |", "|---|---|"]
    lines += [f"| {part} | {cost:.1f} |" for part, cost in results.micro.items()]
    lines += ["", "## `/predict_batch`", "", "| rows | rows/s, committed |", "|---|---|"]
    lines += [f"| {int(size):,} | {rate:,.0f} |" for size, rate in results.batch.items()]
    lines += [
        "",
        "## While the model's life goes on",
        "",
        "| when | requests/s | p99, ms | failed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {when} | {run['rate']:,.0f} | {run['p99'] * 1e3:.1f} | {run['failed']} |"
        for when, run in results.during.items()
    ]
    lines += [
        "",
        "A training has the lowest priority there is, and still a kernel that does not preempt "
        "(`PREEMPT_NONE`, or lazily) lets a request that finds it on a core, and the load's next "
        "request, wait for the next tick: 4 ms at 250 Hz.",
    ]
    if results.memory:
        memory = results.memory
        lines += [
            "",
            f"Memory after a warm-up {memory['before']:.0f} MB, after another "
            f"{memory['requests']:,.0f} requests {memory['after']:.0f} MB.",
        ]
    lines += [
        "",
        "![requests per second](img/benchmarks.png)",
        "",
        "With two workers a few keep-alive connections may all land on one of them: the kernel "
        "gives a connection to whichever worker asks first. Measure with many connections, and put "
        "a balancing proxy in front where few clients send much.",
        "",
        "Whole files of pupils: [scaling.md](scaling.md#bulk-scoring), written by "
        "`python -m benchmarks.bulk`.",
        "",
    ]
    return "\n".join(lines)


def _head(numbers: Sequence[int]) -> str:
    titles = " | ".join(f"{number} connection{'s' * (number > 1)}" for number in numbers)
    return f"| server | {titles} |\n|{'---|' * (len(numbers) + 1)}"


def _rows(
    results: Results, value: Callable[[dict[str, float]], float], form: str, suffix: str = ""
) -> list[str]:
    rows = []
    for name, by_connections in results.loads.items():
        cells = []
        for runs in by_connections.values():
            values = [value(run) for run in runs]
            middle = form.format(statistics.median(values))
            spread = f"{form.format(min(values))}–{form.format(max(values))}"
            cells.append(f"{middle} ({spread})" if len(values) > 1 else middle)
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
