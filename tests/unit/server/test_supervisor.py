"""The stand-in that the supervisor starts workers of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from student_success.core.settings import ROOT
from student_success.server.supervisor import SERVICE

# In a process of its own: BentoML stays as it was imported first.
DESCRIBE = """
import json
from student_success.core.settings import Settings
from student_success.server.supervisor import stand_in
import sys
stood_in = stand_in(Settings())
light = "service" not in sys.modules and "sqlalchemy" not in sys.modules
from service import StudentSuccess
print(json.dumps({"light": light, **{
    name: {
        "import_string": one.import_string,
        "name": one.name,
        "config": one.config,
        "envs": one.envs,
        "working_dir": one.working_dir,
        "services": list(one.all_services()),
    }
    for name, one in {"stand-in": stood_in, "service": StudentSuccess}.items()
}}, default=repr))
"""


@pytest.fixture(scope="module", params=["1", "3"])
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    home: Path = tmp_path_factory.mktemp("described")
    said = subprocess.run(
        [sys.executable, "-c", DESCRIBE],
        cwd=ROOT,
        env={"STATE_DIR": f"{home}", "BENTOML_HOME": f"{home}", "WORKERS": request.param},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = json.loads(said)
    assert found["service"]["config"]["workers"] == int(request.param)
    return found


def test_stand_in_says_of_the_service_what_it_says_of_itself(described: Any) -> None:
    assert described["stand-in"] == described["service"]
    assert described["stand-in"]["import_string"] == SERVICE
    assert described["stand-in"]["working_dir"] == str(ROOT)
    # Services that ours would depend on, the stand-in would have to name.
    assert described["stand-in"]["services"] == ["student_success"]


def test_stand_in_imports_nothing_of_what_it_stands_for(described: Any) -> None:
    assert described["light"]
