"""Draw docs/overview.png from a demo's folder: what was annotated, what the loss is told, what both trainers predict.

    nnunet_partial demo
    python studies/draw_overview.py demo_output docs/overview.png

Everything in it is synthetic: the images, and the predictions that the demo's two trainings made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.demo.folder import DemoFolder
from nnunet_partial.demo.results import Labels, median_case, overlay_labels, read_labels, score_models
from nnunet_partial.demo.run import NAIVE, TRAINERS
from nnunet_partial.report.figure_style import add_legend, legend_patch, new_figure, style
from nnunet_partial.utils.colors import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANIFEST = """partial_labels.json

 "camus_*":
   annotated: LV, MYO, LA

 "echonet_*":
   annotated: LV
   unknown: MYO, LA"""
LOSS = """marginal loss

in camus, background is
   background

in echonet, it may be
   background, MYO or LA"""


def main(root: Path, file: Path) -> None:
    """Draw the figure.

    Args:
        root: folder of a demo with the marginal loss.
        file: to write, PNG.
    """
    folder, trainers = DemoFolder(root.resolve()), (NAIVE, TRAINERS["marginal"])
    dataset, scores = RawDataset(folder.merged), score_models(folder, trainers)
    colors = class_colors(dataset.classes)
    training = sorted(dataset.label_files("Tr"))
    of_model = scores.dice[trainers[1]]
    case = median_case({case: of_model[case] for case in scores.cases("echonet") if case.endswith("_ED")})
    with style():
        figure = new_figure(11, 5.6)
        grid = figure.subplot_mosaic([["camus", "manifest", "naive"], ["echonet", "loss", "marginal"]])
        for domain in ("camus", "echonet"):
            first = next(name for name in training if name.startswith(domain) and name.endswith("_ED"))
            labels = read_labels(dataset.label_files("Tr")[first])
            draw_panel(grid[domain], dataset.image_files("Tr")[first][0], labels, list(colors.values()))
            grid[domain].set_title(f"synthetic {domain}: annotated for {', '.join(scores.annotated[domain])}")
        for name, text in (("manifest", MANIFEST), ("loss", LOSS)):
            box = {"boxstyle": "round,pad=0.8", "facecolor": "#f4f4f4", "edgecolor": "#999999"}
            grid[name].text(
                0.5, 0.5, text, ha="center", va="center", ma="left", family="monospace", linespacing=1.4, bbox=box
            )
            grid[name].set_axis_off()
        for name, trainer in zip(("naive", "marginal"), trainers, strict=True):
            predicted = read_labels(folder.predictions(trainer) / f"{case}{dataset.file_ending}")
            draw_panel(grid[name], dataset.image_files("Ts")[case][0], predicted, list(colors.values()))
            grid[name].set_title(f"unseen synthetic image of echonet, {name} loss")
            dices = zip(scores.structures, scores.dice[trainer][case], strict=True)
            grid[name].set_xlabel("Dice: " + "  ".join(f"{structure} {value:.2f}" for structure, value in dices))
        patches = [legend_patch(name, facecolor=color, edgecolor="none") for name, color in colors.items()]
        add_legend(figure, patches, columns=len(patches), font_size=11)
        figure.savefig(file, dpi=110)


def draw_panel(axis: Axes, image: Path, labels: Labels, colors: list[str]) -> None:
    """Draw an image with its structures.

    Args:
        axis: to draw on.
        image: file of the image.
        labels: label map, (rows, cols).
        colors: of the classes, in the order of their labels.
    """
    axis.imshow(read_labels(image), cmap="gray", vmin=0, vmax=255)
    overlay_labels(axis, labels, colors)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
