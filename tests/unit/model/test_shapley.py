"""Shapley values of the compiled trees against the reference implementation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import Horizon, StudentFeatures
from student_success.model.artefact import trees_file
from student_success.model.onnx_reader import Nodes, read_trees
from student_success.model.predictor import Predictor
from student_success.model.shapley import Attribution
from training.export.artefact import random_students

with warnings.catch_warnings():
    # Its plots, which nobody asks for here, use what matplotlib will drop.
    warnings.simplefilter("ignore")
    import shap

pytestmark = pytest.mark.model

SEED = ROOT / "student_success" / "seed"
TREES = 10
PASSES = slice(0, 3)


def nodes_of(horizon: Horizon) -> Nodes:
    return read_trees(SEED / trees_file(horizon))


def reference(nodes: Nodes, target: int) -> list[dict[str, Any]]:
    """Describe the first trees in the way that shap takes them."""
    found = []
    for number in range(TREES):
        here = nodes.tree == number
        leaf = nodes.high[here] == 0
        values = np.zeros(here.sum())
        entries = (nodes.target_tree == number) & (nodes.target == target)
        values[nodes.target_node[entries]] = nodes.weight[entries]
        found.append(
            {
                "children_left": np.where(leaf, -1, nodes.low[here]),
                "children_right": np.where(leaf, -1, nodes.high[here]),
                "children_default": np.where(leaf, -1, nodes.low[here]),
                "features": np.where(leaf, -1, nodes.feature[here]),
                "thresholds": nodes.cut[here].astype(np.float64),
                "values": values[:, None],
                "node_sample_weight": nodes.cover[here].astype(np.float64),
            }
        )
    return found


def first_trees(nodes: Nodes) -> Nodes:
    kept, targets = nodes.tree < TREES, nodes.target_tree < TREES
    return Nodes(
        *(getattr(nodes, name)[kept] for name in ("tree", "node", "feature", "cut")),
        *(getattr(nodes, name)[kept] for name in ("low", "high", "cover")),
        *(getattr(nodes, n)[targets] for n in ("target_tree", "target_node", "target", "weight")),
    )


@pytest.mark.parametrize("horizon", list(Horizon))
def test_shapley_values_equal_the_reference(horizon: Horizon) -> None:
    nodes = nodes_of(horizon)
    predictor = Predictor.load(SEED, version="seed")
    students = [StudentFeatures.model_validate(s) for s in random_students(60, seed=5)]
    inputs = np.array([predictor.inputs(s)[0] for s in students if s.horizon == horizon])
    ours = Attribution(first_trees(nodes), columns=inputs.shape[1], targets=42)
    for target in np.argsort(-np.bincount(nodes.target))[PASSES].tolist():
        model = {"trees": reference(nodes, target)}
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        expected = explainer.shap_values(inputs.astype(np.float64), check_additivity=False)
        found = np.array([ours.shares(row)[:, target] for row in inputs])
        np.testing.assert_allclose(found, np.reshape(expected, found.shape), atol=1e-5)


def test_seed_folder_holds_one_set_of_trees_a_horizon() -> None:
    assert {p.name for p in Path(SEED).glob("trees-*")} == {trees_file(h) for h in Horizon}
