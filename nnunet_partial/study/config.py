"""study.yaml: what shall be compared, read strictly, with every mistake named at once and by its line.

Reads YAML safely, and remembers on which line each entry stands, so that a mistake can be pointed at.

What a study can compare: the losses and baselines, and the networks, by the names that stand in study.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nnunet_partial.dataset_conversion.derived.scenario_plan import RANDOM
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.text import format_names


@dataclass
class LineNumbers:
    """The line (from 1) of each entry by its path of keys and list positions, as in ("scenarios", 0, "missing")."""

    by_path: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def of(self, path: tuple[Any, ...]) -> int:
        """The line of the entry, or of the nearest one above it that stands in the file."""
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path, 1)


def read_yaml(path: Path) -> tuple[Any, LineNumbers]:
    """The content of a YAML file, and its lines. Only plain data: numbers, text, lists, mappings.

    Raises PartialLabelError for a file that cannot be read, is not YAML, or has one key twice in a mapping.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)
        lines = LineNumbers()
        return _value(node, (), lines, path), lines
    except OSError as problem:
        why = problem.strerror
        raise PartialLabelError(
            f"{path} cannot be read ({why}); expected a file as in docs/how-to/compare-losses.md"
        ) from None
    except UnicodeDecodeError as problem:
        raise PartialLabelError(f"{path} cannot be read: {problem}. Expected text in UTF-8.") from None
    except (yaml.YAMLError, RecursionError) as problem:
        raise PartialLabelError(f"{path} is not YAML: {problem}") from None


def _value(node: yaml.Node | None, at: tuple[Any, ...], lines: LineNumbers, file: Path) -> Any:
    if node is None:
        return None
    lines.by_path[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, at, lines, file)
    if isinstance(node, yaml.SequenceNode):
        return [_value(entry, (*at, index), lines, file) for index, entry in enumerate(node.value)]
    return _scalar(node, file)


