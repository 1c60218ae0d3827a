"""From clips to images for nnU-Net: pixels, sizes and times are those of the clip, and nobody is named."""

from __future__ import annotations

import errno
import gzip
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.clip_models import write_model, write_nifti
from helpers.dicom_files import IDENTITY, region, write_dicom
from helpers.facts import says
from helpers.source_datasets import write_video
from numpy.typing import NDArray
from pydicom import examples, uid

from nnunet_partial.cli import main
from nnunet_partial.clips import frames as module
from nnunet_partial.clips.beats import find_beats
from nnunet_partial.clips.frames import FramesResult, Options, plan_frames, write_frames
from nnunet_partial.clips.images import read_format
from nnunet_partial.clips.records import read_clips_json
from nnunet_partial.errors import ConversionError, DatasetError

pytestmark = pytest.mark.usefixtures("here")

#: A clip of 3 frames of 8 x 12, of which rows 2 to 7 and columns 4 to 9 are the image, with pixels of 0.5 x 0.4 mm.
FRAMES = np.arange(3 * 8 * 12, dtype=np.uint8).reshape(3, 8, 12)
TISSUE = region((2, 7), (4, 9), (0.05, 0.04))
INSIDE = FRAMES[:, 2:8, 4:10]
HASH, KEEP = Options(), Options(keep_names=True)


def dicom(path: Path, patient: str = "ID4711", clip: str = "1.2.3.4711", **elements: Any) -> Path:
    return write_dicom(path, FRAMES, [TISSUE], PatientID=patient, SOPInstanceUID=clip, **elements)


def written(folder: Path, case: str, ending: str = ".nii.gz") -> tuple[NDArray[Any], tuple[float, ...]]:
    """Pixels and spacing in the order of the axes."""
    image = sitk.ReadImage(str(folder / f"{case}_0000{ending}"))
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def run(tmp_path: Path, model: Path, options: Options = HASH, **more: Any) -> FramesResult:
    return frames_of(tmp_path / "clips", tmp_path / "in", model, options, **more)


def frames_of(source: Path, folder: Path, model: Path, options: Options = HASH, **more: Any) -> FramesResult:
    return write_frames(plan_frames(source, folder, model, options), folder, **more)


# ---- what is written -------------------------------------------------------------------------------------------------


def test_a_clip_is_a_volume_whose_slices_are_its_frames(tmp_path: Path, model: Path) -> None:
    dicom(tmp_path / "clips" / "a.dcm", FrameTimeVector=[0, 30, 35])
    (name,) = run(tmp_path, model).clips
    clip = read_clips_json(tmp_path / "in")[name]
    pixels, spacing = written(tmp_path / "in", name)
    assert np.array_equal(pixels, INSIDE)
    assert spacing == pytest.approx((10 * 0.5, 0.5, 0.4))  # ten times the larger: nnU-Net resamples slice by slice
    assert (clip.cases, clip.layout, clip.frames, clip.source) == ((name,), "volume", 3, "DICOM")
    assert clip.frame_times_s == pytest.approx((0, 0.030, 0.065))
    assert clip.frame_times_from == "FrameTimeVector"
    assert (clip.spacing_mm, clip.spacing_from) == (pytest.approx((0.5, 0.4)), "SequenceOfUltrasoundRegions")
    assert (clip.patient, clip.view, clip.flags) == (name.partition("_")[0], None, ())


@pytest.mark.parametrize(("pause", "gap"), [(160, True), (65, False)])
def test_a_long_time_without_a_frame_is_flagged_once(tmp_path: Path, model: Path, pause: int, gap: bool) -> None:
    """When beats are found, not when frames are written."""
    write_dicom(
        tmp_path / "clips" / "a", np.repeat(FRAMES, 2, axis=0), [TISSUE], FrameTimeVector=[0, 20, pause, *[20] * 3]
    )
    (clip,) = run(tmp_path, model).clips.values()
    assert clip.flags == ()
    assert any("0.16 s" in flag for flag in find_beats(np.arange(6), clip.frame_times_s).flags) == gap


@pytest.mark.parametrize("elements", [{"FrameTime": 0, "CineRate": 50}, {"FrameTime": 20, "CineRate": 0}])
def test_zero_is_no_frame_time(tmp_path: Path, model: Path, elements: dict[str, int]) -> None:
    dicom(tmp_path / "clips" / "a", HeartRate=0, **elements)
    (clip,) = run(tmp_path, model).clips.values()
    assert clip.frame_times_s == pytest.approx((0, 0.02, 0.04))
    assert clip.frame_times_from == ("CineRate" if elements["CineRate"] else "FrameTime")


