"""Give the structures of a derived dataset their label values: one value each, or the values that regions are made of.

A stored value is known by the structures that hold it, whatever its number: "the epicardium without the ventricle" may
be 2 in one dataset and 1 in another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nnunet_partial.dataset_json import region_values
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import common_order

from ..staging import dataset_json_labels

#: How one structure lies to another, and how the other lies to it.
_INSIDE, _AROUND, _APART, _CROSSING = "lies inside", "holds", "is apart from", "partly overlaps"
_INVERSE = {_INSIDE: _AROUND, _AROUND: _INSIDE, _APART: _APART, _CROSSING: _CROSSING}

#: The values of each structure, by the name of the structure, in the order of the network's outputs.
StoredValues = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class LabelValues:
    """Describe which values a dataset stores.

    Attributes:
        classes: Names of the classes or regions in the order of the network's outputs.
        holders: Names of the structures that hold each of the values 1, 2, ...
        has_regions: Whether the structures are regions, which may share values.
    """

    classes: tuple[str, ...]
    holders: tuple[frozenset[str], ...]
    has_regions: bool

    @property
    def ignore(self) -> int:
        """Return the value that nnU-Net's ignore label has, if there is one: the highest."""
        return len(self.holders) + 1

    def value_of(self, names: Iterable[str]) -> int:
        """Return the value that exactly these structures hold; 0 for none of them."""
        held_by = frozenset(names)
        return self.holders.index(held_by) + 1 if held_by else 0

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Return the values of each structure."""
        return {
            name: tuple(value for value, names in enumerate(self.holders, start=1) if name in names)
            for name in self.classes
        }

    @cached_property
    def relations(self) -> dict[tuple[str, str], str]:
        """Return how the structures lie to each other, as `relations_of` gives it."""
        return relations_of([self.values])

    def uncertain(self, holders: Mapping[int, Collection[str]], known: Collection[str]) -> list[int]:
        """Find the values of voxels that may lie in a structure that is unknown in a case.

        A voxel lies in an unknown structure if it lies in a known one inside that; it does not if it lies in a known
        one apart from that, or outside a known one around it.

        Args:
            holders: Names of the structures that hold each value; of none, for the background.
            known: Names of the structures that are known in the case.

        Returns:
            The values; empty where every structure is known.
        """
        return [value for value, names in holders.items() if not self._is_certain({*names} & {*known}, {*known})]

    def _is_certain(self, inside: set[str], known: set[str]) -> bool:
        """Tell whether it follows from the known structures around a voxel how it lies to each other one."""
        outside = known.intersection(self.classes) - inside
        return all(
            any(self.relations[around, name] in (_INSIDE, _APART) for around in inside if around in self.classes)
            or any(self.relations[name, other] == _INSIDE for other in outside)
            for name in self.classes
            if name not in known
        )

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Return the values of each region in the order of `classes`; empty where there are classes."""
        return tuple(self.values.values()) if self.has_regions else ()

    @property
    def regions_class_order(self) -> list[int] | None:
        """Return the value that a prediction stores for each region, later ones on top; None where there are classes.

        A region gets the value that it alone holds or, inside others, holds as the last of them.
        """
        if not self.has_regions:
            return None
        last = {max(names, key=self.classes.index): value for value, names in enumerate(self.holders, start=1)}
        return [last.get(name, values[0]) for name, values in self.values.items()]


def holders_of(values: StoredValues) -> dict[int, frozenset[str]]:
    """Find the structures that hold each value.

    Args:
        values: Values of each structure.

    Returns:
        Names by value, in the order of the values; empty without structures.
    """
    used = sorted({value for stored in values.values() for value in stored})
    return {value: frozenset(name for name, stored in values.items() if value in stored) for value in used}


def joined_values(datasets: Mapping[str, StoredValues], with_regions: bool) -> LabelValues:
    """Give the structures of several datasets their values in one that has all of them.

    Args:
        datasets: Values of each structure, by the name of the dataset.
        with_regions: Whether one of the datasets has regions.

    Returns:
        The values of the joined dataset.

    Raises:
        DatasetError: A region means different things in two of them, nothing says how two structures lie to each
            other, or nnU-Net could not store a prediction of all of them.
    """
    names = common_order(name for values in datasets.values() for name in values)
    if not with_regions:
        return LabelValues(names, tuple(frozenset({name}) for name in names), has_regions=False)
    relations = _joined_relations(datasets, names)
    holders: dict[frozenset[str], None] = {}
    for values in datasets.values():
        for held_by in holders_of(values).values():
            holders[extended(held_by, relations)] = None
    joined = LabelValues(_joined_order(datasets, names), tuple(holders), has_regions=True)
    for name, values in datasets.items():
        changed = _differences(values, joined.values)
        if changed:
            raise DatasetError(f"{name} says that {changed[0]}; the other datasets together say otherwise. {_WAY_OUT}")
    _require_storable(joined)
    return joined


def selected_values(values: StoredValues, without: Collection[str], has_regions: bool) -> LabelValues:
    """Give the structures of a dataset their values in one that lacks some of them.

    Args:
        values: Values of each structure.
        without: Names of those that are left out.
        has_regions: Whether the structures are regions.

    Returns:
        The values of the others.
    """
    classes = tuple(name for name in values if name not in without)
    holders = [names.difference(without) for names in holders_of(values).values()]
    return LabelValues(classes, tuple(dict.fromkeys(filter(None, holders))), has_regions)


