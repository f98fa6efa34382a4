"""What is suggested where the columns of a class list are not certain."""

from __future__ import annotations

import gradio as gr
import pytest

from gradio_ui.tabs.column_choice import ColumnChoice
from gradio_ui.texts import Texts
from student_success.domain.students import PERIODS
from student_success.domain.tables.columns import Choices
from tests.unit.domain.tables.files import read_class_list

FIRST, SECOND = PERIODS[:2]


@pytest.mark.parametrize(
    ("titles", "chosen", "title", "holds"),
    [
        (["Trimestre 1", "Trimestre 2"], {}, "Trimestre 1", FIRST),
        (["Trimestre 1", "Trimestre 2"], {"Trimestre 1": FIRST}, "Trimestre 2", SECOND),
        (["Trimestre 2", "Trimestre 1"], {}, "Trimestre 2", SECOND),
        (["Moyenne", "Commentaire"], {}, "Moyenne", None),
        (["Moyenne 2025", "Commentaire"], {}, "Moyenne 2025", None),
    ],
)
def test_column_of_grades_is_suggested_for_the_period_in_its_title(
    titles: list[str], chosen: dict[str, str], title: str, holds: str | None
) -> None:
    with gr.Blocks():
        choice = ColumnChoice(Texts("fr"))
    rows = [",".join(["reference", *titles]), "A1,12,13", "A2,9,8", "A3,15,14"]
    choices = Choices(columns=chosen)
    updates = choice.offer(read_class_list("\n".join(rows).encode(), choices), choices)
    _, _, column, held = choice.inputs[:4]
    assert (updates[column]["value"], updates[held]["value"]) == (title, holds)
