"""Names that want to lead elsewhere, or to look like others, never become a file outside the data set."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.raw_datasets import Drawn, snapshot, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.base import require_identifier
from nnunet_partial.dataset_conversion.folder import OwnFolder
from nnunet_partial.dataset_conversion.writer import convert

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import dataset_name, find_dataset
from nnunet_partial.errors import ConversionError, DatasetError

HOSTILE = {
    "up": "../escaped",
    "far up": "../" * 20 + "tmp/escaped",
    "absolute": "/tmp/nnunet_partial_escaped",
    "below": "sub/case",
    "backslash": "..\\escaped",
    "dots": "..",
    "hidden": ".hidden",
    "very long": "x" * 300,
    "line end": "case\n1",
    "zero byte": "case\x001",
    "terminal": "case\x1b[2J",
    "right to left": "case\u202e1",
    "Cyrillic a": "c\u0430se1",
    "full width": "\uff43ase1",
    "combining": "cafe\u0301",
    "no break": "case\u00a01",
    "option": "-rf",
    "shell": "$(touch escaped)",
    "pattern": "case*",
    "blank": " ",
    "none": "",
}  # fmt: skip
hostile = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())


@hostile
def test_a_case_cannot_be_called_so(name: str) -> None:
    with pytest.raises(ConversionError, match="cannot name a case"):
        require_identifier(name)


@hostile
def test_nor_a_data_set(name: str) -> None:
    if name == "-rf":
        assert dataset_name(501, name) == "Dataset501_-rf"  # behind its number no option any more
        return
    with pytest.raises(DatasetError, match=r"expected letters, digits, '_' and '-'"):
        dataset_name(501, name)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.text(max_size=130))
def test_a_name_that_is_taken_is_one_plain_file_name(name: str) -> None:
    with contextlib.suppress(ConversionError):
        taken = require_identifier(name)
        assert taken == name
        assert Path(taken).name == taken
        assert taken.isascii()
        assert taken.replace("_", "").replace("-", "").isalnum()
        assert len(taken) <= 120


def around(folder: Path, *ours: str) -> dict[str, tuple[int, bytes]]:
    """Every file below `folder` but those below one of `ours`."""
    return {path: file for path, file in snapshot(folder).items() if Path(path).parts[0] not in ours}


def test_a_table_full_of_them_writes_inside_the_data_set_alone(raw: Path, tmp_path: Path) -> None:
    """A row per name as case, as image, as mask and as patient; what cannot be converted is named."""
    source = tmp_path / "in"
    for sub in ("images", "masks"):
        (source / sub).mkdir(parents=True)
        for file in ("sound", *(f"p{number}" for number in range(len(HOSTILE)))):
            sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 4), np.uint8)), str(source / sub / f"{file}.png"))
    (tmp_path / "escaped").write_text("mine")
    rows = ["sound,sound.png,sound.png,LV,,x,p"]
    for number, name in enumerate(HOSTILE.values()):
        cell = '"' + name + '"'
        rows += [f"{cell},sound.png,sound.png,LV,,x,p", f"i{number},{cell},sound.png,LV,,x,p"]
        rows += [f"m{number},sound.png,{cell},LV,,x,p", f"p{number},p{number}.png,p{number}.png,LV,,x,{cell}"]
    (source / "cases.csv").write_bytes(
        "\n".join(["case,image,mask,annotated,absent,domain,patient", *rows, ""]).encode()
    )
    before = around(tmp_path, "raw", "preprocessed")

    report = convert(OwnFolder(source, ("LV",)), "Dataset501_Own")

    assert around(tmp_path, "raw", "preprocessed") == before
    assert [path.name for path in raw.iterdir()] == ["Dataset501_Own"]
    written = {path.name.removesuffix(".nii.gz") for path in (report.folder / "labelsTr").iterdir()}
    assert "sound" in written
    assert written - {"sound"} <= {f"p{number}" for number in range(len(HOSTILE))}  # a patient may be called anything
    assert len(written) + len(report.skipped) >= len(rows) - 1  # the rows without a name share one line
    assert check(report.folder).findings == {}


@hostile
def test_a_manifest_that_names_them_makes_no_file(name: str, raw: Path, tmp_path: Path) -> None:
    """Case names of a manifest are looked up, never opened: one that has no image is a finding, in a merge too."""
    sound = Drawn("a1", (1,), {"annotated": ["LV"], "patient": "a"})
    write_dataset(raw, "Dataset001_A", {"LV": 1}, [sound], groups=[{"match": name or "*", "annotated": ["LV"]}])
    manifest = raw / "Dataset001_A" / "partial_labels.json"
    content = json.loads(manifest.read_text())
    content["cases"][name] = {"annotated": ["LV"], "patient": name, "domain": name}
    manifest.write_text(json.dumps(content))
    write_dataset(raw, "Dataset002_B", {"LV": 1}, [Drawn("b1", (1,), {"annotated": ["LV"], "patient": "b"})])
    before = around(tmp_path)
    assert f"{name}: has an entry, but no image" in check(raw / "Dataset001_A").findings["partial_labels.json"]
    assert main(["merge", "-i", "1", "2", "-d", "3", "--name", "Both", "-np", "1"]) == 0
    assert around(raw, "Dataset003_Both") == {
        path.removeprefix("raw/"): file for path, file in before.items() if path.startswith("raw/")
    }


@pytest.mark.parametrize("name", ["Dataset001_A/../../elsewhere", "../Dataset001_A", "/Dataset001_A", "1; rm -rf x"])
def test_a_data_set_is_looked_up_below_the_raw_folder(name: str, raw: Path, tmp_path: Path) -> None:
    write_dataset(raw, "Dataset001_A", {"LV": 1}, [Drawn("a1", (1,), {"annotated": ["LV"]})])
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DatasetError, match=r"no dataset|dataset is"):
        find_dataset(name)
