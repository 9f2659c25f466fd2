from __future__ import annotations

from app.inference.fairness import Lane, Lanes


def test_owners_take_turns_and_so_do_the_sessions_of_an_owner() -> None:
    lanes = Lanes[str]()
    for session_id in "xyz":
        lane = Lane(owner="ann", session_id=session_id)
        lanes.add(lane, [f"ann-{session_id}{index}" for index in range(2)])
    lanes.add(Lane(owner="bob", session_id="v"), ["bob-v0", "bob-v1", "bob-v2"])
    order = ["ann-x0", "bob-v0", "ann-y0", "bob-v1", "ann-z0", "bob-v2", "ann-x1", "ann-y1", "ann-z1"]
    assert [lanes.take(lambda _: True) for _ in order] == order
    assert "ann" not in lanes


def test_a_session_whose_item_is_not_wanted_keeps_its_turn_before_other_sessions() -> None:
    lanes = Lanes[int]()
    lanes.add(Lane(owner="ann", session_id="x"), [1])
    lanes.add(Lane(owner="ann", session_id="y"), [2, 4])
    assert lanes.take(lambda item: item % 2 == 0) is None
    assert [lanes.take(lambda _: True) for _ in range(3)] == [1, 2, 4]


def test_a_lane_whose_first_item_is_not_wanted_keeps_its_turn() -> None:
    lanes = Lanes[int]()
    lanes.add(Lane(owner="ann"), [1, 2])
    lanes.add(Lane(owner="bob"), [4])
    assert lanes.take(lambda item: item % 2 == 0) == 4
    assert lanes.take(lambda item: item % 2 == 0) is None
    assert [lanes.take(lambda _: True) for _ in range(3)] == [1, 2, None]
