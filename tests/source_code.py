"""The syntax trees of the project's own modules."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def syntax_tree(path: Path) -> ast.Module:
    """Parse a module.

    The garbage collector waits: in Python 3.11.0 to 3.11.7 it may let another thread parse in the
    middle, and both then fail with "AST constructor recursion depth mismatch" (CPython issue
    106905).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        if was_enabled:
            gc.enable()
