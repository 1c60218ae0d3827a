"""Define a study and read it from study.yaml.

Holds what a study can compare (METHODS, ARCHITECTURES, CONFIGURATIONS, by the names that stand in study.yaml) and the
strict reader of the file: all mistakes are reported together, each with its line. The keys are documented in
docs/how-to/compare-losses.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nnunet_partial.dataset.plans import MIN_STAGES
from nnunet_partial.dataset_conversion.derived.scenario_plan import RANDOM
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.text import format_names


@dataclass(frozen=True)
class Method:
    """Describe a loss or baseline of a study.

    Attributes:
        trainer: Name of the nnU-Net trainer class.
        title: Name in tables and figures.
        complete_cases: Whether it trains on the complete cases only.
        mirrored: Whether nnU-Net mirrors along all axes.
        filled_by: Key of the method whose models fill its dataset with pseudo-labels; "" where none does.
        takes_regions: Whether it can learn structures that overlap.
    """

    trainer: str
    title: str
    complete_cases: bool = False
    mirrored: bool = True
    filled_by: str = ""
    takes_regions: bool = False


@dataclass(frozen=True)
class Architecture:
    """Describe a network of a study.

    Attributes:
        planner: nnU-Net's planner class.
        plans: Name of the plans that the planner writes.
        trainer_suffix: What is added to the trainer's name where the trainer builds the network itself.
        only_3d: Whether the network needs a 3-D configuration.
        patch_multiple: Each side of the patch must be a multiple of it, in voxels, whatever is planned.
    """

    planner: str
    plans: str
    trainer_suffix: str = ""
    only_3d: bool = False
    patch_multiple: int = 1


_METHODS: dict[str, Method] = {
    "naive": Method("nnUNetTrainerNaive", "naive (unlabeled = background)", takes_regions=True),
    "complete-cases": Method("nnUNetTrainerNaive", "complete cases only", complete_cases=True, takes_regions=True),
    "acce": Method("nnUNetTrainerACCE", "aCCE"),
    "acce-ignore": Method("nnUNetTrainerACCEIgnore", "aCCE, background ignored"),
    "abce": Method("nnUNetTrainerABCE", "aBCE", takes_regions=True),
    "marginal": Method("nnUNetTrainerMarginal", "marginal"),
    "acce-label-dropout": Method("nnUNetTrainerACCELabelDropout", "aCCE + label dropout"),
    "abce-label-dropout": Method("nnUNetTrainerABCELabelDropout", "aBCE + label dropout", takes_regions=True),
    "marginal-label-dropout": Method("nnUNetTrainerMarginalLabelDropout", "marginal + label dropout"),
    "abce-exclusive": Method("nnUNetTrainerABCEExclusive", "aBCE, exclusive"),
    "marginal-leaf-dice": Method("nnUNetTrainerMarginalLeafDice", "marginal + leaf-Dice"),
    "marginal-fill": Method("nnUNetTrainerMarginal", "marginal + pseudo-labels", filled_by="marginal"),
}

#: Endings of the keys, and what each adds to the name of the trainer and to the title.
_MIRRORING = {
    "": ("", ""),
    "-no-mirroring": ("NoMirroring", ", no mirroring"),
    "-only-mirror-01": ("_onlyMirror01", ", mirrored along axes 0 and 1"),
}

METHODS: dict[str, Method] = {
    key + ending: replace(
        method,
        trainer=method.trainer + suffix,
        title=method.title + words,
        mirrored=not ending,
        filled_by=method.filled_by and method.filled_by + ending,
    )
    for ending, (suffix, words) in _MIRRORING.items()
    for key, method in _METHODS.items()
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

#: The planner of each plans name.
PLANNERS: dict[str, str] = {architecture.plans: architecture.planner for architecture in ARCHITECTURES.values()}

#: nnU-Net's configurations, without the cascade, which needs another training before it.
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")

#: In place of the numbers of folds: a fold per domain, which is left out.
BY_DOMAIN = "by-domain"

#: A line number of the file (from 1), and what is wrong there.
Problem = tuple[int, str]


@dataclass(frozen=True)
class Scenario:
    """Describe a labeling scenario: which structures are hidden in which cases of a dataset.

    Attributes:
        source: Name of the dataset in study.yaml.
        missing: Names of the hidden structures.
        fraction: Fraction of the training patients whose labels are hidden, above 0 and at most 1.
        domain: The only domain where labels are hidden; None for all.
        line: Line in study.yaml, from 1.
    """

    source: str
    missing: tuple[str, ...]
    fraction: float = 1.0
    domain: str | None = None
    line: int = field(default=1, compare=False)

    @property
    def name(self) -> str:
        """Return the name of the scenario.

        Returns:
            Source, domain (if given), missing structures and percentage (below 100) joined by "-". For example,
            camus-without-LA-50: LA is hidden in half of the patients of `camus`.
        """
        parts = [self.source, *([self.domain] if self.domain else []), "without", *self.missing]
        return "-".join([*parts, *([f"{100 * self.fraction:g}".replace(".", "p")] if self.fraction < 1 else [])])


@dataclass(frozen=True)
class Network:
    """Size a smaller network than nnU-Net plans, for studies on CPUs; see nnunet_partial.dataset.plans.

    Attributes:
        features: Number of features of each stage.
        patch: Patch size in voxels.
        batch: Batch size.
    """

    features: tuple[int, ...] = (16, 32, 64, 64)
    patch: tuple[int, ...] = (96, 96)
    batch: int = 8


@dataclass(frozen=True)
class Study:
    """Describe a study as its file states it. Lists hold each entry once, in the order of the file.

    Attributes:
        name: Name of the study.
        datasets: nnU-Net's dataset id of each dataset, by its name in the study.
        scenarios: Labeling scenarios.
        losses: Keys of METHODS.
        seeds: Random seeds of the trainings.
        architectures: Keys of ARCHITECTURES.
        folds: Folds to train, from 0; empty where they go by domain.
        configuration: One of CONFIGURATIONS.
        epochs: Number of epochs of a training.
        iterations: Training iterations per epoch; None for nnU-Net's number.
        val_iterations: Validation iterations per epoch; None for nnU-Net's number.
        network: A smaller network than planned; None for the planned one.
        device: "cuda" or "cpu".
        gpus_per_training: Number of GPUs of a training.
        cpus_per_training: Number of CPU cores of a training or prediction; None for the default.
        folder: Absolute path of the folder of all output. In the file it is relative to the file, by default the name.
        by_domain: Whether each fold leaves a domain out, in the file `folds: by-domain`.
        dataset_lines: Line in study.yaml of each dataset, from 1.
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
    by_domain: bool = False
    dataset_lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, path: Path, check: Callable[[Study], list[Problem]] | None = None) -> Study:
        """Read a study from its file.

        Args:
            path: Path of study.yaml.
            check: Finds further problems, which the file alone does not show.

        Returns:
            The study.

        Raises:
            PartialLabelError: If the file cannot be read, or with all its mistakes, each as 'study.yaml, line 7: ...'.
        """
        content, lines = _read_yaml(path)
        reader = _Reader(lines)
        study = reader.study(content, path.resolve().parent)
        reader.problems += check(study) if check else []
        if reader.problems:
            listing = "\n".join(f"  {path.name}, line {line}: {text}" for line, text in sorted(reader.problems))
            raise PartialLabelError(f"{path} cannot be run; nothing was started.\n{listing}")
        return study


