"""How every picture of a report is drawn and written: the same look, as PNG for a screen and as PDF for print."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.report.html import PIXEL_RATIO, Figure
from nnunet_partial.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


#: Names of picture files begin with one of these; what an earlier report left under them is replaced.
KINDS = ("overlay", "boxplot", "bland_altman", "knows", "proportion", "learning")
#: matplotlib's settings. Names may hold any character: a "$" begins no formula.
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
#: Filling of models or groups that share a colour, told apart in black and white.
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "oooo", "++++")


@dataclass(frozen=True)
class SavedFigure:
    """A finished drawing. `name`: of its files, without ending; `alt`: in words, for who cannot see it."""

    name: str
    drawing: Drawing
    alt: str
    caption: str

    def figure(self, folder: Path) -> Figure:
        """Writes NAME.png and NAME.pdf into the folder, whole or not at all, and gives the picture for a page.

        Where NAME is taken (two domains may differ in what no file name holds), NAME-2 and so on.
        """
        taken = {path.stem for path in folder.glob("*.png")}
        names = (self.name, *(f"{self.name}-{number}" for number in range(2, len(taken) + 3)))
        name = next(name for name in names if name not in taken)
        with style(), _any_glyph():
            self.drawing.draw_without_rendering()  # lays it out, which takes long, once for both files
        self.drawing.set_layout_engine("none")
        png = _bytes(self.drawing, "png")
        for ending, content in ((".png", png), (".pdf", _bytes(self.drawing, "pdf"))):
            with atomic_path(folder / f"{name}{ending}") as temporary:
                temporary.write_bytes(content)
        return Figure.of_png(png, self.alt, self.caption)


@contextmanager
def style() -> Iterator[None]:
    """Within it pictures are drawn in the common look."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Drawing:
    """An empty drawing, sizes in inches; no window, no display needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def file_name(*parts: str) -> str:
    """Parts of a name as one that every file system and LaTeX take: Latin letters, digits, '-' and '_'; "%" in words.

    Empty parts are left out; a part of which nothing is left is "unnamed".
    """
    words = (re.sub(r"[^A-Za-z0-9_-]+", "-", part.replace("%", "percent")) for part in parts if part)
    return "_".join(word.strip("-_")[:40].rstrip("-_") or "unnamed" for word in words)


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning and end, at most `limit` characters in all."""
    return (
        text if len(text) <= limit else f"{text[: limit // 2]}\N{HORIZONTAL ELLIPSIS}{text[limit // 2 + 1 - limit :]}"
    )


def remove_old(folder: Path) -> None:
    """Removes the pictures of an earlier report; what has another name stays."""
    ours = re.compile(rf"({'|'.join(KINDS)})([_-].*)?\.(png|pdf)")
    for path in folder.glob("*"):
        if ours.fullmatch(path.name):
            path.unlink()


def _bytes(drawing: Drawing, ending: str) -> bytes:
    content = io.BytesIO()
    with style(), _any_glyph():
        metadata = {"Software": None} if ending == "png" else {"CreationDate": None}
        drawing.savefig(content, format=ending, dpi=round(96 * PIXEL_RATIO), metadata=metadata)
    return content.getvalue()


@contextmanager
def _any_glyph() -> Iterator[None]:
    """Within it a name in a script that the font lacks is drawn as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield
