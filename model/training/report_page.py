"""The report of `csrn evaluate` as one HTML page, with its pictures inside the file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.training.confused_pairs import ConfusedPair, Face
from model.training.report import Comparison, Report
from model.training.report_charts import draw_face, draw_parts, draw_shots

CSS = Path(__file__).with_name("report_page.css")


def write_report(report: Report, path: Path, *, settings: Mapping[str, str]) -> None:
    """Write the report. Raises: OSError.

    Args: settings, further rows of the settings table: name to value.
    """
    path.write_text(report_page(report, settings=settings), encoding="utf-8")


def report_page(report: Report, *, settings: Mapping[str, str]) -> str:
    """The report as an HTML document."""
    evaluation = report.evaluation
    kind = f"{evaluation.way}-way {evaluation.shot}-shot"
    sections = [_figures(report), _confusion(report)]
    about = "Accuracy by the number of examples of each class. The episodes are alike in all else."
    charts = [_chart(draw_shots(report), "Accuracy by shots", about)]
    if report.parts:
        about = "A class score is the weighted mean of its parts. Each bar uses one part and no other."
        charts.append(_chart(draw_parts(report), "Part by part", about))
    sections.append(f'<div class="charts">{"".join(charts)}</div>')
    if report.confused_pairs:
        sections.append(_pairs(report.confused_pairs))
    if report.against:
        sections.append(_against(report.against))
    sections.append(_settings(report, settings))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation: {kind}, {_percent(evaluation.accuracy)}</title>
<style>{CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>Evaluation of {_text(settings.get("weights", "the weights"))}</h1>
<p class="lead">{kind} episodes: {evaluation.episodes} small problems with {evaluation.way} classes each.
Every class has {_count(evaluation.shot, "example")}, and {_count(evaluation.query, "query", "queries")} to
classify. Intervals (±) are 95 % intervals over episodes; another data set can differ by more.</p>
{"".join(sections)}
</main>
</body>
</html>
"""


def _figures(report: Report) -> str:
    evaluation, unknown = report.evaluation, report.unknown
    figures = [
        (
            f"{100 * evaluation.accuracy:.1f} <small>± {100 * evaluation.ci95:.1f} %</small>",
            f"accuracy, where chance is {_percent(1 / evaluation.way)}",
        )
    ]
    if unknown is not None:
        figures += [
            (_percent(unknown.known_kept), "of the queries of taught classes get a class"),
            (_percent(unknown.absent_told), "of the queries of a class without examples are called unknown"),
        ]
    cells = "".join(f"<div><dd>{value}</dd><dt>{meaning}</dt></div>" for value, meaning in figures)
    return f'<dl class="figures">{cells}</dl>'


def _confusion(report: Report) -> str:
    evaluation = report.evaluation
    labels = list(evaluation.confusion)
    rows = []
    for label, row in evaluation.confusion.items():
        queries = sum(row.values())
        cells = "".join(_cell(row[column], queries, is_correct=column == label) for column in labels)
        about = f"{report.images[label]} images, {queries} queries"
        rows.append(f'<tr><th scope="row">{_text(label)}<small>{about}</small></th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{_text(label)}</th>' for label in labels)
    note = (
        "A query can only be confused with the other classes of its episode. "
        if evaluation.way < len(labels)
        else ""
    )
    return f"""<section>
<h2>Which classes are confused</h2>
<p>Each row shows where the queries of one class went: the share and, below it, the number of queries.
The outlined cells are correct answers. {note}</p>
<div class="scroll"><table class="confusion">
<thead><tr><td rowspan="2"></td><th colspan="{len(labels)}">predicted class</th></tr><tr>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody>
</table></div>
</section>
"""


def _cell(count: int, queries: int, *, is_correct: bool) -> str:
    """A cell whose blue is as deep as the share is large."""
    share = count / max(queries, 1)
    # From white to a blue on which white text is easy to read.
    red, green, blue = (round(255 + share * (deep - 255)) for deep in (8, 81, 156))
    kinds = " ".join(["correct"] * is_correct + ["deep"] * (share > 0.75))
    return (
        f'<td class="{kinds}" style="background: rgb({red} {green} {blue})">'
        f"{100 * share:.0f} %<small>{count}</small></td>"
    )


def _chart(svg: bytes, title: str, about: str) -> str:
    picture = f'<img src="{_inline(svg, "svg+xml")}" alt="{title}, as a chart">'
    return f"<section><h2>{title}</h2><p>{about}</p>{picture}</section>"


def _pairs(pairs: Sequence[ConfusedPair]) -> str:
    cards = []
    for pair in pairs:
        rows = "".join(
            f"<li>{_face(query.query, 'query')}"
            f'<span class="arrow" aria-hidden="true">→</span>{_face(query.nearest, "nearest example")}'
            f"<p>{_count(query.times, 'time')}</p></li>"
            for query in pair.queries
        )
        count = f"{_percent(pair.share)} of its queries ({pair.count})"
        cards.append(
            f"<section><h3>{_text(pair.label)} → {_text(pair.predicted)}</h3>"
            f"<p>{count}</p><ol>{rows}</ol></section>"
        )
    return f"""<section>
<h2>Most confused pairs</h2>
<p>Left, a query of the first class that was classified as the second; right, the example of the second
class that it resembles most. The pictures are the patches that the network sees: face, eyes and lips.</p>
<div class="pairs">{"".join(cards)}</div>
</section>
"""


def _face(face: Face, role: str) -> str:
    source = _text(face.source)
    picture = f'<img src="{_inline(draw_face(face), "jpeg")}" alt="{role}: face, eyes and lips of {source}">'
    return f"<figure>{picture}<figcaption>{role}<br>{source}</figcaption></figure>"


def _against(comparisons: Sequence[Comparison]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(other.name)}</th>'
        f"<td>{_percent(other.evaluation.accuracy)} ± {100 * other.evaluation.ci95:.1f}</td>"
        f"<td>{100 * other.difference:+.1f} ± {100 * other.difference_ci95:.1f} points</td></tr>"
        for other in comparisons
    )
    return f"""<section>
<h2>On the same episodes</h2>
<table class="plain">
<thead><tr><th>compared with</th><th>its accuracy</th><th>these weights are better by</th></tr></thead>
<tbody>{rows}</tbody></table>
</section>
"""


def _settings(report: Report, settings: Mapping[str, str]) -> str:
    evaluation = report.evaluation
    lines = {
        **settings,
        "weights, SHA-256": evaluation.weights_sha256,
        "episodes": f"{evaluation.episodes}, {evaluation.way}-way {evaluation.shot}-shot, "
        f"{_count(evaluation.query, 'query', 'queries')} per class, seed {evaluation.seed}",
    }
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in lines.items()
    )
    return f'<section><h2>Settings</h2><table class="plain"><tbody>{rows}</tbody></table></section>'


def _text(text: str) -> str:
    """Text for HTML; bytes of a file name that are not UTF-8 are shown as \\xNN."""
    return html.escape(text.encode(errors="surrogateescape").decode(errors="backslashreplace"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _inline(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