def test_compressed_colors_become_gray(tmp_path: Path, model: Path) -> None:
    colors = np.repeat(FRAMES[..., None], 3, axis=-1)
    write_dicom(tmp_path / "clips" / "a.dcm", colors, [TISSUE], kind="RGB", syntax=uid.RLELossless)
    (name,) = run(tmp_path, model).clips
    assert np.array_equal(written(tmp_path / "in", name)[0], INSIDE)


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(1, [1]), (256, [256]), (257, [129, 128]), (300, [150, 150]), (512, [256, 256]), (513, [171, 171, 171])],
)
def test_long_clips_are_cut_into_equal_parts(tmp_path: Path, model: Path, count: int, lengths: list[int]) -> None:
    """At most 256 frames are allowed, and nnU-Net normalizes each part by itself."""
    frames = np.repeat(np.arange(count, dtype=np.uint16)[:, None, None] % 251, 4, axis=1).repeat(5, axis=2).astype("u1")
    write_nifti(tmp_path / "clips" / "a.nii", frames, (0.3, 0.4))
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert clip.cases == (("a",) if len(lengths) == 1 else tuple(f"a_part{n:02d}" for n in range(len(lengths))))
    parts = [written(tmp_path / "in", case)[0] for case in clip.cases]
    assert [len(part) for part in parts] == lengths
    assert np.array_equal(np.concatenate(parts), frames)


def test_large_frames_make_shorter_parts(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_PIXELS", 2 * FRAMES[0].size)
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (0.3, 0.4))
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert [len(written(tmp_path / "in", case)[0]) for case in clip.cases] == [2, 1]


def test_a_file_per_frame(tmp_path: Path, model: Path) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (0.3, 0.4))
    (clip,) = run(tmp_path, model, Options(per_frame=True, keep_names=True)).clips.values()
    assert (clip.layout, clip.cases) == ("frames", ("a_frame0000", "a_frame0001", "a_frame0002"))
    for case, frame in zip(clip.cases, FRAMES, strict=True):
        pixels, spacing = written(tmp_path / "in", case)
        assert np.array_equal(pixels, frame)
        assert spacing == pytest.approx((0.4, 0.3))


@pytest.mark.parametrize(("reader", "ending"), [("NaturalImage2DIO", ".png"), ("SimpleITKIO", ".mha")])
def test_files_are_those_of_the_model(tmp_path: Path, reader: str, ending: str) -> None:
    """PNG holds no volume."""
    model = write_model(tmp_path / "m", plans={"image_reader_writer": reader}, file_ending=ending)
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (0.3, 0.4))
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert clip.layout == ("frames" if ending == ".png" else "volume")
    frames = [written(tmp_path / "in", case, ending)[0].reshape(-1, 8, 12) for case in clip.cases]
    assert np.array_equal(np.concatenate(frames), FRAMES)
    assert clip.spacing_mm == pytest.approx((0.4, 0.3))


