from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client

from gradio_ui.html.labels import PRIORITIES
from gradio_ui.tabs.pupil_form import IN_ORDER
from gradio_ui.texts import Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES
from tests.server import ADMIN_TOKEN, Server
from tests.ui_server import UiServer
from tests.unit.domain.tables.files import HEADER, row, xlsx

pytestmark = [
    pytest.mark.e2e,
    # gradio_client leaves its listener's connection to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]

ORDER = [feature.name for feature in IN_ORDER]
"""The fields as the form has them, after the one that says which grades are known."""
EN = Texts("en")


@pytest.fixture
def visitor(ui: UiServer) -> Iterator[Callable[[], Client]]:
    clients: list[Client] = []

    def open_page() -> Client:
        clients.append(Client(f"{ui.url}/en/", verbose=False, analytics_enabled=False))
        return clients[-1]

    yield open_page
    for client in clients:
        client.close()


def _form(**changes: Any) -> list[Any]:
    values = {**EXAMPLE, **changes}
    written = [
        str(values[f.name]) if f.about.choices is None else values[f.name]
        for name in ORDER
        for f in FEATURES
        if f.name == name
    ]
    return ["G1+G2", *written, values.get("reference", "")]


def _texts(answer: Any) -> str:
    return "\n".join(str(value) for value in answer)


def _file(saved: Any) -> bytes:
    return base64.b64decode(saved["data"])


def _upload(path: Path) -> dict[str, str]:
    """Return a file as the page sends it."""
    return {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()}


def _class(folder: Path, count: int, **changes: Any) -> Path:
    path = folder / "class.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["reference", *FEATURE_NAMES])
        for number in range(count):
            row = {**EXAMPLE, "G2": number % 20, **changes}
            writer.writerow([f"P-{number:05}", *(row[name] for name in FEATURE_NAMES)])
    return path


def test_predict_shows_prediction_and_adds_it_to_history(
    visitor: Callable[[], Client],
) -> None:
    client = visitor()
    shown = _texts(client.predict(*_form(reference="A-1"), api_name="/predict"))
    assert EN("result.pass") in shown
    assert "A-1" in _texts(client.predict(api_name="/history"))


def test_predict_explains_invalid_fields_and_stores_nothing(visitor: Callable[[], Client]) -> None:
    client = visitor()
    shown = _texts(client.predict(*_form(age=99, G1="x"), api_name="/predict"))
    assert EN("problem.whole", low=15, high=22) in shown
    assert EN("problem.grade", low=0, high=20) in shown
    assert EN("result.to_correct", count=2) in shown
    assert EN("history.empty") in _texts(client.predict(api_name="/history"))


def test_history_shows_only_own_predictions(visitor: Callable[[], Client]) -> None:
    first, second = visitor(), visitor()
    first.predict(*_form(reference="FIRST"), api_name="/predict")
    second.predict(*_form(reference="SECOND"), api_name="/predict")
    seen = [_texts(client.predict(api_name="/history")) for client in (first, second)]
    assert ["FIRST" in text for text in seen] == [True, False]
    assert ["SECOND" in text for text in seen] == [False, True]


def test_reopen_continues_session_by_its_code(visitor: Callable[[], Client]) -> None:
    first, second = visitor(), visitor()
    first.predict(*_form(reference="KEPT"), api_name="/predict")
    code = first.predict(api_name="/history")[1]
    assert len(code) >= 16
    assert "KEPT" in _texts(second.predict(code, api_name="/reopen"))
    assert EN("history.bad_code") in _texts(second.predict("né", api_name="/reopen"))


def test_score_class_ranks_filters_and_saves_ten_thousand_pupils(
    visitor: Callable[[], Client], tmp_path: Path
) -> None:
    client = visitor()
    checked = client.predict(_upload(_class(tmp_path, 10_000)), api_name="/check_class")
    assert "10,000 rows read" in _texts(checked)
    job = client.submit(api_name="/score_class")
    shown = _texts(job.result(timeout=120))
    assert EN.count("class.scored", 10_000) in shown
    assert EN("page.of", page=1, pages=200) in shown
    steps = [_texts(step) for step in job.outputs()]
    assert any("<progress" in step for step in steps)
    kinds = {
        kind: list(
            csv.reader(
                io.StringIO(
                    _file(client.predict(kind, "", api_name="/save_csv")).decode("utf-8-sig")
                )
            )
        )
        for kind in ("all", *PRIORITIES)
    }
    assert len(kinds["all"]) == 10_001
    assert sum(len(kinds[kind]) for kind in PRIORITIES) == 10_003
    grades = [float(row[6]) for row in kinds["all"][1:]]
    assert grades == sorted(grades)
    assert len(_texts(client.predict("all", "P-00042", "0", api_name="/show_class"))) < 20_000


def test_score_class_predicts_valid_rows_and_saves_invalid_cells(
    visitor: Callable[[], Client], tmp_path: Path
) -> None:
    client = visitor()
    path = _class(tmp_path, 3)
    path.write_text(path.read_text("utf-8").replace("P-00001;GP", "P-00001;XX"), "utf-8")
    checked = _texts(client.predict(_upload(path), api_name="/check_class"))
    assert EN.count("class.to_fix", 1) in checked
    assert b"3,school,XX" in _file(client.predict(api_name="/save_bad"))
    scored = client.submit(api_name="/score_class").result(timeout=60)
    assert EN.count("class.scored", 2) in _texts(scored)


def test_check_class_explains_why_an_upload_is_unreadable(visitor: Callable[[], Client]) -> None:
    client = visitor()
    for upload, key in (
        (None, "problem.empty"),
        ({"name": "a.csv"}, "problem.empty"),
        ({"name": "a.csv", "data": "*"}, "problem.not_a_table"),
        ({"name": "a.csv", "data": "QUFB" * 350_000}, "problem.too_large"),
        ({"name": "a.xlsx", "data": "UEsDBA=="}, "problem.not_a_table"),
    ):
        assert EN(key) in _texts(client.predict(upload, api_name="/check_class"))


def test_check_class_again_reads_columns_as_the_reader_said_and_remembers_them(
    visitor: Callable[[], Client], tmp_path: Path
) -> None:
    client = visitor()
    path = _class(tmp_path, 3)
    path.write_text(path.read_text("utf-8").replace("G1;G2", "Trimestre 1;G2"), "utf-8")
    checked = _texts(client.predict(_upload(path), api_name="/check_class"))
    assert "Trimestre 1" in checked
    assert EN("class.all_good") not in checked
    refused = _texts(client.submit(api_name="/score_class").result(timeout=60))
    assert EN.count("class.scored", 3) not in refused
    said = (None, "", "Trimestre 1", "G1", False)
    again = _texts(client.predict(_upload(path), *said, api_name="/check_class_again"))
    assert EN("class.all_good") in again
    # The same titles once more: nothing is asked.
    assert EN("class.all_good") in _texts(client.predict(_upload(path), api_name="/check_class"))


def test_check_class_again_reads_the_chosen_sheet(
    visitor: Callable[[], Client], tmp_path: Path
) -> None:
    client = visitor()
    path = tmp_path / "two.xlsx"
    path.write_bytes(xlsx({"3A": [HEADER, row("A-01", 9)], "3B": [HEADER, row("B-01", 9)]}))
    asked = _texts(client.predict(_upload(path), api_name="/check_class"))
    assert EN("problem.choose_sheet", sheets="3A, 3B") in asked
    said = ("3B", "", None, None, False)
    again = _texts(client.predict(_upload(path), *said, api_name="/check_class_again"))
    assert EN("problem.sheet", sheet="3B", others="3A") in again
    assert EN("class.all_good") in again


def test_server_stores_no_uploaded_file(
    visitor: Callable[[], Client], tmp_path: Path, ui: UiServer
) -> None:
    client = visitor()
    client.predict(_upload(_class(tmp_path, 2)), api_name="/check_class")
    client.submit(api_name="/score_class").result(timeout=60)
    client.predict("all", "", api_name="/save_xlsx")
    assert [path for path in ui.temporary.rglob("*") if path.is_file()] == []


def test_models_tab_refuses_every_action_without_token(
    visitor: Callable[[], Client], api: Server
) -> None:
    client = visitor()
    for name, arguments in (
        ("/train", ["", ""]),
        ("/promote", ["1", "because", "", "", False]),
        ("/rollback", ["because"]),
        ("/judge", ["1"]),
    ):
        assert EN("models.locked") in _texts(client.predict(*arguments, api_name=name))
    assert EN("models.refused") in _texts(client.predict("wrong", api_name="/unlock"))
    assert EN("models.locked") in _texts(client.predict("because", api_name="/rollback"))
    assert "train" not in {line.get("path", "").strip("/") for line in api.log_lines()}


def test_unlock_opens_models_tab_only_for_its_visitor(
    visitor: Callable[[], Client],
) -> None:
    admin, other = visitor(), visitor()
    no_exceptions = ("", "", False)
    opened = admin.predict(ADMIN_TOKEN, api_name="/unlock")
    assert EN("log.title") in _texts(opened)
    assert ADMIN_TOKEN not in _texts(opened)
    assert EN("log.title") not in _texts(other.predict(api_name="/models"))
    assert EN("models.no_reason") in _texts(
        admin.predict("1", " ", *no_exceptions, api_name="/promote")
    )
    assert EN("models.no_version") in _texts(
        admin.predict("x", "y", *no_exceptions, api_name="/promote")
    )
    assert EN("error.not_found") in _texts(
        admin.predict("999", "y", *no_exceptions, api_name="/promote")
    )
    assert EN("error.conflict") in _texts(admin.predict("why", api_name="/rollback"))
    # Conditions are read without a click: the message of the last action stays.
    judged = admin.predict("999", api_name="/judge")
    assert EN("error.not_found") in _texts(judged)
    assert "" not in judged
    admin.predict(api_name="/lock")
    assert EN("models.locked") in _texts(admin.predict("why", api_name="/rollback"))


def test_erase_requires_confirmation_and_admin_token(visitor: Callable[[], Client]) -> None:
    client = visitor()
    client.predict(*_form(reference="GONE"), api_name="/predict")
    assert EN("history.not_sure") in _texts(client.predict(False, api_name="/erase"))
    assert EN("history.erase_admin") in _texts(client.predict(True, api_name="/erase"))
    client.predict(ADMIN_TOKEN, api_name="/unlock")
    erased = _texts(client.predict(True, api_name="/erase"))
    assert EN.count("history.erased", 1) in erased
    assert "GONE" not in erased


def test_monitoring_shows_state_of_service(visitor: Callable[[], Client]) -> None:
    shown = _texts(visitor().predict(api_name="/monitoring"))
    assert EN("state.ok") in shown
    assert EN("quality.title") in shown


def test_history_has_pages(visitor: Callable[[], Client], tmp_path: Path) -> None:
    client = visitor()
    client.predict(_upload(_class(tmp_path, 30)), api_name="/check_class")
    client.submit(api_name="/score_class").result(timeout=60)
    newest = _texts(client.predict(api_name="/history"))
    older = _texts(client.predict(api_name="/history_older"))
    assert newest.count("<tr>") == 26
    assert older.count("<tr>") == 6
    assert _texts(client.predict(api_name="/history_newer")).count("<tr>") == 26


def test_log_contains_no_token(ui: UiServer) -> None:
    assert ADMIN_TOKEN not in ui.log.read_text("utf-8")


def test_outcomes_are_recorded_with_admin_token_if_the_interface_has_none(
    visitor: Callable[[], Client],
) -> None:
    client = visitor()
    client.predict(*_form(reference="O-1"), api_name="/predict")
    assert EN("outcome.nothing") in _texts(client.predict(None, "", "", "", api_name="/outcomes"))
    bad = client.predict(None, "", "O-1 ; 21", "", api_name="/outcomes")
    assert EN("outcome.bad_line", number=1, scale="a whole grade from 0 to 20") in _texts(bad)
    # The API has no API_TOKEN, so only an administrator may record outcomes.
    refused = _texts(client.predict(None, "", "O-1 ; 12", "", api_name="/outcomes"))
    assert EN("outcome.admin") in refused
    client.predict(ADMIN_TOKEN, api_name="/unlock")
    good = _texts(client.predict(None, "", "O-1 ; 12\nO-2 ; 9", "", api_name="/outcomes"))
    assert EN("outcome.accepted", count=1) in good
    assert "O-2" in good
    other = _texts(client.predict(None, "", "O-1 ; 13", "", api_name="/outcomes"))
    assert EN("outcome.conflict") in other
    corrected = _texts(client.predict(None, "", "O-1 ; 13", "typo", api_name="/outcomes"))
    assert EN("outcome.accepted", count=1) in corrected


def test_outcomes_of_a_file_are_recorded_and_each_refused_row_has_its_reason(
    visitor: Callable[[], Client], tmp_path: Path
) -> None:
    client = visitor()
    for number in (1, 2, 3):
        client.predict(*_form(reference=f"F-{number}"), api_name="/predict")
    path = tmp_path / "grades.csv"
    path.write_text("repère;G3\nF-1;12\nF-2;21\nF-3;\nF-9;8\n", encoding="utf-8")
    client.predict(ADMIN_TOKEN, api_name="/unlock")
    shown = _texts(client.predict(_upload(path), api_name="/outcomes_file"))
    assert EN("outcome.accepted", count=1) in shown
    assert EN("outcome.without_grade", count=1) in shown
    assert f"line 3, G3: {EN('problem.outcome', low='0', high='20').rstrip('.')}" in shown
    assert f"line 5: {EN('outcome.not_found')}" in shown
    path.write_text("repère;note\nF-1;12\n", encoding="utf-8")
    shown = _texts(client.predict(_upload(path), api_name="/outcomes_file"))
    assert f"G3: {EN('problem.no_column').rstrip('.')}" in shown
    path.write_bytes(b"PK\x03\x04")
    shown = _texts(client.predict(_upload(path), api_name="/outcomes_file"))
    assert EN("problem.not_a_table") in shown


def test_explain_shows_reasons_of_the_last_prediction(visitor: Callable[[], Client]) -> None:
    client = visitor()
    client.predict(*_form(), api_name="/predict")
    assert EN("explain.title") in _texts(client.predict(api_name="/explain"))
