"""A data set of two domains, small enough to know every number: each row of a picture holds one structure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.raw_datasets import Drawn, label_array, write_dataset, write_image

CLASSES = {"LV": 1, "MYO": 2, "LA": 3}
KNOWS_ALL = {"annotated": ["LV", "MYO", "LA"], "domain": "camus"}
KNOWS_LV = {"annotated": ["LV"], "absent": ["LA"], "domain": "echonet", "spacing_known": False}

#: Rows of a picture of 8 rows x 6 columns, by case: what is there.
TRUTH = {
    "a_p1_ED": [1, 1, 2, 3],
    "a_p1_ES": [1, 2, 3],
    "a_p2_ED": [1, 1, 2, 3],
    "b_p3_ED": [1, 1],
    "b_p4_ED": [1, 1],
}
#: What a model predicts that finds everything, also the MYO that nobody drew in domain b.
GOOD = {**TRUTH, "b_p3_ED": [1, 1, 2], "b_p4_ED": [1, 1, 2]}
#: One that takes MYO for LV in domain a; in b it gives MYO the background, and sees an LA known not to be there.
POOR = {
    "a_p1_ED": [1, 1, 1, 3],
    "a_p1_ES": [1, 1, 3],
    "a_p2_ED": [1, 1, 1, 3],
    "b_p3_ED": [1, 0, 2, 2, 2, 2, 2, 2],
    "b_p4_ED": [1, 1, 3, 2, 2, 2, 2, 2],
}


@dataclass
class Place:
    """Folders of the tests: the raw data set, and where predictions go."""

    root: Path
    dataset: Path

    def predict(self, name: str, rows: Mapping[str, Sequence[float]]) -> Path:
        """Writes predictions of 8 x 6 pixels of 0.5 mm, as the data set has them."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for case, values in rows.items():
            write_image(folder / f"{case}.nii.gz", label_array(Drawn(case, values)), 0.5)
        (folder / "dataset.json").write_text("{}")  # nnU-Net leaves such files beside its predictions
        return folder

    @property
    def out(self) -> Path:
        return self.root / "results"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    raw = tmp_path / "raw"
    monkeypatch.setenv("nnUNet_raw", str(raw))
    cases = []
    for name, rows in TRUTH.items():
        entry = {**(KNOWS_ALL if name.startswith("a") else KNOWS_LV), "patient": name[:4], "phase": name[-2:]}
        cases.append(Drawn(name, rows, entry, part="Ts"))
    dataset = write_dataset(raw, "Dataset510_Echo", CLASSES, cases)
    return Place(tmp_path, dataset.folder)


def change_manifest(dataset: Path, case: str, **changes: object) -> None:
    """Changes the entry of one case in partial_labels.json."""
    file = dataset / "partial_labels.json"
    content = json.loads(file.read_text())
    content["cases"][case].update(changes)
    file.write_text(json.dumps(content))
