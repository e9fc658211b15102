"""Refuses files over 300 lines and functions over 50: past that there is a second thing in them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def too_long(path: Path) -> list[str]:
    """One sentence for each thing in the file that is too long."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    said = [f"{path}: {lines} lines, {LONGEST_FILE} at most"] if lines > LONGEST_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                said.append(f"{path}:{node.lineno}: {node.name} has {length} lines, {LONGEST_FUNCTION} at most")
    return said


if __name__ == "__main__":
    found = [
        line
        for folder in ("pipeline", "flows", "models")
        for path in Path(folder).rglob("*.py")
        for line in too_long(path)
    ]
    sys.exit("\n".join(found) or 0)
