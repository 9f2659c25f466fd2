"""Any history of calls leaves the store in the same state as a plain model in memory, on each database."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.sessions.errors import (
    ClassExists,
    ClassLimit,
    ClassNotFound,
    DuplicateImage,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.store import SessionStore
from csrn_client.schemas import ClassChange
from model.support_set import Example
from tests.support.stores import QUOTAS, Opener, classes, create, disabled, example, names

T = TypeVar("T")
HISTORIES = int(os.environ.get("FUZZ_EXAMPLES", "10"))  # make fuzz tries more
Error = type[Exception] | None
Held = list[Example]
LABELS = st.sampled_from(["a", "b", "笑 い", "d/e", "é"])
NEW_LABELS = st.sampled_from(["a", "b", "笑 い", "é"])
IDS = st.sampled_from([str(index) for index in range(12)])
IMAGES = st.none() | st.sampled_from("xyz")
EXAMPLES = st.lists(st.builds(example, IDS, LABELS, image=IMAGES), min_size=1, max_size=5)
OWNERS = ("ann", "bob")
REPLICAS = st.integers(0, 1)


@dataclasses.dataclass
class Expected:
    """The session that the store should hold."""

    owner: str
    revision: int = 0
    examples: Held = dataclasses.field(default_factory=list)
    disabled: set[str] = dataclasses.field(default_factory=set)
    deleted: bool = False

    def without(self, label: str) -> Held:
        return [kept for kept in self.examples if kept.label != label]

    def labels(self) -> list[str]:
        return [kept.label for kept in self.examples]


def after_adding(kept: Held, added: Held) -> tuple[Error, Held]:
    """The error that adding to these examples should raise, if any, and the examples afterwards."""
    ids = [example.example_id for example in kept + added]
    if len(set(ids)) < len(ids):
        return ExampleExists, kept
    after = [*kept]
    for new in added:
        if new.image_sha256 is None or new.image_sha256 not in [held.image_sha256 for held in after]:
            after.append(new)
    if added and len(after) == len(kept):
        return DuplicateImage, kept
    if len({held.label for held in after}) > QUOTAS.classes:
        return ClassLimit, kept
    return (ExampleLimit, kept) if len(after) > QUOTAS.examples else (None, after)


class History(RuleBasedStateMachine):
    sessions: Bundle[str] = Bundle("sessions")
    opener: Opener

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.replicas = [self.opener.open(), self.opener.open()]
        self.prefix = secrets.token_hex(4)
        self.expected: dict[str, Expected] = {}

    def teardown(self) -> None:
        for replica in self.replicas:
            self.call(replica.close())
        self.loop.close()

    def call(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def refused(self, error: Error, call: Coroutine[Any, Any, object]) -> bool:
        """Make the call. Asserts that it raises the error, if there should be one."""
        if error is None:
            self.call(call)
            return False
        with pytest.raises(error):
            self.call(call)
        return True

    def change(self, session: str, error: Error, call: Coroutine[Any, Any, object], after: Held) -> None:
        """Make a call after which the session should hold these examples, unless it is refused."""
        expected = self.expected[session]
        if not self.refused(SessionNotFound if expected.deleted else error, call):
            expected.examples = after
            expected.disabled &= {*expected.labels()}
            expected.revision += 1

    def owner(self, session: str) -> str:
        return self.prefix + self.expected[session].owner

    def alive(self, owner: str) -> list[str]:
        return [key for key, known in self.expected.items() if known.owner == owner and not known.deleted]

    @rule(target=sessions, owner=st.sampled_from(OWNERS), examples=st.just([]) | EXAMPLES, at=REPLICAS)
    def create(self, owner: str, examples: list[Example], at: int) -> Any:
        full = len(self.alive(owner)) >= QUOTAS.sessions
        error, after = after_adding([], examples)
        error = SessionLimit if full else error
        call = create(self.replicas[at], self.prefix + owner, *examples)
        if error:
            self.refused(error, call)
            return multiple()
        session = self.call(call)
        self.expected[session.id] = Expected(owner, int(bool(examples)), after)
        return session.id

    @rule(session=sessions, examples=EXAMPLES, at=REPLICAS)
    def add(self, session: str, examples: list[Example], at: int) -> None:
        error, after = after_adding(self.expected[session].examples, examples)
        call = self.replicas[at].add_examples(self.owner(session), session, examples)
        self.change(session, error, call, after)

    @rule(session=sessions, label=LABELS, examples=EXAMPLES, at=REPLICAS)
    def replace(self, session: str, label: str, examples: list[Example], at: int) -> None:
        examples = [dataclasses.replace(new, label=label) for new in examples]
        error, after = after_adding(self.expected[session].without(label), examples)
        call = self.replicas[at].replace_class(self.owner(session), session, label, examples)
        self.change(session, error, call, after)

    @rule(
        session=sessions,
        label=LABELS,
        new=st.none() | NEW_LABELS,
        enabled=st.none() | st.booleans(),
        at=REPLICAS,
    )
    def update_class(self, session: str, label: str, new: str | None, enabled: bool | None, at: int) -> None:
        expected, change = self.expected[session], ClassChange(label=new, enabled=enabled)
        call = self.replicas[at].update_class(self.owner(session), session, label, change)
        was_enabled, labels = label not in expected.disabled, expected.labels()
        new = label if new is None else new
        enabled = was_enabled if enabled is None else enabled
        error: Error = SessionNotFound if expected.deleted else None
        if not error and label not in labels:
            error = ClassNotFound
        elif not error and new != label and new in labels:
            error = ClassExists
        if self.refused(error, call) or (label, was_enabled) == (new, enabled):
            return
        expected.examples = [
            dataclasses.replace(held, label=new) if held.label == label else held
            for held in expected.examples
        ]
        expected.disabled = expected.disabled - {label} | (set() if enabled else {new})
        expected.revision += 1

    @rule(session=sessions, label=LABELS, at=REPLICAS)
    def delete_class(self, session: str, label: str, at: int) -> None:
        expected = self.expected[session]
        error = None if label in expected.labels() else ClassNotFound
        call = self.replicas[at].delete_class(self.owner(session), session, label)
        self.change(session, error, call, expected.without(label))

    @rule(session=sessions, nth=st.integers(0, QUOTAS.examples), at=REPLICAS)
    def delete_example(self, session: str, nth: int, at: int) -> None:
        expected = self.expected[session]
        chosen = [*expected.examples, example("none")][min(nth, len(expected.examples))]
        label, name = chosen.label, chosen.example_id
        missing = ExampleNotFound if label in expected.labels() else ClassNotFound
        call = self.replicas[at].delete_example(self.owner(session), session, label, name)
        after = [kept for kept in expected.examples if kept is not chosen]
        self.change(session, missing if name == "none" else None, call, after)

    @rule(session=sessions, dice=st.integers(1, 6), at=REPLICAS)
    def delete_session(self, session: str, dice: int, at: int) -> None:
        if dice < 6:
            return  # else most of a history would be about deleted sessions
        expected = self.expected[session]
        error = SessionNotFound if expected.deleted else None
        self.refused(error, self.replicas[at].delete(self.owner(session), session))
        expected.deleted = True

    @rule(at=REPLICAS)
    def restart(self, at: int) -> None:
        self.call(self.replicas[at].close())
        self.replicas[at] = self.opener.open()

    @invariant()
    def replicas_hold_what_the_model_holds(self) -> None:
        """Asks one replica after each step, in turns."""
        self.replicas.reverse()
        self.call(self.check(self.replicas[0]))

    async def check(self, replica: SessionStore) -> None:
        for session, expected in self.expected.items():
            if expected.deleted:
                with pytest.raises(SessionNotFound):
                    await replica.get(self.owner(session), session)
                continue
            found, examples = await replica.load_examples(self.owner(session), session)
            assert names(examples) == [(held.label, held.example_id) for held in expected.examples]
            assert [e.image_sha256 for e in examples] == [e.image_sha256 for e in expected.examples]
            assert disabled(found) == expected.disabled
            assert classes(found) == {label: expected.labels().count(label) for label in expected.labels()}
            assert list(classes(found)) == list(dict.fromkeys(expected.labels()))
            assert found.revision == expected.revision
        for owner in OWNERS:
            listed, _ = await replica.list_page(self.prefix + owner, limit=100, cursor=None)
            assert [session.id for session in listed] == self.alive(owner)


def test_any_history(opener: Opener) -> None:
    machine = type("History", (History,), {"opener": opener})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