def _mapping(node: yaml.MappingNode, at: tuple[Any, ...], lines: LineNumbers, file: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key, line = _scalar(key_node, file), key_node.start_mark.line + 1
        if key in found:
            raise PartialLabelError(f"{file.name}, line {line}: the key {key!r} stands twice. Remove one of them.")
        found[key] = _value(value_node, (*at, key), lines, file)
        here = (*at, key)
        lines.by_path[here] = line
    return found


def _scalar(node: yaml.Node, file: Path) -> Any:
    """Plain data alone: a list as a key, or a tag that asks for a Python object, is refused."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise PartialLabelError(f"{file.name}, line {line}: a key must be plain text.")
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as problem:
        raise PartialLabelError(f"{file.name}, line {line}: {node.value!r} cannot be read: {problem}") from None
    finally:
        loader.dispose()


@dataclass(frozen=True)
class Method:
    """A trainer, and whether it sees the complete cases only."""

    trainer: str
    title: str
    complete_cases: bool = False


@dataclass(frozen=True)
class Architecture:
    """nnU-Net's planner and plans for a network, and what the trainers that bring it themselves are called.

    `patch_multiple`: the sides of its patch are multiples of it, whatever is planned.
    """

    planner: str
    plans: str
    trainer_suffix: str = ""
    only_3d: bool = False
    patch_multiple: int = 1


METHODS: dict[str, Method] = {
    "naive": Method("nnUNetTrainerNaive", "naive (unlabelled = background)"),
    "complete-cases": Method("nnUNetTrainerNaive", "complete cases only", complete_cases=True),
    "acce": Method("nnUNetTrainerACCE", "aCCE"),
    "acce-ignore": Method("nnUNetTrainerACCEIgnore", "aCCE, background ignored"),
    "abce": Method("nnUNetTrainerABCE", "aBCE"),
    "marginal": Method("nnUNetTrainerMarginal", "marginal"),
    "acce-label-dropout": Method("nnUNetTrainerACCELabelDropout", "aCCE + label dropout"),
    "abce-label-dropout": Method("nnUNetTrainerABCELabelDropout", "aBCE + label dropout"),
    "marginal-label-dropout": Method("nnUNetTrainerMarginalLabelDropout", "marginal + label dropout"),
}

DEFAULT_PLANS = "nnUNetPlans"
_DEFAULT = ("ExperimentPlanner", DEFAULT_PLANS)

ARCHITECTURES: dict[str, Architecture] = {
    "plain": Architecture(*_DEFAULT),
    "resenc-m": Architecture("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"),
    "resenc-l": Architecture("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"),
    "swin-unetr": Architecture(*_DEFAULT, trainer_suffix="SwinUNETR"),
    "primus-m": Architecture(*_DEFAULT, trainer_suffix="PrimusM", only_3d=True, patch_multiple=8),
}

#: The planner that makes each plans.
PLANNERS: dict[str, str] = {network.plans: network.planner for network in ARCHITECTURES.values()}


#: nnU-Net's, without the cascade, which needs another training before it.
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")

#: The line of the file, and what is wrong.
Problem = tuple[int, str]


@dataclass(frozen=True)
class Scenario:
    """One labelling scenario: which structures are missing in which part of which data set."""

    source: str
    missing: tuple[str, ...]
    fraction: float = 1.0
    domain: str | None = None
    line: int = field(default=1, compare=False)

    @property
    def name(self) -> str:
        """camus-without-LA-50: of `camus`, half of the patients lack LA; a whole domain has its name in place of 50."""
        parts = [self.source, *([self.domain] if self.domain else []), "without", *self.missing]
        return "-".join([*parts, *([f"{100 * self.fraction:g}".replace(".", "p")] if self.fraction < 1 else [])])


@dataclass(frozen=True)
class Network:
    """A smaller network than nnU-Net plans, for studies on CPUs: see nnunet_partial.dataset.plans."""

    features: tuple[int, ...] = (16, 32, 64, 64)
    patch: tuple[int, ...] = (96, 96)
    batch: int = 8


@dataclass(frozen=True)
class Study:
    """A study as its file states it. Lists hold each entry once, in the file's order.

    `folder`: where everything goes that the study makes; in the file relative to it, by default its name.
    """

    name: str
    datasets: Mapping[str, int]
    scenarios: tuple[Scenario, ...]
    losses: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    architectures: tuple[str, ...] = ("plain",)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    configuration: str = "2d"
    epochs: int = 250
    iterations: int | None = None
    val_iterations: int | None = None
    network: Network | None = None
    device: str = "cuda"
    gpus_per_training: int = 1
    cpus_per_training: int | None = None
    folder: Path = Path("study")
    dataset_lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, path: Path, check: Callable[[Study], list[Problem]] | None = None) -> Study:
        """Raises PartialLabelError with everything that is wrong, a line each, as 'study.yaml, line 7: ...'.

        `check`: looks at what the file alone does not tell.
        """
        content, lines = read_yaml(path)
        reader = _Reader(lines)
        study = reader.study(content, path.resolve().parent)
        reader.problems += check(study) if check else []
        if reader.problems:
            wrong = "\n".join(f"  {path.name}, line {line}: {text}" for line, text in sorted(reader.problems))
            raise PartialLabelError(f"{path} cannot be run; nothing was started.\n{wrong}")
        return study


_KEYS = tuple(name for name in Study.__dataclass_fields__ if name != "dataset_lines")
_NAME = "letters, digits, '_' and '-', beginning with a letter or digit"


@dataclass
class _Reader:
    """Reads the parts of a study; what is wrong is collected, and a stand-in goes on."""

    lines: LineNumbers
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, path: tuple[Any, ...], text: str) -> None:
        self.problems.append((self.lines.of(path), text))

    def study(self, content: Any, home: Path) -> Study:
        if not isinstance(content, dict):
            self.wrong((), "expected 'key: value' lines; see docs/how-to/compare-losses.md")
            content = {}
        self._only_known(content, (), _KEYS)
        for key in ("name", "datasets", "scenarios", "losses"):
            if key not in content:
                self.wrong((), f"'{key}' is missing")
        study = Study(
            name=self._plain_name(content.get("name", "x"), ("name",)),
            datasets=self._datasets(content.get("datasets", {})),
            scenarios=self._scenarios(content),
            losses=self._choices(content, "losses", METHODS),
            seeds=self._list(content, "seeds", (0,), self._whole(0)),
            architectures=self._choices(content, "architectures", ARCHITECTURES, ("plain",)),
            folds=self._list(content, "folds", (0, 1, 2, 3, 4), self._whole(0)),
            configuration=self._one_of(content, "configuration", CONFIGURATIONS),
            epochs=self._number(content, "epochs", 250),
            iterations=self._number(content, "iterations", None),
            val_iterations=self._number(content, "val_iterations", None),
            network=self._network(content),
            device=self._one_of(content, "device", ("cuda", "cpu")),
            gpus_per_training=self._number(content, "gpus_per_training", 1),
            cpus_per_training=self._number(content, "cpus_per_training", None),
            folder=home / self._folder(content),
            dataset_lines=self._dataset_lines(content.get("datasets")),
        )
        self._clashes(study)
        return study

    def _only_known(self, content: Mapping[Any, Any], path: tuple[Any, ...], keys: Sequence[str]) -> None:
        for key in content:
            if key not in keys:
                self.wrong((*path, key), f"unknown key {key!r}; expected one of {', '.join(keys)}")

    def _plain_name(self, value: Any, path: tuple[Any, ...]) -> str:
        text = "" if value is None else str(value)
        if not text[:1].isalnum() or not all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
            self.wrong(path, f"{value!r} is no plain name; expected {_NAME}")
            return "x"
        return text

    def _folder(self, content: Mapping[str, Any]) -> Path:
        """~ is the home folder, as in a shell."""
        value = content.get("folder")
        if value is None:
            return Path(str(content.get("name", "x")))
        if str(value) and not isinstance(value, (list, dict)):
            try:
                return Path(str(value)).expanduser()
            except RuntimeError:  # ~somebody, whom this machine does not know
                pass
        self.wrong(("folder",), f"the folder is {value!r}; expected a path")
        return Path("x")

    def _whole(self, least: int) -> Callable[[Any, tuple[Any, ...]], int]:
        def read(value: Any, path: tuple[Any, ...]) -> int:
            if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**32:
                return value
            self.wrong(path, f"{value!r} is no whole number from {least}")
            return least

        return read

    def _number(self, content: Mapping[str, Any], key: str, otherwise: Any) -> Any:
        return self._whole(1)(content[key], (key,)) if content.get(key) is not None else otherwise

    def _list(
        self,
        content: Mapping[str, Any],
        key: str,
        otherwise: Sequence[Any],
        read: Callable[[Any, tuple[Any, ...]], Any],
        path: tuple[Any, ...] = (),
    ) -> tuple[Any, ...]:
        """A list, or a single value in place of a list of one; each entry once, none missing."""
        value = content.get(key, list(otherwise))
        values = value if isinstance(value, list) else [value]
        if not values:
            self.wrong((*path, key), f"'{key}' is empty")
        found = tuple(read(entry, (*path, key, index)) for index, entry in enumerate(values))
        if len(set(map(repr, values))) < len(values):
            self.wrong((*path, key), f"'{key}' names an entry twice")
        return found

    def _choices(
        self, content: Mapping[str, Any], key: str, table: Mapping[str, Any], otherwise: Sequence[str] = ()
    ) -> tuple[str, ...]:
        def read(value: Any, path: tuple[Any, ...]) -> str:
            if not isinstance(value, str) or value not in table:
                self.wrong(path, f"{key}: there is no {value!r}; expected one of {', '.join(table)}")
                return next(iter(table))
            return str(value)

        return self._list(content, key, otherwise, read) if key in content or otherwise else ()

    def _datasets(self, value: Any) -> dict[str, int]:
        if not isinstance(value, dict):
            self.wrong(("datasets",), "expected names and ids, as in {camus: 501}")
            return {}
        whole = self._whole(1)
        return {
            self._plain_name(name, ("datasets", name)): whole(number, ("datasets", name))
            for name, number in value.items()
        }

    def _dataset_lines(self, value: Any) -> dict[str, int]:
        return {str(name): self.lines.of(("datasets", name)) for name in value} if isinstance(value, dict) else {}

    def _scenarios(self, content: Mapping[str, Any]) -> tuple[Scenario, ...]:
        value = content.get("scenarios", [])
        if not isinstance(value, list) or ("scenarios" in content and not value):
            self.wrong(("scenarios",), "expected a list, as in - {from: camus, missing: [LA], fraction: [0.5]}")
            return ()
        names = content.get("datasets")
        found: dict[str, Scenario] = {}
        for index, entry in enumerate(value):
            for scenario in self._scenario(entry, ("scenarios", index), names if isinstance(names, dict) else {}):
                if scenario.name in found:
                    self.wrong(("scenarios", index), f"the scenario {scenario.name} stands twice")
                found[scenario.name] = scenario
        return tuple(found.values())

    def _scenario(self, entry: Any, path: tuple[Any, ...], datasets: Mapping[str, Any]) -> list[Scenario]:
        if not isinstance(entry, dict):
            self.wrong(path, "expected {from: ..., missing: [...], fraction: [...]}")
            return []
        self._only_known(entry, path, ("from", "missing", "fraction", "domain"))
        if str(entry.get("from")) not in map(str, datasets):
            self.wrong(
                (*path, "from"),
                f"'from' is {entry.get('from')!r}; expected one of {format_names(set(map(str, datasets)))}",
            )
        if "missing" not in entry:
            self.wrong(path, "'missing' is missing: which structures shall be hidden?")
        missing = self._list(entry, "missing", ("x",), self._plain_name, path)
        if RANDOM in missing and len(missing) > 1:
            self.wrong((*path, "missing"), f"'{RANDOM}' draws the structures by lot and stands alone")
        fractions = self._list(entry, "fraction", (1.0,), self._fraction, path)
        domain = self._plain_name(entry["domain"], (*path, "domain")) if "domain" in entry else None
        line = self.lines.of(path)
        return [Scenario(str(entry.get("from")), missing, fraction, domain, line) for fraction in fractions]

    def _fraction(self, value: Any, path: tuple[Any, ...]) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
            return float(value)
        self.wrong(path, f"a fraction is {value!r}; expected more than 0 and at most 1")
        return 1.0

    def _network(self, content: Mapping[str, Any]) -> Network | None:
        value = content.get("network")
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(("network",), "expected {features: [16, 32, 64, 64], patch: [96, 96], batch: 8}")
            return None
        self._only_known(value, ("network",), tuple(Network.__dataclass_fields__))
        whole, default = self._whole(1), Network()
        sizes = {
            key: tuple(whole(n, ("network", key)) for n in value[key])
            for key in ("features", "patch")
            if isinstance(value.get(key), list) and value[key]
        }
        for key in {"features", "patch"} & set(value) - set(sizes):
            self.wrong(("network", key), f"'{key}' is {value[key]!r}; expected a list of whole numbers")
        batch = whole(value["batch"], ("network", "batch")) if "batch" in value else default.batch
        return Network(sizes.get("features", default.features), sizes.get("patch", default.patch), batch)

    def _one_of(self, content: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
        """The first of the choices where the file says nothing."""
        value = content.get(key, choices[0])
        if value not in choices:
            self.wrong((key,), f"the {key} is {value!r}; expected {' or '.join(choices)}")
            return choices[0]
        return str(value)

    def _clashes(self, study: Study) -> None:
        if study.network is not None and study.device == "cpu" and study.gpus_per_training > 1:
            self.wrong(("gpus_per_training",), "several GPUs, but the device is cpu")
        axes = 2 if study.configuration == "2d" else 3
        if study.network is not None and len(study.network.patch) != axes:
            self.wrong(
                ("network", "patch"), f"a {study.configuration} patch has {axes} numbers, not {study.network.patch}"
            )
        three_d = [name for name in study.architectures if ARCHITECTURES[name].only_3d]
        if three_d and axes == 2:
            self.wrong(
                ("architectures",), f"{format_names(three_d)} needs a 3-D configuration, not {study.configuration}"
            )
        patch = study.network.patch if study.network is not None else ()
        for name in study.architectures:
            multiple = ARCHITECTURES[name].patch_multiple
            if any(size % multiple for size in patch):
                sides = " ".join(map(str, patch))
                self.wrong(("network", "patch"), f"{name}: the patch is {sides}; expected multiples of {multiple}")