@pytest.mark.parametrize("slope", [0.01, -1.0, 100.0])
def test_gray_values_that_png_cannot_hold_cost_that_clip_alone(tmp_path: Path, slope: float) -> None:
    model = write_model(tmp_path / "m", plans={"image_reader_writer": "NaturalImage2DIO"}, file_ending=".png")
    for name in "ab":
        path = write_nifti(tmp_path / "clips" / f"{name}.nii", FRAMES, (0.3, 0.4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 112, slope)
    path.write_bytes(content)
    result = run(tmp_path, model, KEEP)
    assert list(result.clips) == ["a"]
    assert [(one.case, one.reason) for one in result.skipped] == [("b.nii", says("gray values", ".png"))]
    assert len(list((tmp_path / "in").glob("*.png"))) == 3


def test_a_reader_of_volumes_gets_single_frames_as_volumes(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", plans={"image_reader_writer": "NibabelIO"})
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (0.3, 0.4))
    run(tmp_path, model, Options(per_frame=True, keep_names=True))
    assert np.array_equal(written(tmp_path / "in", "a_frame0001")[0], FRAMES[1:2])


def test_videos_have_the_depth_that_the_model_assumes(tmp_path: Path) -> None:
    """32 rows of a depth of 96 mm: 3 mm each."""
    model = write_model(tmp_path / "m", nominal_depth_mm=96)
    write_video(tmp_path / "clips" / "a.avi", 4)
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    pixels, spacing = written(tmp_path / "in", "a")
    assert [int(frame[0, 0]) for frame in pixels] == [0, 10, 20, 30]
    assert spacing == pytest.approx((30, 3, 3))
    assert (clip.spacing_mm, clip.spacing_from) == ((3.0, 3.0), "nominal depth")
    assert clip.frame_times_s == pytest.approx((0, 0.02, 0.04, 0.06))
    assert (clip.frame_times_from, clip.source) == ("container", "video")


@pytest.mark.parametrize(("depth", "expected"), [(None, 150 / 32), (64.0, 2.0)])
def test_other_depths(tmp_path: Path, model: Path, depth: float | None, expected: float) -> None:
    write_video(tmp_path / "clips" / "a.mp4", 2, codec="mpeg4")
    (clip,) = run(tmp_path, model, Options(keep_names=True, depth_mm=depth)).clips.values()
    assert clip.spacing_mm == (expected, expected)


def test_sound_and_uneven_times_do_no_harm(tmp_path: Path, model: Path) -> None:
    """The first stream is sound; the frames come after 20, 27, 13, 20 and 50 ms."""
    (tmp_path / "clips").mkdir()
    times_ms = [0, 20, 47, 60, 80, 130]
    with av.open(str(tmp_path / "clips" / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        stream = container.add_stream("mpeg4", rate=50, width=32, height=32, pix_fmt="yuv420p")
        stream.codec_context.time_base = Fraction(1, 1000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        container.mux(sound.encode(silence))
        for time in times_ms:
            frame = av.VideoFrame.from_ndarray(np.full((48, 32), 128, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        container.mux(sound.encode())
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert clip.frame_times_s == pytest.approx([time / 1000 for time in times_ms])
    assert clip.flags == ()


def test_pixels_of_a_video_need_not_be_square(tmp_path: Path, model: Path) -> None:
    """32 rows of a depth of 96 mm: 3 mm each, and twice as wide as the container says."""
    write_video(tmp_path / "clips" / "a.mp4", 2, codec="mpeg4", aspect=2)
    (clip,) = run(tmp_path, model, Options(keep_names=True, depth_mm=96)).clips.values()
    assert clip.spacing_mm == (3.0, 6.0)


@pytest.mark.parametrize(
    ("step", "units", "axis", "expected"),
    [
        (0.02, 10, 4, 0.02),
        (20, 18, 4, 0.02),
        (20_000, 26, 4, 0.02),
        (1.0, 10, 4, None),
        (0.02, 2, 4, None),
        (0.02, 10, 3, None),
    ],
)
def test_times_of_nifti(
    tmp_path: Path, model: Path, step: float, units: int, axis: int, expected: float | None
) -> None:
    """Units: 8 s, 16 ms, 24 microseconds, beside 2 for mm. ITK writes a step of 1 s where it knows nothing."""
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (0.3, 0.4), step, units, axis)
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert clip.frame_times_s == (None if expected is None else pytest.approx((0, expected, 2 * expected)))
    assert clip.frame_times_from == (None if expected is None else "header")
    assert (clip.spacing_mm, clip.spacing_from) == (pytest.approx((0.4, 0.3)), "header")
    assert np.array_equal(written(tmp_path / "in", "a")[0], FRAMES)


@pytest.mark.parametrize(
    ("spacing", "units", "expected"),
    [
        ((0.3, 0.4), 0, (0.4, 0.3)),  # unknown: what most programs write where they mean mm
        ((0.0003, 0.0004), 1, (0.4, 0.3)),  # m
        ((300, 400), 3, (0.4, 0.3)),  # micrometers
        ((1, 1), 2, None),  # the default, also where nothing is known
        ((1, 1), 1, None),
        ((1, 0.9), 2, (0.9, 1)),
        ((300, 400), 2, None),  # an image of 3.2 m
        ((0.3, 0), 2, None),
        ((0.3, float("nan")), 2, None),
    ],
)
def test_pixel_sizes_of_nifti(
    tmp_path: Path, model: Path, spacing: tuple[float, float], units: int, expected: tuple[float, float] | None
) -> None:
    """The model assumes 150 mm, of 8 rows. Spacing: width and height."""
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, spacing, units=units)
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    assert clip.spacing_mm == pytest.approx(expected or (150 / 8, 150 / 8))
    assert clip.spacing_from == ("header" if expected else "nominal depth")


# ---- which models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "plans", "dataset", "fact"),
    [
        ("3d", {}, {}, "3-D"),
        ("4d", {}, {}, "4d"),
        ("2d", {}, {"channel_names": {"0": "red", "1": "green"}}, "green"),
        ("2d", {"transpose_forward": [1, 0, 2]}, {}, "transpose_forward"),
        ("2d", {"image_reader_writer": "NibabelIOWithReorient"}, {}, "NibabelIOWithReorient"),
        ("2d", {}, {"nominal_depth_mm": "deep"}, "nominal_depth_mm"),
    ],
)
def test_other_models_are_refused(
    tmp_path: Path, configuration: str, plans: dict[str, Any], dataset: dict[str, Any], fact: str
) -> None:
    dicom(tmp_path / "clips" / "a.dcm")
    model = write_model(tmp_path / "m", configuration, plans, **dataset)
    with pytest.raises(DatasetError, match=fact):
        run(tmp_path, model)
    assert not (tmp_path / "in").exists()


def test_a_configuration_may_inherit(tmp_path: Path) -> None:
    assert read_format(write_model(tmp_path / "m", "small")).reads_volumes
    with pytest.raises(DatasetError, match=r"no_model"):
        read_format(tmp_path / "no_model")


# ---- privacy ---------------------------------------------------------------------------------------------------------


def everything(folder: Path) -> Iterator[bytes]:
    """Names and contents of all files below a folder."""
    for path in folder.rglob("*"):
        yield path.name.encode()
        if path.is_file():
            content = path.read_bytes()
            yield gzip.decompress(content) if path.suffix == ".gz" else content


def test_nobody_is_named(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the result nor in what an interrupted run leaves."""
    for number in range(2):
        dicom(tmp_path / "clips" / f"Hubermann_{number}.dcm", clip=f"1.2.3.4711.{number}")
    real = module.write_clips_json
    monkeypatch.setattr(module, "write_clips_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, model)
    unfinished = list(everything(tmp_path / ".building_in"))
    monkeypatch.setattr(module, "write_clips_json", real)
    run(tmp_path, model)
    assert len(unfinished) > 4
    for text in (*unfinished, *everything(tmp_path / "in")):
        for value in (*IDENTITY.values(), "Hubermann", "4711"):
            assert value.encode() not in text


def test_names_keep_the_clips_of_a_patient_together(tmp_path: Path, model: Path) -> None:
    for file, patient, clip in (("a", "P1", "1.1"), ("b", "P1", "1.2"), ("c", "P2", "1.3"), ("d", "", "1.4")):
        dicom(tmp_path / "clips" / file, patient, clip)
    result = run(tmp_path, model)
    patients = [result.clips[result.files[file]].patient for file in "abcd"]
    assert patients[0] == patients[1] not in (patients[2], None)
    assert patients[3] is None
    assert len(set(result.files.values())) == 4
    for name, clip in result.clips.items():
        assert name.startswith(clip.patient or "unknown_")


STUDY = IDENTITY["StudyInstanceUID"]


def exams(result: FramesResult) -> dict[str, str | None]:
    return {file: result.clips[name].exam for file, name in result.files.items()}


def test_examinations_are_those_of_patient_and_study(tmp_path: Path, model: Path) -> None:
    """The same study of another patient is another examination; without a study none is known."""
    identities = {"a": ("P1", STUDY), "b": ("P1", STUDY), "c": ("P1", "2.2"), "d": ("P2", STUDY), "e": ("", STUDY)}
    for file, (patient, study) in {**identities, "f": ("P1", "")}.items():
        dicom(tmp_path / "clips" / file, patient, f"1.{ord(file)}", StudyInstanceUID=study)
    hashed, kept = exams(run(tmp_path, model)), exams(frames_of(tmp_path / "clips", tmp_path / "kept", model, KEEP))
    assert hashed == kept
    assert hashed["a"] == hashed["b"]
    assert len({hashed[file] for file in "acde"}) == 4
    assert hashed["f"] is None
    assert all(str(hashed[file]).startswith("e") for file in "acde")


def test_a_patient_of_a_table_is_one_examination_unless_it_says(tmp_path: Path, model: Path) -> None:
    for file in "abcd":
        write_nifti(tmp_path / "clips" / f"{file}.nii", FRAMES, (1, 1 + ord(file)))
    dicom(tmp_path / "clips" / "e.dcm", StudyInstanceUID=STUDY)
    table = tmp_path / "views.csv"
    table.write_text("clip,patient,exam\na,P,\nb,P,first\nc,Q,first\ne,P,\n")
    kept = exams(run(tmp_path, model, Options(keep_names=True, table=table)))
    assert [kept[f"{file}.nii"] for file in "abcd"] == ["P", "first", "first", None]
    assert kept["e.dcm"] not in (None, "P")  # the header knows better
    hashed = exams(frames_of(tmp_path / "clips", tmp_path / "hashed", model, Options(table=table)))
    assert len(set(hashed.values())) == 5
    assert not {"P", "first"} & set(hashed.values())


def test_the_key_decides_the_names(tmp_path: Path, model: Path) -> None:
    dicom(tmp_path / "clips" / "a")
    first, second = (
        frames_of(tmp_path / "clips", tmp_path / out, model, Options(key_file=tmp_path / f"{key}.key"))
        for out, key in (("1", "x"), ("2", "y"))
    )
    again = frames_of(tmp_path / "clips", tmp_path / "3", model, Options(key_file=tmp_path / "x.key"))
    assert list(first.clips) == list(again.clips) != list(second.clips)
    assert (first.new_key, again.new_key) == (tmp_path / "x.key", None)
    key = (tmp_path / "x.key").read_bytes().strip()
    for text in everything(tmp_path / "1"):
        assert key not in text
        assert bytes.fromhex(key.decode()) not in text


def test_the_key_must_not_go_with_the_images(tmp_path: Path, model: Path) -> None:
    dicom(tmp_path / "clips" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for key in (tmp_path / "in" / "my.key", tmp_path / "link" / "my.key"):
        with pytest.raises(ConversionError, match="--key"):
            run(tmp_path, model, Options(key_file=key))
    assert not (tmp_path / "in").exists()


def test_what_lies_outside_the_region_is_cut(tmp_path: Path, model: Path) -> None:
    """Without a region, or with names in it, a file is refused; unless the user has looked."""
    write_dicom(tmp_path / "clips" / "none.dcm", FRAMES, SOPInstanceUID="1.1")
    dicom(tmp_path / "clips" / "burned.dcm", clip="1.2", BurnedInAnnotation="YES")
    dicom(tmp_path / "clips" / "good.dcm", clip="1.3")
    result = run(tmp_path, model)
    assert [one.case for one in result.skipped] == ["burned.dcm", "none.dcm"]
    assert all("--keep-whole-frame" in one.reason for one in result.skipped)
    assert list(result.files) == ["good.dcm"]
    looked = frames_of(tmp_path / "clips", tmp_path / "all", model, Options(keep_whole_frame=True))
    assert looked.skipped == []
    for name in looked.clips:
        assert np.array_equal(written(tmp_path / "all", name)[0], FRAMES)
    flags = {file: looked.clips[name].flags for file, name in looked.files.items()}
    assert [len(flags[file]) for file in ("none.dcm", "burned.dcm", "good.dcm")] == [1, 0, 0]
    assert looked.clips[looked.files["none.dcm"]].spacing_from == "nominal depth"
    assert looked.clips[looked.files["burned.dcm"]].spacing_mm == pytest.approx((0.5, 0.4))


def test_a_region_of_a_clip_that_was_shrunk_is_not_used(tmp_path: Path, model: Path) -> None:
    """pydicom's example: 320 x 240 pixels, a region to 595 x 414 of 0.51 mm, those of the pixels before."""
    source = Path(examples.get_path("ybr_color"))
    result = frames_of(source, tmp_path / "in", model, Options(keep_whole_frame=True))
    ((name, clip),) = result.clips.items()
    assert (clip.frames, clip.spacing_from) == (30, "nominal depth")
    assert clip.spacing_mm == (150 / 240, 150 / 240)
    assert clip.flags[0] == says("31 to 414", "84 to 595", "240 x 320")
    assert written(tmp_path / "in", name)[0].shape == (30, 240, 320)
    with pytest.raises(ConversionError, match="--keep-whole-frame"):
        frames_of(source, tmp_path / "other", model)


# ---- names and views -------------------------------------------------------------------------------------------------


def test_names_of_files_can_be_kept(tmp_path: Path, model: Path, own_configuration: Path) -> None:
    for file in ("a.nii", "sub/a.nii", "not this.nii", "x.avi"):
        (write_video if file.endswith("avi") else write_nifti)(
            tmp_path / "clips" / file, *([2] if file.endswith("avi") else [FRAMES, (1, 1)])
        )
    result = run(tmp_path, model, KEEP)
    assert result.files == {"a.nii": "a", "sub/a.nii": "sub_a", "x.avi": "x"}
    assert [one.case for one in result.skipped] == ["not this.nii"]
    assert not own_configuration.exists()  # no key is needed


def test_the_same_clip_twice_is_named(tmp_path: Path, model: Path) -> None:
    for file in ("a", "b"):
        dicom(tmp_path / "clips" / file)
    result = run(tmp_path, model)
    assert list(result.files) == ["a"]
    assert [(one.case, one.reason) for one in result.skipped] == [("b", says("a"))]


def test_names_that_differ_in_capitals_alone_are_named(tmp_path: Path, model: Path) -> None:
    """Disks of Windows and macOS would give both clips the frames of one."""
    for file in ("P1/a.nii", "p1/A.nii"):
        write_nifti(tmp_path / "clips" / file, FRAMES, (1, 1))
    result = run(tmp_path, model, KEEP)
    assert result.files == {"P1/a.nii": "P1_a"}
    assert [(one.case, one.reason) for one in result.skipped] == [("p1/A.nii", says("P1/a.nii"))]


def test_parts_that_have_the_name_of_a_clip_are_refused(tmp_path: Path, model: Path) -> None:
    long = np.zeros((300, 2, 2), np.uint8)
    write_nifti(tmp_path / "clips" / "a.nii", long, (1, 1))
    write_nifti(tmp_path / "clips" / "a_part00.nii", long[:3], (1, 1))
    with pytest.raises(ConversionError, match="a_part00"):
        run(tmp_path, model, KEEP)


def test_views_and_patients_of_a_table(tmp_path: Path, model: Path) -> None:
    for file in ("a.nii", "b.nii", "sub/c.nii", "d.nii"):
        write_nifti(tmp_path / "clips" / file, FRAMES, (1, 1))
    table = tmp_path / "views.csv"
    table.write_text("Clip;View;Patient\na.nii;A4C;Mueller\nb;2ch;Mueller\nc;PLAX;\n")
    clips = run(tmp_path, model, Options(keep_names=True, table=table)).clips
    assert {name: (clip.view, clip.patient) for name, clip in clips.items()} == {
        "a": ("4CH", "Mueller"),
        "b": ("2CH", "Mueller"),
        "sub_c": ("PLAX", None),
        "d": (None, None),
    }


def test_patients_of_a_table_are_hashed_too(tmp_path: Path, model: Path) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (1, 1))
    dicom(tmp_path / "clips" / "b.dcm", patient="Mueller")
    table = tmp_path / "views.csv"
    table.write_text("clip,patient\na,Mueller\n")
    clips = run(tmp_path, model, Options(table=table, view=None)).clips
    patients = {clip.patient for clip in clips.values()}
    assert len(patients) == 1
    assert all(name.startswith(f"{clip.patient}_p"[:13]) for name, clip in clips.items())
    assert all(b"Mueller" not in text for text in everything(tmp_path / "in"))


@pytest.mark.parametrize(
    ("rows", "fact"),
    [
        *[("a,4CH,,1", "line 2"), ("x,4CH", "x"), ("a,4CH\na.nii,2CH", "line 3"), ("a,\u00e4", "line 2")],
        ("c,4CH", "sub/c.nii"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, model: Path, rows: str, fact: str) -> None:
    for file in ("a.nii", "c.nii", "sub/c.nii"):
        write_nifti(tmp_path / "clips" / file, FRAMES, (1, 1))
    (tmp_path / "views.csv").write_text(f"clip,view,patient,exam\n{rows}\n", encoding="utf-8")
    with pytest.raises(ConversionError) as problem:
        run(tmp_path, model, Options(table=tmp_path / "views.csv"))
    assert str(problem.value) == says("views.csv", fact)


# ---- broken clips, resuming ------------------------------------------------------------------------------------------


def break_some(folder: Path) -> None:
    write_video(folder / "whole.avi", 25)
    content = (folder / "whole.avi").read_bytes()
    (folder / "cut.avi").write_bytes(content[: len(content) // 2])
    (folder / "text.mp4").write_text("no video")
    write_nifti(folder / "short.nii", FRAMES, (1, 1))
    (folder / "short.nii").write_bytes((folder / "short.nii").read_bytes()[:-1])
    (folder / "garbage.dcm").write_bytes(b"\0" * 500)
    (folder / "notes.txt").write_text("no clip")


def test_broken_clips_are_named_and_left_out(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_some(tmp_path / "clips")
    folders = ["-i", str(tmp_path / "clips"), "-o", str(tmp_path / "in"), "-m", str(model)]
    assert main(["frames", *folders, "--names", "keep", "--view", "a4c", "-np", "1"]) == 1
    printed = capsys.readouterr()
    for file in ("cut.avi", "text.mp4", "short.nii", "garbage.dcm"):
        assert f"skipped {file}: " in printed.out + printed.err
    assert "notes.txt" in printed.out
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"clips.json", "whole_0000.nii.gz"}
    assert {name: clip.view for name, clip in read_clips_json(tmp_path / "in").items()} == {"whole": "4CH"}
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_whatever_is_not_looked_at_is_named(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders that are links or locked, links to nowhere and locked files may be clips: exit code 1. Hidden files, the
    index of a disk and a header without its preamble are no clips."""
    clips, elsewhere = tmp_path / "clips", tmp_path / "elsewhere"
    write_nifti(clips / "a.nii", FRAMES, (1, 1))
    write_nifti(elsewhere / "b.nii", FRAMES, (1, 1))
    (clips / "linked").symlink_to(elsewhere)
    (clips / "circle").symlink_to(clips)
    (clips / "nowhere").symlink_to(tmp_path / "gone")
    (clips / ".#locked").symlink_to(tmp_path / "gone")
    (clips / ".circle").symlink_to(clips)
    (clips / "linked.nii").symlink_to(elsewhere / "b.nii")
    for name in ("locked", "DICOMDIR", "._a.nii", "sub/.hidden/c.nii"):
        (clips / name).parent.mkdir(parents=True, exist_ok=True)
        (clips / name).write_bytes(b"x")
    (clips / "bare").write_bytes(dicom(elsewhere / "whole.dcm").read_bytes()[132:])
    (clips / "closed").mkdir()
    refuse(monkeypatch, clips / "closed", clips / "locked")
    folders = ["-i", str(clips), "-o", str(tmp_path / "in"), "-m", str(model)]
    assert main(["frames", *folders, "--names", "keep", "-np", "1"]) == 1
    printed = capsys.readouterr()
    for name in ("circle", "closed", "linked", "locked", "nowhere"):
        assert f"skipped {name}: " in printed.out + printed.err
    assert "5 skipped" in printed.out
    for name in (".circle", "bare", "DICOMDIR", "._a.nii", "sub/.hidden/c.nii"):
        assert name in printed.out
    assert set(read_clips_json(tmp_path / "in")) == {"a", "linked"}


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").mkdir()
    refuse(monkeypatch, tmp_path / "clips")
    with pytest.raises(ConversionError, match=os.strerror(errno.EACCES)):
        run(tmp_path, model)


@pytest.mark.parametrize("options", [HASH, KEEP])
def test_a_clip_that_is_gone_when_it_is_read_is_named(tmp_path: Path, model: Path, options: Options) -> None:
    for name in "ab":
        write_video(tmp_path / "clips" / f"{name}.avi", 3 if name == "a" else 4)
    plan = plan_frames(tmp_path / "clips", tmp_path / "in", model, options)
    (tmp_path / "clips" / "a.avi").unlink()
    result = write_frames(plan, tmp_path / "in")
    assert [one.case for one in result.skipped] == ["a.avi"]
    assert list(result.files) == ["b.avi"]


def refuse(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Nobody may read the paths; root could."""
    scan, opened = os.scandir, Path.open

    def locked(path: Any) -> None:
        if Path(path) in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", lambda path=".": locked(path) or scan(path))
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: locked(path) or opened(path, *how, **more))


def test_missing_frames_of_a_video_are_flagged(tmp_path: Path, model: Path) -> None:
    """The header of the AVI counts 40 frames, of which it holds 37; that of the MKV counts none, and finding beats
    tells of the 0.12 s from one frame to the next where 5 of 20 ms are lost. An edit list hides frames on purpose."""
    write_video(tmp_path / "clips" / "whole.avi", 40)
    write_video(tmp_path / "clips" / "three.avi", 40, lost=(15, 16, 17))
    write_video(tmp_path / "clips" / "five.mkv", 40, codec="mpeg4", lost=range(15, 20))
    write_video(tmp_path / "clips" / "short.mkv", 40, codec="mpeg4", lost=(15, 16, 17))
    write_video(tmp_path / "clips" / "hidden.mp4", 40, codec="mpeg4", hidden=12)
    result = run(tmp_path, model, Options(keep_names=True, view="4CH"))
    flags = {name: clip.flags for name, clip in result.clips.items()}
    assert flags == {
        "whole": (), "three": (says("3 of 40"),), "short": (), "five": (), "hidden": (),
    }  # fmt: skip
    assert {name: clip.frames for name, clip in result.clips.items()} == {
        "whole": 40, "three": 37, "short": 37, "five": 35, "hidden": 28,
    }  # fmt: skip
    assert result.clips["three"].frame_times_s[14:16] == pytest.approx((0.28, 0.36))
    flags_of_beats = find_beats(np.arange(35), result.clips["five"].frame_times_s).flags
    assert "0.12 s" in flags_of_beats[0]


def test_the_lost_end_of_a_video_whose_header_does_not_count_is_flagged(tmp_path: Path, model: Path) -> None:
    """The header says that the 100 frames take 2 s."""
    path = tmp_path / "clips" / "a.mkv"
    write_video(path, 100, codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (clip,) = run(tmp_path, model, KEEP).clips.values()
    last = clip.frames - 1
    assert 0 < last < 90
    assert clip.flags == (says(f"{2 - last / 50:.2f} s", f"frame {last}"),)


def test_where_nothing_can_be_read_nothing_is_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "clips").mkdir()
    with pytest.raises(ConversionError, match="no file"):
        run(tmp_path, model)
    (tmp_path / "clips" / "a.avi").write_bytes(b"")
    with pytest.raises(ConversionError, match=r"a\.avi"):
        run(tmp_path, model)
    assert not (tmp_path / "in").exists()


def test_what_exists_is_not_replaced(tmp_path: Path, model: Path) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (1, 1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "desktop.ini").touch()
    run(tmp_path, model, KEEP)  # an empty folder is none
    with pytest.raises(DatasetError, match="-o"):
        run(tmp_path, model, KEEP)


@pytest.mark.parametrize("change", ["nothing", "file", "options", "cut"])
def test_an_interrupted_run_goes_on(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """What is written stays, unless its file or the options have changed, or it was not whole."""
    for name in "abc":
        write_nifti(tmp_path / "clips" / f"{name}.nii", FRAMES, (1, 1))
    options, real, read = KEEP, module.write_clip, []

    def write(job: Any) -> Any:
        read.append(job.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(module, "write_clip", write)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, model, options)
    assert not (tmp_path / "in").exists()
    if change == "file":
        os.utime(tmp_path / "clips" / "b.nii", (1, 1))
    elif change == "options":
        options = Options(keep_names=True, view="4CH")
    elif change == "cut":
        image = tmp_path / ".building_in" / "b_0000.nii.gz"
        image.write_bytes(image.read_bytes()[:-9])
    del read[:]
    read.extend(["-"] * 3)  # no interruption any more
    result = run(tmp_path, model, options)
    assert read[3:] == {"nothing": ["c"], "file": ["b", "c"], "options": ["a", "b", "c"], "cut": ["b", "c"]}[change]
    assert set(result.clips) == set("abc")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "a_0000.nii.gz", "b_0000.nii.gz", "c_0000.nii.gz", "clips.json",
    ]  # fmt: skip


def test_a_full_disk_is_no_broken_clip(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", FRAMES, (1, 1))

    def full(*_: Any) -> None:
        raise DatasetError("disk full")

    monkeypatch.setattr("nnunet_partial.clips.images.write_image", full)
    with pytest.raises(DatasetError, match="disk full"):
        run(tmp_path, model, KEEP)
