"""BentoML's own client, as its users know it: every method of the service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bentoml
import pytest
from bentoml.exceptions import BentoMLException

from student_success.domain.students import EXAMPLE
from tests.http.conftest import API_TOKEN
from tests.server import ADMIN_TOKEN, Server

# BentoML's client uses things that its own libraries call old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextlib.contextmanager
def connected(server: Server, token: str | None = None) -> Iterator[bentoml.SyncHTTPClient]:
    with bentoml.SyncHTTPClient(server.url, token=token, timeout=60) as made:
        yield made
    # The client leaves its folder to the garbage collector, which warns.
    made._temp_dir.cleanup()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[bentoml.SyncHTTPClient]:
    with connected(server) as made:
        yield made


@pytest.fixture(scope="module")
def admin_client(server: Server) -> Iterator[bentoml.SyncHTTPClient]:
    with connected(server, ADMIN_TOKEN) as made:
        yield made


def test_predict_takes_the_flat_pupil(client: bentoml.SyncHTTPClient) -> None:
    answer = client.predict(EXAMPLE)
    assert answer["model_version"] == "seed"
    assert 8 <= answer["predicted_G3"] <= 11


def test_predict_batch_takes_pupils(client: bentoml.SyncHTTPClient) -> None:
    answer = client.predict_batch({"students": [EXAMPLE, EXAMPLE]})
    assert len(answer["predictions"]) == 2


def test_history_takes_a_session(client: bentoml.SyncHTTPClient) -> None:
    session_id = client.predict(EXAMPLE)["session_id"]
    [row] = client.history({"session_id": session_id, "limit": 5})
    assert row["inputs_json"] == EXAMPLE


def test_health_asks_for_nothing(client: bentoml.SyncHTTPClient) -> None:
    assert client.health({})["model_loaded"] is True
    assert client.is_ready()


def test_bad_pupil_is_told_apart_from_a_fault(client: bentoml.SyncHTTPClient) -> None:
    with pytest.raises(BentoMLException) as caught:
        client.predict({**EXAMPLE, "age": 99})
    assert caught.value.error_code == 422
    assert "less than or equal to 22" in str(caught.value)


@pytest.mark.parametrize(
    ("method", "body"),
    [("train", {}), ("promote", {"version": 1}), ("rollback", {"reason": "r"})],
)
def test_administrators_methods_refuse_who_has_no_token(
    client: bentoml.SyncHTTPClient, method: str, body: dict[str, object]
) -> None:
    with pytest.raises(BentoMLException) as caught:
        getattr(client, method)(body)
    assert caught.value.error_code == 401


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("train", {"family": "../x"}, 422),
        ("promote", {"version": 0}, 422),
        ("promote", {"version": 1, "alias": "another"}, 422),
        ("rollback", {"reason": "r"}, 409),
    ],
)
def test_administrators_methods_answer_with_their_token(
    admin_client: bentoml.SyncHTTPClient, method: str, body: dict[str, object], code: int
) -> None:
    with pytest.raises(BentoMLException) as caught:
        getattr(admin_client, method)(body)
    assert caught.value.error_code == code


def test_api_token_is_sent_as_bentoml_does(guarded: Server) -> None:
    with connected(guarded, API_TOKEN) as made:
        assert made.predict(EXAMPLE)["decision"] in ("reussite", "echec")
