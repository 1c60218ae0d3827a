"""How many patients a Bland-Altman plot says it shows.

Where two structures touch, the lines of both are seen; no part is too thin for a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nnunet_partial.report.bland_altman import draw_agreement
from nnunet_partial.report.figure_style import SavedFigure, find_fallback_fonts, new_figure, style
from nnunet_partial.report.overlays import ContourStyle, draw_contour, inset_depth

KEY = ("EDV", "mL", "biplane")


def seen(patients: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    what = dict(zip(("biomarker", "unit", "method"), KEY, strict=True))
    return [
        {"model": "m", "domain": domain, "patient": patient, **what, "reference": "50", "prediction": "52"}
        for domain, patient in patients
    ]


@pytest.mark.parametrize(
    ("patients", "n", "said"),
    [
        ([("a", "1"), ("a", "2"), ("b", "3")], 3, r"per patient\. .*: mean difference;"),
        ([("a", "1"), ("a", "2"), ("b", "1")], 2, r"per patient and domain\. .*: mean difference over"),
        ([("a", "1"), ("a", "1"), ("a", "2")], 2, r"per clip\. .*: mean difference over"),
    ],
)
def test_a_patient_of_two_domains_is_two_points_and_one_patient(
    patients: list[tuple[str, str]], n: int, said: str
) -> None:
    picture = draw_agreement(["m"], seen(patients), (), KEY)
    assert picture is not None
    axes = picture.figure.axes[0]
    assert axes.get_title() == f"m (n = {n})"
    assert sum(len(points.get_offsets()) for points in axes.collections) == 3
    assert re.search(said, picture.caption)


def test_more_domains_than_colors_are_told_apart() -> None:
    picture = draw_agreement(["m"], seen([(f"d{number:02d}", str(number)) for number in range(14)]), (), KEY)
    assert picture is not None
    look = {
        (points.get_facecolor().tobytes(), points.get_paths()[0].vertices.tobytes())
        for points in picture.figure.axes[0].collections
    }
    assert len(look) == 14


# Names that matplotlib's font lacks


def make_font(path: Path, name: str, characters: str) -> None:
    """A font in which each of these characters is a square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square, glyphs = pen.glyph(), [".notdef", *(f"uni{ord(character):04X}" for character in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(character): f"uni{ord(character):04X}" for character in characters})
    builder.setupGlyf(dict.fromkeys(glyphs, square))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular", "psName": name})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)


@pytest.mark.parametrize("installed", [True, False])
def test_characters_that_the_font_lacks_are_drawn_or_said(
    tmp_path: Path, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.font_manager import fontManager

    make_font(tmp_path / "square.ttf", "Square", "\u4e2d")
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if f.name.startswith("DejaVu")])
    if installed:
        fontManager.addfont(tmp_path / "square.ttf")
    find_fallback_fonts.cache_clear()
    with style():
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.set_title("p\u4e2d\u00e4")
        axes.bar(["LV", "\u4e2d\u6587"], [1, 2])
    shown = SavedFigure("boxplot", figure, "", "Bars.").save(tmp_path)
    find_fallback_fonts.cache_clear()
    title, ticks = axes.title, [label.get_text() for label in axes.get_xticklabels()]
    assert title.get_text() == ("p\u4e2d\u00e4" if installed else "p\\u4e2d\u00e4")
    assert title.get_fontfamily() == ["DejaVu Sans", *(["Square"] if installed else [])]
    assert ticks == ["LV", "\u4e2d\\u6587" if installed else "\\u4e2d\\u6587"]
    assert ("\u4e2d" in shown.caption) != installed
    assert "\u6587" in shown.caption
    assert b"Square" in (tmp_path / "boxplot.pdf").read_bytes() or not installed


LV, MYO = "#56B4E9", "#E69F00"


def test_the_line_runs_inside_the_border() -> None:
    """Five rows: their middles lie 0.5, 1.5, 2.5, 1.5, 0.5 inside the border. An inset of 1 lies between."""
    mask = np.zeros((7, 23), bool)
    mask[1:6, 1:22] = True
    assert inset_depth(mask, 1.0)[:, 11].tolist() == [-1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5]


def test_lengths_are_in_rows() -> None:
    """Pixels twice as high as wide: columns are half a row, so their middles are 0.25, 0.75, 1.25 rows deep."""
    mask = np.zeros((23, 7), bool)
    mask[1:22, 1:6] = True
    assert inset_depth(mask, 0.0, aspect=2.0)[11, 1:6].tolist() == [0.25, 0.75, 1.25, 0.75, 0.25]


def test_a_part_that_is_too_thin_keeps_a_line() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:20, 5:20] = mask[25, 25] = True
    inside = inset_depth(mask, 4.0) > 0
    assert inside[25, 25]
    assert inside[12, 12]
    assert not inside[5, 5:20].any()


@pytest.mark.parametrize("stroke", ["solid", "dashed"])
def test_both_lines_are_seen_where_structures_touch(stroke: str) -> None:
    """Two halves of a picture of 40 x 40 pixels, each 5 screen pixels wide: both colors show along the border."""
    figure = new_figure(2, 2)
    figure.set_layout_engine("none")
    figure.set_dpi(100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(np.zeros((40, 40)), cmap="gray", aspect="auto")
    left = np.zeros((40, 40), bool)
    left[:, :20] = True
    for mask, color in ((left, LV), (~left, MYO)):
        draw_contour(axes, mask, ContourStyle(color, 2.0, 40 / (72 * 2), 1.0), stroke)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[20:180, 80:120, :3] / 255.0  # type: ignore[attr-defined]
    for color in (LV, MYO):
        rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        lengths = (np.abs(pixels - rgb).max(-1) < 0.1).any(axis=1).sum()  # rows of the screen in which it is seen
        assert lengths > 80
