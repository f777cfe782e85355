"""Python files as syntax trees, for the tests that read the house's own code."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """The tree. While CPython up to 3.11.7 and 3.12.1 builds one, a garbage collection may let another thread run; if that
    one builds a tree, too, both count in one place how deep they are, and this one ends with SystemError "AST constructor
    recursion depth mismatch" (python/cpython#106905). So nothing is collected meanwhile."""
    text = path.read_text(encoding="utf-8")
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if was_on:
            gc.enable()
