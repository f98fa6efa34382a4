"""Stop the promoting process at a step that a test chooses, so that the test can kill it there.

Python imports this module in every process that has its folder on PYTHONPATH; the service does not
know it. The file that PAUSE_FILE names contains the step. A process that reaches the step adds the
suffix ".reached" to the name of that file and stops, with its locks and its open transaction.
"""

import os
import signal
import sys


def _pause(step):
    path = os.environ["PAUSE_FILE"]
    try:
        with open(path) as file:
            if file.read().strip() != step:
                return
    except FileNotFoundError:
        return
    os.rename(path, path + ".reached")
    os.kill(os.getpid(), signal.SIGSTOP)


def _pause_around(owner, name, *, before=None, after=None):
    original = getattr(owner, name)

    def wrapper(*arguments, **options):
        if before:
            _pause(before)
        result = original(*arguments, **options)
        if after:
            _pause(after)
        return result

    setattr(owner, name, wrapper)


def _install_pauses():
    import shutil

    from student_success.core import subprocesses
    from student_success.lifecycle import promotion
    from student_success.registry import bento_store, mlflow_client
    from student_success.storage import deployments

    write_event = subprocesses.write_event

    def write_event_and_pause(stream, event, **values):
        write_event(stream, event, **values)
        _pause(values.get("step", event))

    subprocesses.write_event = write_event_and_pause
    copy2 = shutil.copy2

    def copy_and_pause(source, target, **options):
        result = copy2(source, target, **options)
        if str(target).startswith(os.environ["BENTOML_HOME"]):
            _pause("half kept")
        return result

    # `copytree` has `copy2` as the default of a parameter.
    shutil.copytree.__defaults__ = tuple(
        copy_and_pause if value is copy2 else value for value in shutil.copytree.__defaults__
    )
    _pause_around(mlflow_client, "find", before="begun")
    _pause_around(bento_store, "keep", before="keeping")
    _pause_around(deployments, "_chain", after="half recorded")
    _pause_around(promotion.AuditFile, "append", before="committed")
    _pause_around(mlflow_client, "move_alias", before="moving", after="moved")
    _pause_around(deployments.Deployments, "set_alias_version", after="remembered")


if "PAUSE_FILE" in os.environ and "promote" in sys.orig_argv:
    _install_pauses()
