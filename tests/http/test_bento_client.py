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


def test_client_predicts_flat_pupil(client: bentoml.SyncHTTPClient) -> None:
    response = client.predict(EXAMPLE)
    assert response["model_version"] == "seed"
    assert 8 <= response["predicted_G3"] <= 11


def test_client_predicts_batch(client: bentoml.SyncHTTPClient) -> None:
    response = client.predict_batch({"students": [EXAMPLE, EXAMPLE]})
    assert len(response["predictions"]) == 2


def test_client_reads_history_of_a_session(client: bentoml.SyncHTTPClient) -> None:
    session_id = client.predict(EXAMPLE)["session_id"]
    [row] = client.history({"session_id": session_id, "limit": 5})
    assert row["inputs_json"] == EXAMPLE


def test_client_reads_health_and_readiness(client: bentoml.SyncHTTPClient) -> None:
    assert client.health({})["model_loaded"] is True
    assert client.is_ready()


def test_client_gets_422_with_message_for_an_invalid_pupil(client: bentoml.SyncHTTPClient) -> None:
    with pytest.raises(BentoMLException) as caught:
        client.predict({**EXAMPLE, "age": 99})
    assert caught.value.error_code == 422
    assert "less than or equal to 22" in str(caught.value)


@pytest.mark.parametrize(
    ("method", "body"),
    [("train", {}), ("promote", {"version": 1}), ("rollback", {"reason": "r"})],
)
def test_client_gets_401_from_admin_methods_without_token(
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
def test_client_reaches_admin_methods_with_token(
    admin_client: bentoml.SyncHTTPClient, method: str, body: dict[str, object], code: int
) -> None:
    with pytest.raises(BentoMLException) as caught:
        getattr(admin_client, method)(body)
    assert caught.value.error_code == code


def test_client_sends_its_token_as_the_api_token(guarded: Server) -> None:
    with connected(guarded, API_TOKEN) as made:
        assert made.predict(EXAMPLE)["decision"] in ("reussite", "echec")
