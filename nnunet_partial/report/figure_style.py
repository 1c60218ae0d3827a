"""Create and save the figures of a report in one style: as PNG for the screen and as PDF for print."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nnunet_partial.report import html
from nnunet_partial.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch


#: What a figure of a report shows: the first part of its file name.
FigureKind = Literal["overlay", "boxplot", "bland_altman", "annotations", "proportion", "learning"]
#: matplotlib's settings. Names may contain any character: "$" must not start a formula.
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, as journals want it
}
#: The font that comes with matplotlib, which draws everything that it has.
BASE_FONT = "DejaVu Sans"
#: Hatching of models or groups that share a color, so that they differ in black and white.
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "oooo", "++++")


@dataclass(frozen=True)
class SavedFigure:
    """Hold a figure that is ready to be saved.

    Attributes:
        name: of its files, without extension.
        figure: matplotlib's figure.
        alt: describes it in words, for screen readers.
        caption: printed below it.
    """

    name: str
    figure: Figure
    alt: str
    caption: str

    def save(self, folder: Path) -> html.Figure:
        """Write NAME.png and NAME.pdf; each file is written completely or not at all.

        If NAME exists (two domains may differ only in characters that file names cannot hold), NAME-2 and so on is
        used.

        Args:
            folder: receives the files.

        Characters that matplotlib's font lacks (Chinese, say) are drawn with an installed font that has them, or as
        their codes, which the caption then says.

        Returns:
            The figure for an HTML page.
        """
        existing = {path.stem for path in folder.glob("*.png")}
        names = (self.name, *(f"{self.name}-{number}" for number in range(2, len(existing) + 3)))
        name = next(name for name in names if name not in existing)
        with style(), _ignore_missing_glyphs():
            self.figure.draw_without_rendering()  # lays it out, which takes long, once for both files
            replaced, escaped = _replace_missing_glyphs(self.figure)
            if replaced:
                self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        png = _figure_bytes(self.figure, "png")
        for ending, content in ((".png", png), (".pdf", _figure_bytes(self.figure, "pdf"))):
            with atomic_path(folder / f"{name}{ending}") as temporary:
                temporary.write_bytes(content)
        note = f" No installed font has the characters {' '.join(escaped)}: their codes are drawn." if escaped else ""
        return html.Figure.from_png(png, self.alt, self.caption + note)


@contextmanager
def style() -> Iterator[None]:
    """Apply the common style within the context."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure that needs no window and no display.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_grid(figure: Figure, count: int, columns: int, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """Add a grid of axes to a figure.

    Args:
        figure: an empty figure.
        count: number of axes.
        columns: of the grid; as many rows as needed are added, the rest of the last one stays empty.
        sharex: whether all axes have the same x axis.
        sharey: whether all axes have the same y axis.

    Returns:
        The axes, row by row.
    """
    rows = math.ceil(count / columns)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel())
    for axes in grid[count:]:
        axes.set_visible(False)
    return grid[:count]


def legend_patch(label: str, **look: Any) -> Patch:
    """Create the legend's patch of an area.

    Args:
        label: its text.
        look: properties of matplotlib's `Patch`; the edge is black where none is given.

    Returns:
        The patch.
    """
    from matplotlib.patches import Patch

    return Patch(label=label, **{"edgecolor": "black", **look})


def add_legend(figure: Figure, handles: Sequence[Artist], columns: int, font_size: float | None = None) -> None:
    """Put a legend below all axes of a figure.

    Args:
        figure: of constrained layout, as `new_figure` creates it.
        handles: patches and lines with their labels.
        columns: of the legend.
        font_size: in points; that of the style by default.
    """
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=font_size)


def file_name(kind: FigureKind, *parts: str) -> str:
    """Build a file name that every file system and LaTeX accept.

    Only Latin letters, digits, '-' and '_' remain; "%" is spelled out.

    Args:
        kind: what the figure shows.
        parts: what distinguishes it from others of its kind; empty ones are left out, one without a valid character
            becomes "unnamed".

    Returns:
        The name without extension.
    """
    cleaned = (re.sub(r"[^A-Za-z0-9_-]+", "-", part.replace("%", "percent")) for part in (kind, *parts) if part)
    return "_".join(word.strip("-_")[:40].rstrip("-_") or "unnamed" for word in cleaned)


def shorten(text: str, limit: int) -> str:
    """Shorten a text to its beginning and end.

    Args:
        text: any text.
        limit: most characters to return.

    Returns:
        The text itself if it is short enough.
    """
    return (
        text if len(text) <= limit else f"{text[: limit // 2]}\N{HORIZONTAL ELLIPSIS}{text[limit // 2 + 1 - limit :]}"
    )


def remove_old_figures(folder: Path) -> None:
    """Remove the figures of an earlier report; files of other names are kept.

    Args:
        folder: where `SavedFigure.save` wrote them; may be missing.
    """
    names = re.compile(rf"({'|'.join(get_args(FigureKind))})([_-].*)?\.(png|pdf)")
    for path in folder.glob("*"):
        if names.fullmatch(path.name):
            path.unlink()


def _figure_bytes(figure: Figure, file_format: str) -> bytes:
    content = io.BytesIO()
    with style(), _ignore_missing_glyphs():
        metadata = {"Software": None} if file_format == "png" else {"CreationDate": None}
        figure.savefig(content, format=file_format, dpi=round(96 * html.PIXEL_RATIO), metadata=metadata)
    return content.getvalue()


def _replace_missing_glyphs(figure: Figure) -> tuple[bool, list[str]]:
    """Draw what matplotlib's font lacks with other installed fonts, or as codes where none has it.

    Args:
        figure: after it was drawn, so that every axis has its labels.

    Returns:
        Whether anything was changed, and the characters that are drawn as codes.
    """
    from matplotlib.text import Text

    texts: list[Any] = figure.findobj(Text)
    drawn = {character for text in texts for character in text.get_text() if character.isprintable()}
    missing = drawn - _characters(_font_file(BASE_FONT))
    if not missing:
        return False, []
    families, escaped = find_fallback_fonts(frozenset(missing))
    codes = {ord(character): character.encode("ascii", "backslashreplace").decode() for character in escaped}
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(label != label.translate(codes) for label in labels):
                # the labels of ticks are written again whenever they are drawn
                axis.set_ticks(axis.get_ticklocs(), [label.translate(codes) for label in labels])
    for text in texts:
        if missing & set(text.get_text()):
            text.set_fontfamily([BASE_FONT, *families])
            text.set_text(text.get_text().translate(codes))
    return True, escaped


@lru_cache
def find_fallback_fonts(missing: frozenset[str]) -> tuple[list[str], list[str]]:
    """Find installed fonts that have characters which matplotlib's font lacks.

    Args:
        missing: the characters.

    Returns:
        Names of font families, those with most of the characters first, and the characters that none of them has.
    """
    from matplotlib.font_manager import fontManager

    left, families = set(missing), []
    # .ttc and .otf cannot be embedded as the TrueType that journals want
    entries = {entry.name: entry for entry in fontManager.ttflist if entry.fname.lower().endswith(".ttf")}
    found = {name: _characters(entry.fname) & missing for name, entry in sorted(entries.items())}
    while left:
        best = max(found, key=lambda name: len(found[name] & left), default=None)
        if best is None or not found[best] & left:
            break
        families.append(best)
        left -= found[best]
    return families, sorted(left)


def _font_file(family: str) -> str:
    from matplotlib.font_manager import findfont

    return str(findfont(family))


@lru_cache
def _characters(font_file: str) -> frozenset[str]:
    """Return the characters that a font has; empty where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(font_file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@contextmanager
def _ignore_missing_glyphs() -> Iterator[None]:
    """Ignore matplotlib's warnings of characters that its font lacks; they are replaced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield
