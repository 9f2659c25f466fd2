from __future__ import annotations

from app.api.responses import quality_response
from model.leave_one_out import LeftOut


def left_out(label: str, *predictions: tuple[str, float]) -> list[LeftOut]:
    return [
        LeftOut(example_id=f"{label}{index}", label=label, predicted=predicted, margin=margin)
        for index, (predicted, margin) in enumerate(predictions)
    ]


def test_quality_states_which_classes_are_confused() -> None:
    examples = [
        *left_out("a", *[("a", 0.2)] * 4, ("b", -0.1)),
        *left_out("b", ("b", 0.1), ("a", -0.3), ("c", -0.4), ("a", -0.2)),
        *left_out("c", ("c", 0.1), ("b", -0.1)),
    ]
    quality = quality_response(7, {"a": 5, "b": 4, "c": 2, "d": 1}, examples, unknown_below=0.4)
    assert (quality.revision, quality.labels) == (7, ["a", "b", "c", "d"])
    assert (quality.accuracy, quality.unknown_below) == (6 / 11, 0.4)
    assert quality.confusion == [[4, 1, 0, 0], [2, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert [entry.verdict for entry in quality.classes] == ["clear", "confused", "mixed", "not_measurable"]
    b = quality.classes[1]
    assert [(other.label, other.examples) for other in b.confused_with] == [("a", 2), ("c", 1)]
    assert [example.example_id for example in b.confusing_examples] == ["b2", "b1", "b3"]
    assert b.detail == (
        "1 of 4 examples are classified correctly. The others look like a, c: "
        "replace them, or add clearer ones."
    )
    assert quality.classes[0].detail.startswith("4 of 5 examples are classified correctly.")
    assert "only one example" in quality.classes[3].detail


def test_a_class_alone_cannot_be_judged() -> None:
    quality = quality_response(1, {"a": 3}, [], unknown_below=0.4)
    assert quality.accuracy is None
    assert quality.classes[0].correct is None
    assert "only class" in quality.classes[0].detail
