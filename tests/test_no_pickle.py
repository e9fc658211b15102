"""Nothing that is read from a file may run code: no pickle is read, in the product or for it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("pipeline", "flows", "models") for path in (ROOT / folder).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
"""Modules that read them. Dask uses some to send work to its workers, over its own connection; no file is read so."""
RUNS = {"eval", "exec", "compile", "__import__"}
YAML = {"load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}


def calls(tree):
    """(dotted name, the call) of each call in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(tree):
    """The modules that a module imports, by their first names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def wrong(source):
    """What in a module could read a pickle, or run what it reads."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported(tree) if name in PICKLES]
    for name, call in calls(tree):
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        *_, owner, last = ["", *name.split(".")]
        if owner in {"np", "numpy"} and last == "load" and said.get("allow_pickle", "False") != "False":
            found.append(f"{name} takes pickles")
        if last == "read_pickle":
            found.append(f"{name} reads pickles")
        if name == "torch.load" and said.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if owner == "yaml" and (last in YAML or (last == "load" and not _safe(call))):
            found.append(f"{name} makes whatever a file names")
        if name in RUNS and not _constant(call):
            found.append(f"{name} runs what it is given")
    return found


def _safe(call):
    """A loader of ours, which is a SafeLoader: tests of the job file give it a tag that would run something."""
    return len(call.args) == 2 and ast.unparse(call.args[1]) == "_Loader"


def _constant(call):
    return bool(call.args) and isinstance(call.args[0], ast.Constant)


def test_no_module_reads_a_pickle_or_runs_what_it_reads():
    assert len(FILES) > 100
    found = {str(path.relative_to(ROOT)): wrong(path.read_text(encoding="utf-8")) for path in FILES}
    assert {path: said for path, said in found.items() if said} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(path)",
        "eval(text)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source):
    assert wrong(source)


def test_numpy_refuses_a_pickle_unless_it_is_told_otherwise(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "a.npy")
