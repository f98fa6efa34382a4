"""The service without its handlers of predictions, which then go through BentoML's wrapper.

Run as `python -m tests.http.wrapped_service serve`, it starts the server as users do.
"""

from __future__ import annotations

import runpy

from student_success.server import supervisor

if __name__ == "__main__":
    supervisor.SERVICE = "tests.http.wrapped_service:StudentSuccess"
    runpy.run_module("student_success", run_name="__main__", alter_sys=True)
else:
    from service import StudentSuccess

    for _middleware, options in StudentSuccess.middlewares:
        assert {("POST", "/predict"), ("POST", "/predict_batch")} <= options["handlers"].keys()
        options["handlers"] = {
            route: handler for route, handler in options["handlers"].items() if route[0] != "POST"
        }
