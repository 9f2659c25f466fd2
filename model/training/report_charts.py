"""The pictures of an evaluation report: two charts, and the patches of a face."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from model.training.confused_pairs import Face
from model.training.report import Report
from model.vision.patches import LAYOUTS

BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#767676", "#1b1f24"
"""Colours that people with any colour vision can tell apart (Okabe and Ito)"""
STYLE: Any = {
    # The browser draws the text with its own fonts.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
}
FACE_PX, GAP_PX = 128, 4


def draw_shots(report: Report) -> bytes:
    """Accuracy by the number of shots, with intervals and the chance line, as an SVG."""
    points = report.shot_curve or (report.evaluation,)
    with matplotlib.rc_context(STYLE):
        figure, axes = _chart()
        places = range(len(points))
        means = [100 * point.accuracy for point in points]
        intervals = [100 * point.ci95 for point in points]
        axes.errorbar(places, means, intervals, color=BLUE, marker="o", markersize=7, capsize=5, linewidth=2)
        for place, mean, interval in zip(places, means, intervals, strict=True):
            axes.annotate(
                f"{mean:.1f} ± {interval:.1f}",
                (place, min(mean + interval, 100)),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
            )
        axes.set_xticks(places, [str(point.shot) for point in points])
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 20))
        axes.set_xlabel("shots: examples of each class")
        axes.set_ylabel("accuracy in %")
        axes.grid(axis="y", color="#e4e7eb")
        chance = 100 / report.evaluation.way
        axes.axhline(chance, color=GREY, linestyle="--", linewidth=1.2)
        axes.text(-0.45, chance - 1, f"chance {chance:.1f} %", color=GREY, ha="left", va="top")
        return _svg(figure)


def draw_parts(report: Report) -> bytes:
    """Accuracy of each part alone beside that of all parts, with intervals and the chance line, as an SVG."""
    evaluation = report.evaluation
    rows: list[tuple[str, float, float]] = [("all parts", evaluation.accuracy, evaluation.ci95)]
    alone = sorted(report.parts.items(), key=lambda item: -item[1].alone)
    rows += [(name, part.alone, part.alone_ci95) for name, part in alone]
    with matplotlib.rc_context(STYLE):
        figure, axes = _chart()
        places = np.arange(len(rows))
        means = [100 * mean for _, mean, _ in rows]
        axes.barh(
            places,
            means,
            xerr=[100 * interval for _, _, interval in rows],
            color=[ORANGE, *[BLUE] * len(alone)],
            height=0.66,
            error_kw={"ecolor": INK, "capsize": 4, "elinewidth": 1.2},
        )
        for place, mean, (_, _, interval) in zip(places, means, rows, strict=True):
            axes.annotate(
                f"{mean:.1f} ± {100 * interval:.1f}",
                (min(mean + 100 * interval, 100), place),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(places, [name for name, _, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 125)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("accuracy in %, each part alone")
        chance = 100 / evaluation.way
        axes.axvline(chance, color=INK, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"chance {chance:.1f} %",
            (chance, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            color=INK,
            ha="center",
            va="bottom",
        )
        return _svg(figure)


def draw_face(face: Face) -> bytes:
    """The face patch, and right of it eyes over lips in the proportions of the image, as a JPEG."""
    layout = LAYOUTS[face.layout]
    height = (FACE_PX - GAP_PX) // 2
    whole, eyes, lips = (Image.fromarray(patch) for patch in face.patches)
    widths = [round(height * region[0] / region[1]) for region in (layout.eyes, layout.lips)]
    picture = Image.new("RGB", (FACE_PX + GAP_PX + max(widths), FACE_PX), "white")
    picture.paste(whole.resize((FACE_PX, FACE_PX)), (0, 0))
    picture.paste(eyes.resize((widths[0], height)), (FACE_PX + GAP_PX, 0))
    picture.paste(lips.resize((widths[1], height)), (FACE_PX + GAP_PX, height + GAP_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _chart() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
