"""Any history of calls leaves the store in the same state as a plain model in memory, on each database."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Coroutine, Iterable
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
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.store import SessionStore
from model.support_set import Example
from tests.support.stores import QUOTAS, Opener, classes, create, example, names

T = TypeVar("T")
Error = type[Exception] | None
Names = list[tuple[str, str]]
"""Label and id of each example"""
LABELS = st.sampled_from(["a", "b", "笑 い", "d/e", "é"])
IDS = st.sampled_from([str(index) for index in range(12)])
EXAMPLES = st.lists(st.builds(example, IDS, LABELS), min_size=1, max_size=5)
OWNERS = ("ann", "bob")
REPLICAS = st.integers(0, 1)


@dataclasses.dataclass
class Expected:
    """The session that the store should hold."""

    owner: str
    revision: int = 0
    examples: Names = dataclasses.field(default_factory=list)
    deleted: bool = False

    def without(self, label: str) -> Names:
        return [kept for kept in self.examples if kept[0] != label]

    def labels(self) -> list[str]:
        return [label for label, _ in self.examples]


def named(examples: Iterable[Example]) -> Names:
    return [(new.label, new.example_id) for new in examples]


def refusal(kept: Names, added: Names) -> Error:
    """The error that adding to these examples should raise, if any."""
    both = kept + added
    if len({name for _, name in both}) < len(both):
        return ExampleExists
    if len({label for label, _ in both}) > QUOTAS.classes:
        return ClassLimit
    return ExampleLimit if len(both) > QUOTAS.examples else None


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

    def change(self, session: str, error: Error, call: Coroutine[Any, Any, object], after: Names) -> None:
        """Make a call after which the session should hold these examples, unless it is refused."""
        expected = self.expected[session]
        if not self.refused(SessionNotFound if expected.deleted else error, call):
            expected.examples = after
            expected.revision += 1

    def owner(self, session: str) -> str:
        return self.prefix + self.expected[session].owner

    def alive(self, owner: str) -> list[str]:
        return [key for key, known in self.expected.items() if known.owner == owner and not known.deleted]

    @rule(target=sessions, owner=st.sampled_from(OWNERS), examples=st.just([]) | EXAMPLES, at=REPLICAS)
    def create(self, owner: str, examples: list[Example], at: int) -> Any:
        full = len(self.alive(owner)) >= QUOTAS.sessions
        error = SessionLimit if full else refusal([], named(examples))
        call = create(self.replicas[at], self.prefix + owner, *examples)
        if error:
            self.refused(error, call)
            return multiple()
        session = self.call(call)
        self.expected[session.id] = Expected(owner, int(bool(examples)), named(examples))
        return session.id

    @rule(session=sessions, examples=EXAMPLES, at=REPLICAS)
    def add(self, session: str, examples: list[Example], at: int) -> None:
        kept, added = self.expected[session].examples, named(examples)
        call = self.replicas[at].add_examples(self.owner(session), session, examples)
        self.change(session, refusal(kept, added), call, kept + added)

    @rule(session=sessions, label=LABELS, ids=st.lists(IDS, min_size=1, max_size=4), at=REPLICAS)
    def replace(self, session: str, label: str, ids: list[str], at: int) -> None:
        examples = [example(name, label) for name in ids]
        kept, added = self.expected[session].without(label), named(examples)
        call = self.replicas[at].replace_class(self.owner(session), session, label, examples)
        self.change(session, refusal(kept, added), call, kept + added)

    @rule(session=sessions, label=LABELS, at=REPLICAS)
    def delete_class(self, session: str, label: str, at: int) -> None:
        expected = self.expected[session]
        error = None if label in expected.labels() else ClassNotFound
        call = self.replicas[at].delete_class(self.owner(session), session, label)
        self.change(session, error, call, expected.without(label))

    @rule(session=sessions, nth=st.integers(0, QUOTAS.examples), at=REPLICAS)
    def delete_example(self, session: str, nth: int, at: int) -> None:
        expected = self.expected[session]
        label, name = [*expected.examples, ("a", "none")][min(nth, len(expected.examples))]
        missing = ExampleNotFound if label in expected.labels() else ClassNotFound
        call = self.replicas[at].delete_example(self.owner(session), session, label, name)
        after = [kept for kept in expected.examples if kept != (label, name)]
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
            assert names(examples) == expected.examples
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
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[*HealthCheck]
        ),
    )
