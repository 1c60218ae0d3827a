"""The JSON Schemas of partial_labels.json and study.yaml accept what the readers accept, and nothing else."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.mutated import altered, broken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.study.config import ARCHITECTURES, CONFIGURATIONS, METHODS, Study

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    name: json.loads((files("nnunet_partial") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    for name in ("partial_labels", "study")
}
MANIFEST, STUDY = (Draft202012Validator(schema) for schema in SCHEMAS.values())
often = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_they_are_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


# ---- partial_labels.json ---------------------------------------------------------------------------------------------

FURTHER = {"spacing_known": False, "interpolated": True, "same_people_as": "camus"}
SOUND = {
    **Manifest(
        {
            "c0": CaseLabels(("LV",), ("RV",), domain="a", patient="p0", info={"ef": 54.0, "split": "train"}),
            "c1": CaseLabels(("LV", "MYO"), domain="a", patient="p1", info={"left_out": True, **FURTHER}),
            "c2": CaseLabels((), domain="b", pseudo=("LV",), info={"seen_by_filling_model": True}),
        },
        (("echonet_*", CaseLabels(("LV",), ("RV",), domain="echonet")), ("*", CaseLabels(("LV",)))),
        domain_weights={"a": 1.0, "b": 2},
    ).to_json(),
    "scenario": {"source": "Dataset501"},
    "fill": {"source": "Dataset510"},
}


def reads_manifest(content: Any) -> bool:
    try:
        Manifest.from_json(content)
    except PartialLabelError:
        return False
    return True


def beyond_a_schema(content: dict[str, Any]) -> bool:
    """What a schema cannot say of a manifest that it accepts, and check does: see its description."""
    entries = [*(content.get("cases") or {}).values(), *(content.get("groups") or [])]
    states = [[entry["annotated"], entry.get("absent", []), entry.get("pseudo", [])] for entry in entries]
    contradictory = any(len({*chain(*names)}) < sum(map(len, names)) for names in states)
    return contradictory or bool(
        set(content.get("domain_weights") or {}) - {entry.get("domain") or "" for entry in entries}
    )


def same_answer_for_manifest(content: Any) -> None:
    accepted = MANIFEST.is_valid(content)
    assert reads_manifest(content) == (accepted and not beyond_a_schema(content))


def test_a_sound_manifest() -> None:
    assert MANIFEST.is_valid(SOUND)
    assert reads_manifest(SOUND)
    assert not beyond_a_schema(SOUND)


@often
@given(altered(SOUND))
def test_an_altered_manifest(content: Any) -> None:
    same_answer_for_manifest(content)


@often
@given(broken(json.dumps(SOUND, indent=1).encode()))
def test_a_broken_manifest(text: bytes) -> None:
    try:
        content = json.loads(text.decode("utf-8-sig"), parse_constant=not_json)
    except (ValueError, RecursionError):
        return
    same_answer_for_manifest(content)


def not_json(constant: str) -> None:
    """NaN and Infinity are Python's."""
    raise ValueError(constant)


def test_the_reference_names_every_field() -> None:
    schema = SCHEMAS["partial_labels"]
    fields = {*schema["properties"]}.union(*(entry["properties"] for entry in schema["$defs"].values()))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "nnunet_partial").rglob("*.py")]
    fields.update(name for source in sources for name in re.findall(r'\binfo\.get\("(\w+)"\)', source))
    assert {"version", "match", "left_out", "interpolated", "ef"} <= fields
    page = (ROOT / "docs" / "reference" / "manifest.md").read_text(encoding="utf-8")
    assert [name for name in sorted(fields) if f"| `{name}` |" not in page] == []


# ---- study.yaml ------------------------------------------------------------------------------------------------------

PLAIN = {
    "name": "camus-echonet",
    "datasets": {"camus": 501, "two": 513},
    "scenarios": [
        {"from": "camus", "missing": ["LA"], "fraction": [0.25, 0.5]},
        {"from": "two", "domain": "cardiacuda", "missing": "random"},
    ],
    "losses": ["naive", "marginal"],
    "seeds": [0, 1],
    "architectures": ["plain", "resenc-m"],
    "folds": [0, 1],
    "configuration": "2d",
    "epochs": 5,
    "network": {"features": [8, 16, 24], "patch": [64, 64], "batch": 4},
    "device": "cuda",
    "gpus_per_training": 2,
    "folder": "runs",
}
PRIMUS = {
    **PLAIN,
    "configuration": "3d_fullres",
    "architectures": ["plain", "primus-m"],
    "network": {"patch": [16, 24, 32]},
}


def reads_study(file: Path) -> bool:
    try:
        Study.read(file)
    except PartialLabelError:
        return False
    return True


def as_json(value: Any) -> Any:
    """YAML as a validator sees it: keys are text, a date is the text that stands there."""
    if isinstance(value, dict):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_json(entry) for entry in value]
    return str(value) if isinstance(value, datetime.date) else value


def scenario_names(content: dict[str, Any]) -> Iterator[str]:
    for entry in content["scenarios"]:
        missing = entry["missing"] if isinstance(entry["missing"], list) else [entry["missing"]]
        fractions = entry.get("fraction", 1.0)
        for fraction in fractions if isinstance(fractions, list) else [fractions]:
            yield repr((str(entry["from"]), entry.get("domain"), missing, f"{100 * fraction:g}"))


def beyond_the_schema(content: dict[str, Any]) -> bool:
    """What a schema cannot say of a study that it accepts, and the dry run does: see its description."""
    names = list(scenario_names(content))
    unknown = any(str(entry["from"]) not in content["datasets"] for entry in content["scenarios"])
    ids = [*content["datasets"].values()]
    twice = len(set(names)) < len(names) or len({*ids}) < len(ids)
    return unknown or twice or str(content.get("folder")).startswith("~")


def same_answer_for_study(content: Any, file: Path) -> None:
    accepted = STUDY.is_valid(content)
    assert reads_study(file) == (accepted and not beyond_the_schema(content))


@pytest.mark.parametrize("sound", [PLAIN, PRIMUS, {**PLAIN, "folds": "by-domain"}], ids=["2-D", "3-D", "by domain"])
def test_a_sound_study(sound: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(sound), encoding="utf-8")
    assert STUDY.is_valid(sound)
    assert reads_study(file)
    assert not beyond_the_schema(sound)


@pytest.mark.slow
@often
@given(st.sampled_from([PLAIN, PRIMUS]).flatmap(altered))
def test_an_altered_study(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    same_answer_for_study(content, file)


@often
@given(broken(yaml.safe_dump(PLAIN, sort_keys=False).encode()))
def test_a_broken_study(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(text)
    try:
        content = as_json(yaml.safe_load(text.decode("utf-8-sig")))
        list(numbers(content))
    except (ValueError, yaml.YAMLError, RecursionError, TypeError):
        return
    if not reads_study(file) and has_duplicate_keys(text):
        return
    same_answer_for_study(content, file)


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a study; an error for those that JSON does not have."""
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers(entry)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(value)
        yield value


def has_duplicate_keys(text: bytes) -> bool:
    def look(node: yaml.Node | None) -> bool:
        if isinstance(node, yaml.MappingNode):
            keys = [(key.tag, key.value) for key, _ in node.value]
            return len(set(map(str, keys))) < len(keys) or any(look(value) for _, value in node.value)
        return isinstance(node, yaml.SequenceNode) and any(map(look, node.value))

    return look(yaml.compose(text.decode("utf-8-sig"), yaml.SafeLoader))


def test_the_choices_are_those_of_the_program() -> None:
    properties = SCHEMAS["study"]["properties"]
    assert properties["losses"]["anyOf"][0]["enum"] == list(METHODS)
    assert properties["architectures"]["anyOf"][0]["enum"] == list(ARCHITECTURES)
    assert properties["configuration"]["enum"] == list(CONFIGURATIONS)
    assert list(properties) == [
        name for name in Study.__dataclass_fields__ if name not in ("by_domain", "dataset_lines")
    ]


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("studies/*.yaml"), *ROOT.glob("studies/chest_xray/*.yaml")]), ids=lambda file: file.name
)
def test_the_studies_of_this_project(file: Path) -> None:
    assert STUDY.is_valid(yaml.safe_load(file.read_text(encoding="utf-8")))
