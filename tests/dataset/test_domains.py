"""`balance` sets the sampling weights of a dataset in both of its manifests, or in none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.facts import says
from helpers.raw_datasets import Drawn, write_dataset

from nnunet_partial.cli import main
from nnunet_partial.dataset.domains import domain_probabilities, parse_weights
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest

NAME = "Dataset520_Sites"
CASES = [*(f"camus_{n}" for n in range(1)), *(f"echonet_{n}" for n in range(4))]


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The manifests of a dataset of 1 camus and 4 echonet cases, and a test case: raw, preprocessed."""
    for variable in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    entries = [Drawn(case, [1], {"annotated": ["LV"], "domain": case.partition("_")[0]}) for case in CASES]
    test = Drawn("ted_0", [1], {"annotated": ["LV"], "domain": "ted"}, "Ts")
    raw = write_dataset(tmp_path / "raw", NAME, {"LV": 1}, [*entries, test]).folder
    (tmp_path / "preprocessed" / NAME).mkdir(parents=True)
    shutil.copy(raw / MANIFEST_NAME, tmp_path / "preprocessed" / NAME / MANIFEST_NAME)
    return [raw / MANIFEST_NAME, tmp_path / "preprocessed" / NAME / MANIFEST_NAME]


def weights(file: Path) -> object:
    return json.loads(file.read_text()).get("domain_weights")


def test_both_manifests_get_the_weights_and_lose_them(
    manifests: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [Manifest.read(file) for file in manifests]
    assert main(["balance", "-d", "520"]) == 0
    # square roots of 1 and 4 are 1 and 2, a third and two thirds
    assert [weights(file) for file in manifests] == [{"camus": 0.333333, "echonet": 0.666667}] * 2
    said = capsys.readouterr().out
    assert [file for file in manifests if str(file) not in said] == []
    assert main(["balance", "-d", NAME, "--weights", "camus=2", "echonet=1"]) == 0
    assert [weights(file) for file in manifests] == [{"camus": 2.0, "echonet": 1.0}] * 2
    sampled = domain_probabilities(Manifest.read(manifests[1]), CASES)
    assert sampled == {"camus": pytest.approx(2 / 3), "echonet": pytest.approx(1 / 3)}
    assert capsys.readouterr().out.splitlines()[2].split() == ["camus", "1", "2", "0.667"]
    assert main(["balance", "-d", "520", "--off"]) == 0
    assert [Manifest.read(file) for file in manifests] == before
    assert capsys.readouterr().out.splitlines()[2].split() == ["camus", "1", "-", "0.200"]  # one case of five


def test_without_a_preprocessed_manifest_the_raw_one_is_set_alone(manifests: list[Path]) -> None:
    manifests[1].unlink()
    assert main(["balance", "-d", "520"]) == 0
    assert weights(manifests[0]) is not None
    assert not manifests[1].exists()


@pytest.mark.parametrize(
    ("typed", "fact"),
    [
        (["camus=2"], "echonet"),  # a domain without a weight
        (["camus=2", "echonet=1", "unity=1"], "unity"),  # a weight without a domain
        (["camus=2", "echonet=0"], "echonet=0"),
        (["camus=2", "echonet=inf"], "echonet=inf"),
        (["camus=2", "echonet"], "echonet"),
        (["camus=2", "camus=1", "echonet=1"], "camus"),
    ],
)
def test_wrong_weights_change_nothing(
    manifests: list[Path], typed: list[str], fact: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [file.read_bytes() for file in manifests]
    assert main(["balance", "-d", "520", "--weights", *typed]) == 1
    assert capsys.readouterr().err == says(fact)
    assert [file.read_bytes() for file in manifests] == before


def test_manifests_that_differ_in_more_are_left_alone(
    manifests: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(manifests[0].read_text())
    content["cases"]["camus_0"]["annotated"] = []
    manifests[0].write_text(json.dumps(content))
    before = [file.read_bytes() for file in manifests]
    assert main(["balance", "-d", "520"]) == 1
    assert "nnunet_partial check -d 520 --update-preprocessed" in capsys.readouterr().err
    assert [file.read_bytes() for file in manifests] == before


def test_one_domain_cannot_be_balanced(manifests: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    raw = manifests[0].parent
    for case in CASES[1:]:
        (raw / "imagesTr" / f"{case}_0000.nii.gz").unlink()
    assert main(["balance", "-d", "520"]) == 1
    assert capsys.readouterr().err == says("camus", NAME)
    assert weights(manifests[0]) is None


def test_a_domain_may_hold_an_equals_sign() -> None:
    assert parse_weights(["a=b=2", "=1"]) == {"a=b": 2.0, "": 1.0}
    with pytest.raises(ManifestError, match="nan"):
        parse_weights(["a=nan"])