_WAY_OUT = "A name must mean the same everywhere: give one of them another name with --rename"


def extended(held_by: Iterable[str], relations: Mapping[tuple[str, str], str]) -> frozenset[str]:
    """Add the structures around those that hold a value, which hold it, too."""
    around = {outer for (inner, outer), relation in relations.items() if relation == _INSIDE and inner in {*held_by}}
    return frozenset({*held_by, *around})


def relations_of(datasets: Iterable[StoredValues]) -> dict[tuple[str, str], str]:
    """Find how structures lie to each other, each pair in the first dataset that has both.

    Args:
        datasets: Values of each structure, for each dataset.

    Returns:
        What the first of a pair does to the second; both orders of a pair are there, or neither.
    """
    relations: dict[tuple[str, str], str] = {}
    for values in datasets:
        for first, own in values.items():
            for second, others in values.items():
                if first != second:
                    relations.setdefault((first, second), _relation({*own}, {*others}))
    return relations


def _relation(own: set[int], others: set[int]) -> str:
    """Say how the structure with values `own` lies to that with values `others`."""
    if not own & others:
        return _APART
    return _INSIDE if own < others else _AROUND if own > others else _CROSSING


def _joined_relations(datasets: Mapping[str, StoredValues], names: Sequence[str]) -> dict[tuple[str, str], str]:
    """Find how all structures lie to each other. Raises DatasetError where datasets differ or none says."""
    relations: dict[tuple[str, str], str] = {}
    for name, values in datasets.items():
        for pair, relation in relations_of([values]).items():
            before = relations.setdefault(pair, relation)
            if before != relation:
                other = next(n for n, v in datasets.items() if relations_of([v]).get(pair) == before)
                raise DatasetError(f"{pair[0]} {before} {pair[1]} in {other}, but {relation} it in {name}. {_WAY_OUT}")
    _add_consequences(relations, names)
    unknown = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if (a, b) not in relations]
    if unknown:
        first, second = unknown[0]
        which = next(name for name, values in datasets.items() if first in values)
        raise DatasetError(
            f"no dataset has both {' and '.join(unknown[0])}"
            + (f" (nor {len(unknown) - 1} other pair(s))" if unknown[1:] else "")
            + f", so nothing says whether one lies inside the other. Add {second} to 'labels' (and "
            f"'regions_class_order') of dataset.json of {which}, with a value of its own if the two do not overlap; "
            "its cases need not be annotated for it"
        )
    return relations


def _add_consequences(relations: dict[tuple[str, str], str], names: Sequence[str]) -> None:
    """Add what follows: inside what is inside; apart from what is apart from the structure around."""
    known = -1
    while known < len(relations):
        known = len(relations)
        for inner, outer in [pair for pair, relation in relations.items() if relation == _INSIDE]:
            for other in names:
                relation = relations.get((outer, other))
                if other != inner and relation in (_INSIDE, _APART):
                    relations.setdefault((inner, other), relation)
                    relations.setdefault((other, inner), _INVERSE[relation])


def _joined_order(datasets: Mapping[str, StoredValues], names: Sequence[str]) -> tuple[str, ...]:
    """Order regions so that those that overlap stand as in the datasets. Raises DatasetError where these differ."""
    before: dict[str, set[str]] = {name: set() for name in names}
    for values in datasets.values():
        for index, name in enumerate(values):
            before[name] |= {earlier for earlier in [*values][:index] if {*values[earlier]} & {*values[name]}}
    ordered: list[str] = []
    while len(ordered) < len(names):
        free = [name for name in names if name not in ordered and before[name] <= {*ordered}]
        if not free:
            circle = [name for name in names if name not in ordered]
            raise DatasetError(
                f"{', '.join(circle)} overlap and stand in another order in {' and '.join(datasets)}. Give them one "
                "order under 'labels' and in 'regions_class_order' of dataset.json"
            )
        ordered.append(free[0])
    return tuple(ordered)


def _differences(values: StoredValues, joined: StoredValues) -> list[str]:
    """Find pairs of structures of a dataset that lie otherwise in the joined one."""
    there = relations_of([joined])
    return [
        f"{first} {relation} {second}"
        for (first, second), relation in relations_of([values]).items()
        if there[first, second] != relation
    ]


def _require_storable(labels: LabelValues) -> None:
    """Raise DatasetError where a prediction of overlapping regions could not be stored."""
    region_values({"labels": dataset_json_labels(labels.values), "regions_class_order": labels.regions_class_order})


def same_holders(values: StoredValues) -> Iterator[tuple[int, ...]]:
    """Find values that the same structures hold, so that nothing tells them apart.

    Args:
        values: Values of each structure.

    Yields:
        The values of each such group, two or more.
    """
    groups: dict[frozenset[str], list[int]] = {}
    for value, names in holders_of(values).items():
        groups.setdefault(names, []).append(value)
    yield from (tuple(group) for group in groups.values() if len(group) > 1)
