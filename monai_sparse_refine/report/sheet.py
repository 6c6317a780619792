"""The page of a completion figure: panels that all have one scale, so that lengths can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_sparse_refine.report.render import BACKGROUND

__all__ = ["FAINT", "INK", "Sheet"]

INK = "#e9edf2"
FAINT = "#8d98a6"

# Inches: the page's width, what a label takes at the left, between panels, above a row's panels and at the
# top.
WIDTH, LEFT, GAP, HEAD, TOP, FOOT = 9.6, 0.55, 0.12, 0.36, 1.22, 0.4


class Sheet:
    """Three columns of panels: three rows that look along the skull's axes and a fourth of slices.

    Args:
        extent: size of what is shown in mm, to the right, to the front and up.
    """

    def __init__(self, extent: Sequence[float]) -> None:
        x, y, z = (float(v) for v in extent)
        # The widest side is that from the left or right.
        self.column = 1.1 * max(x, y)
        inch = (WIDTH - LEFT - 3 * GAP) / 3 / self.column  # inches a mm
        self.inch = inch
        self.rows = [1.04 * z, 1.04 * z, 1.04 * y, 1.04 * max(y, z)]
        self.height = TOP + FOOT + sum(self.rows) * inch + HEAD * len(self.rows)
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor=BACKGROUND)
        FigureCanvasAgg(self.figure)

    def write(self, title: str, line: str, *, footer: str) -> None:
        """Heading, the line of numbers below it, and a remark at the bottom."""
        for y, text, size, colour, weight in (
            (0.34, title, 17, INK, "bold"),
            (0.66, line, 12, INK, "normal"),
        ):
            self.figure.text(
                LEFT / WIDTH, 1 - y / self.height, text, size=size, color=colour, weight=weight, va="center"
            )
        self.figure.text(LEFT / WIDTH, 0.2 / self.height, footer, size=9.5, color=FAINT, va="center")

    def note(self, text: str, colour: str) -> None:
        """A remark at the bottom right."""
        self.figure.text(
            1 - GAP / WIDTH, 0.2 / self.height, text, size=9.5, color=colour, ha="right", va="center"
        )

    def panel(self, row: int, column: int, edges: tuple[str, str]) -> Axes:
        """Empty axes in mm around their centre; the letters stand at their left and right edge."""
        width, height = self.column * self.inch, self.rows[row] * self.inch
        left = LEFT + column * (width + GAP)
        top = TOP + sum(self.rows[:row]) * self.inch + HEAD * row
        axes = self.figure.add_axes(
            (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        )
        axes.set_facecolor(BACKGROUND)
        axes.set_xlim(-self.column / 2, self.column / 2)
        axes.set_ylim(-self.rows[row] / 2, self.rows[row] / 2)
        axes.set_autoscale_on(False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        for x, text in zip((0.012, 0.988), edges, strict=True):
            axes.text(x, 0.5, text, color=FAINT, size=9.5, ha="center", va="center", transform=axes.transAxes)
        return axes

    def scale_bar(self, axes: Axes) -> None:
        """A bar of a round length in the lower left corner."""
        length = 50 if self.column > 120 else 10
        left, bottom = axes.get_xlim()[0] + 0.03 * self.column, axes.get_ylim()[0] + 0.02 * self.column
        axes.plot([left, left + length], [bottom, bottom], color=FAINT, linewidth=2.2, solid_capstyle="butt")
        axes.text(
            left + length / 2,
            bottom + 0.012 * self.column,
            f"{length} mm",
            color=FAINT,
            size=8.5,
            ha="center",
        )


def centred(shape: Sequence[int], pitch: Sequence[float]) -> tuple[float, float, float, float]:
    """Extent of a picture (rows, columns) with its centre at the origin, for pixels of (height, width) mm."""
    height, width = shape[0] * pitch[0] / 2, shape[1] * pitch[1] / 2
    return (-width, width, -height, height)
