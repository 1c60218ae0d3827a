"""Files are read as data, never run: no pickle in a file, no YAML that makes objects, no text that becomes code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Calls that may run what a file says; `torch.load(..., weights_only=True)` does not. Pickles belong to nnU-Net, which
#: reads its own.
RUNS_WHAT_IT_READS = {
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "load_pickle", "torch.load", "joblib.load", "dill.load",
    "shelve.open", "marshal.load", "marshal.loads", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle",
}  # fmt: skip


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a call's function."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangerous(source: str) -> Iterator[str]:
    """The calls in a piece of Python that may run what they read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            options = {option.arg: option.value for option in node.keywords}
            if name in RUNS_WHAT_IT_READS and not _is(options.get("weights_only"), True):
                yield name
            if "allow_pickle" in options and not _is(options["allow_pickle"], False):
                yield f"{name}(allow_pickle)"
            if "shell" in options and not _is(options["shell"], False):
                yield f"{name}(shell)"


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


ALLOWED = {
    # question and answer between a process and the reader that it has started
    "dataset_conversion/readers/isolated.py": ["pickle.load", "pickle.load"],
    # nnU-Net's records of preprocessed cases, which its loader reads next in the same process
    "nnunet_partial/training/startup_checks.py": ["load_pickle"],
}


def test_no_file_is_run() -> None:
    files = [path for folder in ("nnunet_partial", "dataset_conversion") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 150
    found = {path.relative_to(ROOT).as_posix(): list(dangerous(path.read_text(encoding="utf-8"))) for path in files}
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED


def test_the_check_itself_notices() -> None:
    source = (
        "import pickle, yaml, numpy\npickle.load(f)\nyaml.load(f, Loader)\nnumpy.load(f, allow_pickle=True)\neval(x)\n"
    )
    assert sorted(dangerous(source)) == ["eval", "numpy.load(allow_pickle)", "pickle.load", "yaml.load"]
    assert list(dangerous("torch.load(f)\ntorch.load(f, weights_only=False)")) == ["torch.load", "torch.load"]
    harmless = "yaml.safe_load(f)\nnumpy.load(f, allow_pickle=False)\nnetwork.eval()\ntorch.load(f, weights_only=True)"
    assert list(dangerous(harmless)) == []
