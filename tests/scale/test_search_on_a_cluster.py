"""A search on a Dask cluster finds what it finds on this machine, whatever happens to a worker."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import TrainingFailedError
from student_success.core.paths import ROOT
from tests.documented_commands import commands_of
from tests.scale.dask_cluster import DaskCluster, dask_cluster
from training import train
from training.data.dataset import SAMPLE, Dataset, read
from training.fitting.families import FAMILIES

BUDGET_SECONDS = 20.0
"""Enough for a candidate of each family, and a second round."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def few() -> Dataset:
    """Return some pupils of the sample, so that a whole search takes seconds."""
    whole = read(SAMPLE)
    rows = whole.frame.index[::10]
    return replace(
        whole,
        frame=whole.frame.loc[rows].reset_index(drop=True),
        audit=whole.audit.loc[rows].reset_index(drop=True),
        rows=len(rows),
    )


@pytest.fixture(scope="module")
def local(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return trained(few, tmp_path_factory.mktemp("local"), Settings())


def trained(data: Dataset, folder: Path, settings: Settings, **options: Any) -> dict[str, bytes]:
    train.run(settings, budget_seconds=BUDGET_SECONDS, dataset=data, folder=folder, **options)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_cluster_returns_same_model_when_worker_is_killed(
    cluster: DaskCluster, few: Dataset, local: dict[str, bytes], tmp_path: Path
) -> None:
    seen: list[float] = []

    def progress(share: float, _: str) -> None:
        # In the middle of judging: one outer fold is done, the others are under way.
        if share > 0.1 and not seen:
            cluster.kill_worker()
            seen.append(share)

    settings = Settings(train_scheduler=cluster.address)
    found = trained(few, tmp_path / "serving", settings, progress=progress)
    assert seen
    assert seen[0] < 0.75
    assert cluster.workers[1].poll() is None
    # All of it: trees, calibration, evidence, and every candidate that was tried with its score.
    assert found == local
    tried = json.loads(found["recipe.json"])["tried"]
    assert {one["family"] for one in tried} == set(FAMILIES)


def test_train_command_registers_candidate_from_cluster(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    data = tmp_path / "pupils.csv"
    with SAMPLE.open(newline="") as source, data.open("w", newline="") as target:
        rows = list(csv.reader(source))
        csv.writer(target).writerows([rows[0], *rows[1::10]])
    (printed,) = commands_of("test_train_command_registers_candidate_from_cluster")
    command = printed.replace("tcp://scheduler:8786", cluster.address)
    done = subprocess.run(
        ["bash", "-c", f"{command} --family boosting --budget-seconds 20"],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STATE_DIR": str(tmp_path / "state"),
            "DATA_PATH": str(data),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["version"] == 1
    here = train.run(Settings(data_path=data), family="boosting", budget_seconds=20)
    assert result["best_params"] == here.best_params
    assert result["test_mae"] == here.test_mae


def test_train_command_names_unreachable_scheduler(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("student_success.core.dask_client.CONNECT_SECONDS", 0.5)
    settings = Settings(train_scheduler="tcp://127.0.0.1:1")
    with pytest.raises(TrainingFailedError, match="No Dask scheduler answers"):
        train.run(settings, dataset=few)