#: Keys and list positions that lead to an entry of the file, as in ("scenarios", 0, "missing").
_KeyPath = tuple[Any, ...]
_T = TypeVar("_T")

_KEYS = tuple(name for name in Study.__dataclass_fields__ if name not in ("by_domain", "dataset_lines"))
_NAME_RULE = "letters, digits, '_' and '-', beginning with a letter or digit"


@dataclass
class _Reader:
    """Read the parts of a study. Collect what is wrong, and go on with a stand-in value."""

    lines: _LineNumbers
    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, path: _KeyPath, text: str) -> None:
        self.problems.append((self.lines.line(path), text))

    def study(self, content: Any, home: Path) -> Study:
        if not isinstance(content, dict):
            self.add_problem((), "expected 'key: value' lines; see docs/how-to/compare-losses.md")
            content = {}
        self._check_keys(content, (), _KEYS)
        for key in ("name", "datasets", "scenarios", "losses"):
            if key not in content:
                self.add_problem((), f"'{key}' is missing")
        by_domain = content.get("folds") == BY_DOMAIN
        study = Study(
            name=self._plain_name(content.get("name", "x"), ("name",)),
            datasets=self._datasets(content.get("datasets", {})),
            scenarios=self._scenarios(content),
            losses=self._choices(content, "losses", METHODS),
            seeds=self._list(content, "seeds", (0,), self._integer(0)),
            architectures=self._choices(content, "architectures", ARCHITECTURES, ("plain",)),
            folds=() if by_domain else self._list(content, "folds", (0, 1, 2, 3, 4), self._integer(0)),
            configuration=self._one_of(content, "configuration", CONFIGURATIONS),
            epochs=self._count(content, "epochs", 250),
            iterations=self._count(content, "iterations", None),
            val_iterations=self._count(content, "val_iterations", None),
            network=self._network(content),
            device=self._one_of(content, "device", ("cuda", "cpu")),
            gpus_per_training=self._count(content, "gpus_per_training", 1),
            cpus_per_training=self._count(content, "cpus_per_training", None),
            folder=home / self._folder(content),
            by_domain=by_domain,
            dataset_lines=self._dataset_lines(content.get("datasets")),
        )
        self._check_combinations(study)
        return study

    def _check_keys(self, content: Mapping[Any, Any], path: _KeyPath, keys: Sequence[str]) -> None:
        for key in content:
            if key not in keys:
                self.add_problem((*path, key), f"unknown key {key!r}; expected one of {', '.join(keys)}")

    def _plain_name(self, value: Any, path: _KeyPath) -> str:
        value = _whole(value)
        text = str(value) if isinstance(value, (str, int, date)) and not isinstance(value, bool) else ""
        if not text[:1].isalnum() or not all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
            self.add_problem(path, f"invalid name {value!r}; expected {_NAME_RULE}")
            return "x"
        return text

    def _folder(self, content: Mapping[str, Any]) -> Path:
        """Read the folder. `~` is the home folder, as in a shell."""
        value = content.get("folder")
        if value is None:
            return Path(str(content.get("name", "x")))
        if str(value) and not isinstance(value, (list, dict)):
            try:
                return Path(str(value)).expanduser()
            except RuntimeError:  # ~name of a user who does not exist on this machine
                pass
        self.add_problem(("folder",), f"the folder is {value!r}; expected a path")
        return Path("x")

    def _integer(self, minimum: int) -> Callable[[Any, _KeyPath], int]:
        def read(value: Any, path: _KeyPath) -> int:
            whole = _whole(value)
            if isinstance(whole, int) and not isinstance(whole, bool) and minimum <= whole < 2**32:
                return whole
            self.add_problem(path, f"{value!r}: expected an integer >= {minimum}")
            return minimum

        return read

    def _count(self, content: Mapping[str, Any], key: str, default: Any) -> Any:
        return self._integer(1)(content[key], (key,)) if content.get(key) is not None else default

    def _list(
        self,
        content: Mapping[str, Any],
        key: str,
        default: Sequence[_T],
        read: Callable[[Any, _KeyPath], _T],
        path: _KeyPath = (),
    ) -> tuple[_T, ...]:
        """Read a list, or a single value in place of a list of one. It must not be empty or hold an entry twice."""
        value = content.get(key, list(default))
        values = value if isinstance(value, list) else [value]
        if not values:
            self.add_problem((*path, key), f"'{key}' is empty")
        entries = tuple(read(entry, (*path, key, index)) for index, entry in enumerate(values))
        if len({repr(_whole(value)) for value in values}) < len(values):
            self.add_problem((*path, key), f"duplicate entry in '{key}'")
        return entries

    def _choices(
        self, content: Mapping[str, Any], key: str, table: Mapping[str, Any], default: Sequence[str] = ()
    ) -> tuple[str, ...]:
        def read(value: Any, path: _KeyPath) -> str:
            if not isinstance(value, str) or value not in table:
                self.add_problem(path, f"{key}: there is no {value!r}; expected one of {', '.join(table)}")
                return next(iter(table))
            return str(value)

        return self._list(content, key, default, read) if key in content or default else ()

    def _datasets(self, value: Any) -> dict[str, int]:
        if not isinstance(value, dict):
            self.add_problem(("datasets",), "expected names and ids, as in {camus: 501}")
            return {}
        read_id, names = self._integer(1), dict[str, Any]()
        for name, number in value.items():
            other = names.setdefault(repr(_whole(number)), name)
            if other != name:  # its data would be made twice, in one folder
                self.add_problem(("datasets", name), f"{name} and {other} are one dataset; give it one name")
        return {
            self._plain_name(name, ("datasets", name)): read_id(number, ("datasets", name))
            for name, number in value.items()
        }

    def _dataset_lines(self, value: Any) -> dict[str, int]:
        return {str(name): self.lines.line(("datasets", name)) for name in value} if isinstance(value, dict) else {}

    def _scenarios(self, content: Mapping[str, Any]) -> tuple[Scenario, ...]:
        value = content.get("scenarios", [])
        if not isinstance(value, list) or ("scenarios" in content and not value):
            self.add_problem(("scenarios",), "expected a list, as in - {from: camus, missing: [LA], fraction: [0.5]}")
            return ()
        datasets = content.get("datasets")
        names = set(map(str, datasets)) if isinstance(datasets, dict) else set()
        scenarios: dict[str, Scenario] = {}
        for index, entry in enumerate(value):
            for scenario in self._scenario(entry, ("scenarios", index), names):
                if scenario.name in scenarios:
                    self.add_problem(("scenarios", index), f"duplicate scenario {scenario.name}")
                scenarios[scenario.name] = scenario
        return tuple(scenarios.values())

    def _scenario(self, entry: Any, path: _KeyPath, datasets: set[str]) -> list[Scenario]:
        """Read an entry of the list: one scenario for each of its fractions."""
        if not isinstance(entry, dict):
            self.add_problem(path, "expected {from: ..., missing: [...], fraction: [...]}")
            return []
        self._check_keys(entry, path, ("from", "missing", "fraction", "domain"))
        source = entry.get("from")
        if not isinstance(source, (str, int, date)) or isinstance(source, bool) or str(source) not in datasets:
            self.add_problem((*path, "from"), f"'from' is {source!r}; expected one of {format_names(datasets)}")
        if "missing" not in entry:
            self.add_problem(path, "'missing' is missing: which structures shall be hidden?")
        missing = self._list(entry, "missing", ("x",), self._plain_name, path)
        if RANDOM in missing and len(missing) > 1:
            self.add_problem((*path, "missing"), f"'{RANDOM}' selects the structures itself; expected it alone")
        fractions = self._list(entry, "fraction", (1.0,), self._fraction, path)
        domain = self._plain_name(entry["domain"], (*path, "domain")) if "domain" in entry else None
        line = self.lines.line(path)
        return [Scenario(str(source), missing, fraction, domain, line) for fraction in fractions]

    def _fraction(self, value: Any, path: _KeyPath) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
            return float(value)
        self.add_problem(path, f"a fraction is {value!r}; expected more than 0 and at most 1")
        return 1.0

    def _network(self, content: Mapping[str, Any]) -> Network | None:
        value = content.get("network")
        if value is None:
            return None
        if not isinstance(value, dict):
            self.add_problem(("network",), "expected {features: [16, 32, 64, 64], patch: [96, 96], batch: 8}")
            return None
        self._check_keys(value, ("network",), tuple(Network.__dataclass_fields__))
        read, default = self._integer(1), Network()
        sizes = {
            key: tuple(read(n, ("network", key)) for n in value[key])
            for key in ("features", "patch")
            if isinstance(value.get(key), list) and value[key]
        }
        for key in {"features", "patch"} & set(value) - set(sizes):
            self.add_problem(("network", key), f"'{key}' is {value[key]!r}; expected a list of integers")
        if len(sizes.get("features", default.features)) < MIN_STAGES:
            self.add_problem(("network", "features"), f"'features' needs a number for at least {MIN_STAGES} stages")
        batch = read(value["batch"], ("network", "batch")) if "batch" in value else default.batch
        return Network(sizes.get("features", default.features), sizes.get("patch", default.patch), batch)

    def _one_of(self, content: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
        """Read one of the choices; the first is the default."""
        value = content.get(key, choices[0])
        if value not in choices:
            self.add_problem((key,), f"the {key} is {value!r}; expected {' or '.join(choices)}")
            return choices[0]
        return str(value)

    def _check_combinations(self, study: Study) -> None:
        if study.device == "cpu" and study.gpus_per_training > 1:
            self.add_problem(("gpus_per_training",), "several GPUs, but the device is cpu")
        n_axes = 2 if study.configuration == "2d" else 3
        if study.network is not None and len(study.network.patch) != n_axes:
            self.add_problem(
                ("network", "patch"), f"a {study.configuration} patch has {n_axes} numbers, not {study.network.patch}"
            )
        three_d = [name for name in study.architectures if ARCHITECTURES[name].only_3d]
        if three_d and n_axes == 2:
            self.add_problem(
                ("architectures",), f"{format_names(three_d)} needs a 3-D configuration, not {study.configuration}"
            )
        for name in study.losses:
            if METHODS[name].filled_by not in ("", *study.losses):
                self.add_problem(
                    ("losses",),
                    f"{name} fills with the models of {METHODS[name].filled_by}; name that among the losses, too",
                )
        filled = [name for name in study.losses if METHODS[name].filled_by]
        if study.by_domain and filled:
            self.add_problem(
                ("losses",), f"{format_names(filled)} fills by patient; give the numbers of folds, not {BY_DOMAIN}"
            )
        own_trainers = [name for name in study.architectures if ARCHITECTURES[name].trainer_suffix]
        not_mirrored = [name for name in study.losses if not METHODS[name].mirrored]
        if own_trainers and not_mirrored:
            self.add_problem(
                ("losses",), f"{format_names(not_mirrored)} trains U-Nets only, not {format_names(own_trainers)}"
            )
        patch = study.network.patch if study.network is not None else ()
        for name in study.architectures:
            multiple = ARCHITECTURES[name].patch_multiple
            if any(size % multiple for size in patch):
                sides = " ".join(map(str, patch))
                self.add_problem(
                    ("network", "patch"), f"{name}: the patch is {sides}; expected multiples of {multiple}"
                )


def _whole(value: Any) -> Any:
    """Return 5 for 5.0, which JSON and the schema of the file do not tell apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# YAML with line numbers: only plain data, and no key twice in a mapping


@dataclass
class _LineNumbers:
    """Find the line (from 1) of each entry of a YAML file."""

    by_path: dict[_KeyPath, int] = field(default_factory=dict)

    def line(self, path: _KeyPath) -> int:
        """Return the line of the entry, or of the nearest one above it that is in the file."""
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path, 1)


def _read_yaml(path: Path) -> tuple[Any, _LineNumbers]:
    """Read numbers, text, lists and mappings from a YAML file; raise PartialLabelError for anything else."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)
        lines = _LineNumbers()
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


def _value(node: yaml.Node | None, path: _KeyPath, lines: _LineNumbers, file: Path) -> Any:
    if node is None:
        return None
    lines.by_path[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, file)
    if isinstance(node, yaml.SequenceNode):
        return [_value(entry, (*path, index), lines, file) for index, entry in enumerate(node.value)]
    return _scalar(node, file)


def _mapping(node: yaml.MappingNode, path: _KeyPath, lines: _LineNumbers, file: Path) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key, line = _scalar(key_node, file), key_node.start_mark.line + 1
        if key in mapping:
            raise PartialLabelError(f"{file.name}, line {line}: duplicate key {key!r}. Remove one of them.")
        entry_path = (*path, key)
        mapping[key] = _value(value_node, entry_path, lines, file)
        lines.by_path[entry_path] = line
    return mapping


def _scalar(node: yaml.Node, file: Path) -> Any:
    """Read plain data; refuse a list as a key, and a tag that asks for a Python object."""
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
