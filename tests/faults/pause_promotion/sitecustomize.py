"""Stop the process that promotes at a step of a test's choice, for the test to kill everything.

Python imports this by itself in every process that has its folder on PYTHONPATH; the service knows
nothing of it. The step is read from the file that PAUSE_FILE names. A process that gets there adds
the suffix ".reached" to that file's name and stops as it is, with its locks and open transaction.
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


def _around(owner, name, *, before=None, after=None):
    inner = getattr(owner, name)

    def outer(*arguments, **options):
        if before:
            _pause(before)
        result = inner(*arguments, **options)
        if after:
            _pause(after)
        return result

    setattr(owner, name, outer)


def _arm():
    import shutil

    from student_success.core import subprocesses
    from student_success.lifecycle import promotion
    from student_success.registry import bento_store, mlflow_client
    from student_success.storage import deployments

    say = subprocesses.say

    def said(stream, event, **values):
        say(stream, event, **values)
        _pause(values.get("step", event))

    subprocesses.say = said
    copy2 = shutil.copy2

    def copied(source, target, **options):
        result = copy2(source, target, **options)
        if str(target).startswith(os.environ["BENTOML_HOME"]):
            _pause("half kept")
        return result

    # `copytree` has it as the default of a parameter.
    shutil.copytree.__defaults__ = tuple(
        copied if value is copy2 else value for value in shutil.copytree.__defaults__
    )
    _around(mlflow_client, "find", before="begun")
    _around(bento_store, "keep", before="keeping")
    _around(deployments, "_chain", after="half recorded")
    _around(promotion.Anchor, "add", before="committed")
    _around(mlflow_client, "move_alias", before="moving", after="moved")
    _around(deployments.Deployments, "remember_alias", after="remembered")


if "PAUSE_FILE" in os.environ and "promote" in sys.orig_argv:
    _arm()
