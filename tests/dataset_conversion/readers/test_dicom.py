"""DICOM: what is cut, how large a pixel is, and that no name comes out."""

from __future__ import annotations

import builtins
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicom_files import IDENTITY, region, write_dicom
from helpers.facts import says
from nnunet_partial.dataset_conversion.readers.dicom import DicomClip, is_dicom, read_dicom_header
from numpy.typing import NDArray
from pydicom import dcmread, examples, uid
from pydicom.pixels import get_decoder

from nnunet_partial.errors import ConversionError

#: A clip of 3 frames of 8 x 12, of which rows 2 to 7 and columns 4 to 9 are the image.
FRAMES = np.arange(3 * 8 * 12, dtype=np.uint8).reshape(3, 8, 12)
TISSUE = ((2, 7), (4, 9), (0.05, 0.04))
INSIDE = FRAMES[:, 2:8, 4:10]


def clip(path: Path, **options: Any) -> DicomClip:
    return read_dicom_header(write_dicom(path / "c.dcm", FRAMES, [region(*TISSUE)], **options))


def smooth(shape: tuple[int, int] = (32, 48)) -> NDArray[np.uint8]:
    """Colors that change slowly, as JPEG can keep them: (2, rows, cols, 3)."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    frame = np.stack([4 * rows, 3 * cols, 200 - 2 * rows], axis=-1).astype(np.uint8)
    return np.stack([frame, frame // 2])


def luma(rgb: NDArray[Any]) -> NDArray[Any]:
    return np.rint(0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2])


def test_the_region_is_cut_and_has_its_pixel_size(tmp_path: Path) -> None:
    read = clip(tmp_path)
    assert (read.length, read.shape, read.burned_in, read.region_problem) == (3, (8, 12), False, "")
    assert read.region is not None
    assert read.region.spacing_mm == pytest.approx((0.5, 0.4))  # 0.05 and 0.04 cm
    assert np.array_equal(list(read.frames()), INSIDE)
    assert np.array_equal(list(read.frames(keep_whole_frame=True)), FRAMES)
    assert np.array_equal(list(read.frames([2, 0])), INSIDE[[2, 0]])
    with pytest.raises(ConversionError, match=r"no frame 3.*c\.dcm has 3"):
        list(read.frames([3]))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless])
@pytest.mark.parametrize("counted", [None, 1, 2])
def test_a_header_that_counts_less_frames_than_there_are_is_refused(
    tmp_path: Path, syntax: uid.UID, counted: int | None
) -> None:
    frames = clip(tmp_path, syntax=syntax, NumberOfFrames=counted).frames()
    assert np.array_equal(next(frames), INSIDE[0])
    with pytest.raises(ConversionError, match=f"c.dcm holds more .* {counted or 1} "):
        list(frames)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_what_follows_the_pixels_is_no_frame(tmp_path: Path, syntax: uid.UID) -> None:
    """As makers of scanners add it: more than the 96 bytes of a frame, of their own or as padding."""
    path = write_dicom(tmp_path / "c.dcm", FRAMES, [region(*TISSUE)], syntax=syntax, DataSetTrailingPadding=b"0" * 200)
    file = dcmread(path)
    file.private_block(0x7FE1, "MAKER", create=True).add_new(1, "OB", bytes(200))
    file.save_as(path)
    assert np.array_equal(list(read_dicom_header(path).frames()), INSIDE)
    file.NumberOfFrames = 2
    file.save_as(path)
    with pytest.raises(ConversionError, match=r"c.dcm holds more .* 2 "):
        list(read_dicom_header(path).frames())


def test_frames_of_unknown_size_are_never_given_as_whole(tmp_path: Path) -> None:
    """The length of pixels that are not compressed must be said; 2^32 - 1 says that it is not."""
    path = write_dicom(tmp_path / "c.dcm", FRAMES, [region(*TISSUE)])
    content, start = path.read_bytes(), b"\xe0\x7f\x10\x00OB\x00\x00"
    header, _ = content.split(start)
    item, end = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)
    path.write_bytes(
        header + start + b"\xff" * 4 + item + bytes(4) + item + struct.pack("<I", FRAMES.size) + FRAMES.tobytes() + end
    )
    with pytest.raises(ConversionError, match=r"c\.dcm"):
        list(read_dicom_header(path).frames())


def test_other_regions_and_the_same_one_twice_change_nothing(tmp_path: Path) -> None:
    ecg = region((6, 7), (0, 11), (1, 1), RegionSpatialFormat=4, RegionDataType=10, PhysicalUnitsXDirection=4)
    flow = region((3, 5), (5, 8), (0.05, 0.04), RegionDataType=2)
    path = write_dicom(tmp_path / "c", FRAMES, [ecg, flow, region(*TISSUE), region(*TISSUE)])
    assert read_dicom_header(path).region == clip(tmp_path).region


@pytest.mark.parametrize(
    ("regions", "facts"),
    [
        ([], ("no",)),
        ([region((2, 8), (4, 9), (0.05, 0.04))], ("2 to 8", "8 x 12")),  # row 8 of 0 to 7
        ([region((2, 7), (4, 12), (0.05, 0.04))], ("4 to 12", "8 x 12")),
        ([region((7, 2), (4, 9), (0.05, 0.04))], ("7 to 2",)),
        ([region((2, 7), (4, 9), (0.05, 0.04), PhysicalUnitsXDirection=4)], ("cm",)),
        ([region((2, 7), (4, 9), (0.05, 0.0))], ("0 mm",)),
        ([region((2, 7), (4, 9), (50.0, 0.04))], ("3000 mm",)),  # 6 rows of 500 mm
        ([region((2, 7), (4, 9), (float("nan"), 0.04))], ("nan mm",)),
        ([region(*TISSUE), region((0, 1), (4, 9), (0.05, 0.04))], ("2",)),
        ([region(*TISSUE, RegionLocationMinX0=None)], ("incomplete",)),
    ],
)
def test_a_region_that_cannot_be_right_is_not_used(tmp_path: Path, regions: list[Any], facts: tuple[str, ...]) -> None:
    read = read_dicom_header(write_dicom(tmp_path / "c.dcm", FRAMES, regions))
    assert read.region is None
    assert read.region_problem == says("ultrasound", *facts)
    with pytest.raises(ConversionError, match=r"c\.dcm: .*--keep-whole-frame"):
        next(read.frames())
    assert np.array_equal(list(read.frames(keep_whole_frame=True)), FRAMES)  # nothing cut


def test_a_file_with_burned_in_names_is_refused(tmp_path: Path) -> None:
    read = clip(tmp_path, BurnedInAnnotation="YES")
    assert read.region is not None
    with pytest.raises(ConversionError, match=r"c\.dcm .*burned.*--keep-whole-frame"):
        next(read.frames())
    assert len(list(read.frames(keep_whole_frame=True))) == 3
    assert len(list(clip(tmp_path, BurnedInAnnotation="NO").frames())) == 3


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
def test_compression_without_loss(tmp_path: Path, syntax: uid.UID) -> None:
    assert np.array_equal(list(clip(tmp_path, syntax=syntax).frames()), INSIDE)


def test_the_extra_decodes_the_newer_jpeg_2000_too() -> None:
    assert get_decoder(uid.HTJ2KLossless).is_available


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    assert np.array_equal(list(clip(tmp_path, kind="MONOCHROME1").frames()), 255 - INSIDE)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_colors_become_their_luma(tmp_path: Path, kind: str) -> None:
    rgb = smooth()
    stored, syntax, near = rgb, uid.ExplicitVRLittleEndian, 0
    if kind == "YBR_FULL":  # ITU-R BT.601, full range
        y, half = luma(rgb), np.full(rgb.shape[:3], 128.0)
        blue, red = half + 0.564 * (rgb[..., 2] - y), half + 0.713 * (rgb[..., 0] - y)
        stored, near = np.rint(np.stack([y, blue, red], axis=-1)).astype(np.uint8), 2
    elif kind == "YBR_FULL_422":
        syntax, near = uid.JPEGBaseline8Bit, 6
    read = read_dicom_header(write_dicom(tmp_path / "c", stored, kind=kind, syntax=syntax))
    frames = np.array(list(read.frames(keep_whole_frame=True)), float)
    assert np.abs(frames - luma(rgb)).max() <= near


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_its_luma(tmp_path: Path, bits: int) -> None:
    """Value v is red 255 - v, green v, blue 0; in 16 bits 257 times as much."""
    index = np.arange(256)
    table = {}
    for name, values in (("Red", 255 - index), ("Green", index), ("Blue", 0 * index)):
        table[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        data = values.astype(np.uint8) if bits == 8 else (257 * values).astype("<u2")
        table[f"{name}PaletteColorLookupTableData"] = data.tobytes()
    frame = next(clip(tmp_path, kind="PALETTE COLOR", **table).frames())
    expected = np.rint(0.299 * (255.0 - INSIDE[0]) + 0.587 * INSIDE[0])
    assert np.array_equal(frame, expected)


@pytest.mark.parametrize(
    ("elements", "times"),
    [
        ({}, None),
        ({"FrameTime": 40}, (0, 40, 80)),
        ({"FrameTime": 0, "CineRate": 50}, (0, 20, 40)),
        ({"CineRate": 0, "HeartRate": 0}, None),
        ({"FrameTimeVector": [0, 30, 35], "FrameTime": 40}, (0, 30, 65)),
        ({"FrameTimeVector": [0, 30], "FrameTime": 40}, (0, 40, 80)),  # of another clip
        ({"FrameTimeVector": [0, 0, 0], "CineRate": 25}, (0, 40, 80)),
    ],
)
def test_frame_times(tmp_path: Path, elements: Mapping[str, Any], times: tuple[float, ...] | None) -> None:
    assert clip(tmp_path, **elements).frame_times_ms == times


def test_a_region_of_a_clip_that_was_shrunk_is_not_used() -> None:
    """320 x 240 pixels, but a region to 595 x 414: its 0.051 cm is that of the larger pixels before."""
    path = Path(examples.get_path("ybr_color"))
    read = read_dicom_header(path)
    assert (read.length, read.shape, read.region) == (30, (240, 320), None)
    assert read.region_problem == says("31 to 414", "84 to 595", "240 x 320")
    assert read.frame_times_ms is not None
    assert read.frame_times_ms[1] == pytest.approx(33.333)
    with pytest.raises(ConversionError, match=path.name):
        next(read.frames())
    frame = next(read.frames(keep_whole_frame=True))
    assert (frame.shape, frame.dtype) == ((240, 320), np.uint8)


def test_a_region_of_an_image_that_was_cropped_is_not_used() -> None:
    """The header cannot tell it from one that was shrunk, though its 0.0262 cm still hold: the caliper of 40.5 pixels
    that is drawn in it reads 1.06 cm."""
    read = read_dicom_header(Path(examples.get_path("palette_color")))
    assert (read.length, read.shape, read.region) == (1, (350, 800), None)
    assert read.region_problem == says("60 to 518", "350 x 800")


def test_the_pixel_size_agrees_with_a_caliper_drawn_in_the_image(tmp_path: Path) -> None:
    """The cropped example with its region cropped too: 40.5 pixels of its caliper are 10.6 mm."""
    file = examples.palette_color
    item = file.SequenceOfUltrasoundRegions[0]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 799, 349
    file.save_as(tmp_path / "c.dcm")
    read = read_dicom_header(tmp_path / "c.dcm")
    assert read.region is not None
    assert [40.5 * mm for mm in read.region.spacing_mm] == pytest.approx([10.6, 10.6], abs=0.05)
    assert next(read.frames()).shape == (290, 680)  # rows 60 to 349, columns 120 to 799


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.MPEG4HP41])
def test_what_cannot_be_decoded_is_named(tmp_path: Path, syntax: uid.UID) -> None:
    path = write_dicom(tmp_path / "c.dcm", FRAMES, syntax=syntax)
    with pytest.raises(ConversionError, match=rf"c\.dcm .*{syntax.name[:6]}.*dicom"):
        read_dicom_header(path)


@pytest.mark.parametrize(
    ("elements", "fact"),
    [
        ({"Modality": "CT"}, "CT"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "YBR_PARTIAL_422"),
        ({"PixelRepresentation": 1}, "8"),
        ({"BitsAllocated": 16}, "16"),
        ({"Rows": 0}, "0 x 12"),
        ({"NumberOfFrames": 10**8}, "100000000"),
    ],
)
def test_what_is_no_ultrasound_image_is_refused(tmp_path: Path, elements: Mapping[str, Any], fact: str) -> None:
    with pytest.raises(ConversionError) as caught:
        clip(tmp_path, **elements)
    assert str(caught.value) == says("c.dcm", fact)


def test_a_file_that_is_cut_off_or_missing_is_named(tmp_path: Path) -> None:
    read = clip(tmp_path)
    read.path.write_bytes(read.path.read_bytes()[:-5])
    with pytest.raises(ConversionError, match=r"c\.dcm cannot be read"):
        list(read_dicom_header(read.path).frames())
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(ConversionError, match=r"text\.dcm cannot be read"):
        read_dicom_header(tmp_path / "text.dcm")
    with pytest.raises(ConversionError, match=r"none\.dcm does not exist"):
        read_dicom_header(tmp_path / "none.dcm")


def test_dicom_is_known_by_its_ending_or_its_content(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "1.2.840.4711", FRAMES)
    (tmp_path / "text").write_text("no image")
    assert is_dicom(path)
    assert is_dicom(tmp_path / "missing.DCM")
    assert not any(is_dicom(file) for file in (tmp_path / "text", tmp_path / "missing", tmp_path))


def test_without_the_extra_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "c.dcm", FRAMES)
    original = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("pydicom"):
            raise ModuleNotFoundError(name=name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConversionError, match=r"'pydicom.*\.\[dicom\]"):
        read_dicom_header(path)


def test_of_mutated_files_only_our_errors_come_out_and_no_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes replaced, lost or doubled; a tenth of the files cut off."""
    chance = random.Random(0)
    color = {"kind": "YBR_FULL_422", "syntax": uid.JPEGBaseline8Bit, "FrameTime": 40}
    sound = [
        write_dicom(tmp_path / "a", FRAMES, [region(*TISSUE)], FrameTimeVector=[0, 30, 30]).read_bytes(),
        write_dicom(tmp_path / "b", FRAMES, [region(*TISSUE)], syntax=uid.RLELossless).read_bytes(),
        write_dicom(tmp_path / "c", smooth((8, 12)), [region(*TISSUE)], **color).read_bytes(),
    ]
    refused: list[tuple[str, str]] = []
    for number in range(300):
        content = bytearray(sound[number % 3])
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(128, len(content))
            new = chance.choice([b"", b"\xff\xff\xff\xff", b"\0", bytes([chance.randrange(256)]), content[start:][:9]])
            content[start : start + (len(new) or 2 if chance.random() < 0.8 else chance.randrange(5))] = new
        path = tmp_path / f"m{number}.dcm"
        path.write_bytes(content[: chance.randrange(len(content))] if chance.random() < 0.1 else content)
        try:
            read = read_dicom_header(path)
            for frame in read.frames(keep_whole_frame=True):
                assert frame.shape == read.shape
        except ConversionError as error:
            refused.append((path.name, str(error)))
    assert 100 < len(refused) < 250
    for name, problem in refused:
        assert name in problem
        assert not any(value in problem for value in IDENTITY.values())
    assert capsys.readouterr() == ("", "")
