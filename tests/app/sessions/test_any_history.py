"""Any history of calls leaves the store as a plain model of it in memory, on each database."""

from __future__ import annotations

import asyncio
import dataclasses
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
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from model.support_set import Example
from tests.support.stores import QUOTAS, Opener, example, names, new_session

T = TypeVar("T")
LABELS = st.sampled_from(["a", "b", "笑 い", "d/e", "é"])
IDS = st.sampled_from([str(index) for index in range(12)])
EXAMPLES = st.lists(st.builds(example, IDS, LABELS), min_size=1, max_size=5)
OWNERS = ("ann", "bob")


@dataclasses.dataclass
class Expected:
    """What a session must hold."""

    owner: str
    revision: int = 0
    examples: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    deleted: bool = False

    def without(self, label: str) -> list[tuple[str, str]]:
        return [kept for kept in self.examples if kept[0] != label]

    def refusal(self, kept: list[tuple[str, str]], added: list[Example]) -> type[Exception] | None:
        """Why `added` cannot join `kept`, if it cannot."""
        ids = [name for _, name in kept] + [new.example_id for new in added]
        if len(set(ids)) < len(ids):
            return ExampleExists
        labels = {label for label, _ in kept} | {new.label for new in added}
        if len(labels) > QUOTAS.classes:
            return ClassLimit
        return ExampleLimit if len(ids) > QUOTAS.examples else None

    def change(self, examples: list[tuple[str, str]]) -> None:
        self.examples = examples
        self.revision += 1

    @property
    def classes(self) -> dict[str, int]:
        labels = [label for label, _ in self.examples]
        return {label: labels.count(label) for label in labels}


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

    def refused(self, error: type[Exception] | None, call: Coroutine[Any, Any, object]) -> bool:
        """Whether the call was rightly refused; if it should not be, it is made."""
        if error is None:
            self.call(call)
            return False
        with pytest.raises(error):
            self.call(call)
        return True

    def owned(self, session: str) -> tuple[str, Expected, type[Exception] | None]:
        expected = self.expected[session]
        owner = f"{self.prefix}{expected.owner}"
        return owner, expected, SessionNotFound if expected.deleted else None

    @rule(target=sessions, owner=st.sampled_from(OWNERS), examples=st.just([]) | EXAMPLES, at=st.booleans())
    def create(self, owner: str, examples: list[Example], at: bool) -> Any:
        expected = Expected(owner)
        own = [other for other in self.expected.values() if other.owner == owner and not other.deleted]
        error = SessionLimit if len(own) >= QUOTAS.sessions else expected.refusal([], examples)
        call = self.replicas[at].create(f"{self.prefix}{owner}", new_session(), examples)
        if error:
            with pytest.raises(error):
                self.call(call)
            return multiple()
        session = self.call(call)
        if examples:
            expected.change([(new.label, new.example_id) for new in examples])
        self.expected[session.id] = expected
        return session.id

    @rule(session=sessions, examples=EXAMPLES, at=st.booleans())
    def add(self, session: str, examples: list[Example], at: bool) -> None:
        owner, expected, gone = self.owned(session)
        error = gone or expected.refusal(expected.examples, examples)
        if not self.refused(error, self.replicas[at].add_examples(owner, session, examples)):
            expected.change(expected.examples + [(new.label, new.example_id) for new in examples])

    @rule(session=sessions, label=LABELS, ids=st.lists(IDS, min_size=1, max_size=4), at=st.booleans())
    def replace(self, session: str, label: str, ids: list[str], at: bool) -> None:
        owner, expected, gone = self.owned(session)
        examples = [example(name, label) for name in ids]
        error = gone or expected.refusal(expected.without(label), examples)
        if not self.refused(error, self.replicas[at].replace_class(owner, session, label, examples)):
            expected.change(expected.without(label) + [(label, name) for name in ids])

    @rule(session=sessions, label=LABELS, at=st.booleans())
    def delete_class(self, session: str, label: str, at: bool) -> None:
        owner, expected, gone = self.owned(session)
        error = gone or (None if label in expected.classes else ClassNotFound)
        if not self.refused(error, self.replicas[at].delete_class(owner, session, label)):
            expected.change(expected.without(label))

    @rule(session=sessions, nth=st.integers(0, QUOTAS.examples), at=st.booleans())
    def delete_example(self, session: str, nth: int, at: bool) -> None:
        owner, expected, error = self.owned(session)
        label, name = [*expected.examples, ("a", "none")][min(nth, len(expected.examples))]
        if error is None and name == "none":
            error = ExampleNotFound if label in expected.classes else ClassNotFound
        if not self.refused(error, self.replicas[at].delete_example(owner, session, label, name)):
            expected.change([kept for kept in expected.examples if kept != (label, name)])

    @rule(session=sessions, spare=st.integers(0, 5), at=st.booleans())
    def delete_session(self, session: str, spare: int, at: bool) -> None:
        if spare:
            return  # else most of a history would be about sessions that are gone
        owner, expected, gone = self.owned(session)
        if not self.refused(gone, self.replicas[at].delete(owner, session)):
            expected.deleted = True

    @rule(at=st.booleans())
    def restart(self, at: bool) -> None:
        self.call(self.replicas[at].close())
        self.replicas[at] = self.opener.open()

    @invariant()
    def every_replica_gives_what_must_be_there(self) -> None:
        """One of the two after each step, in turns."""
        self.replicas.reverse()
        for replica in self.replicas[:1]:
            for session, expected in self.expected.items():
                owner, _, gone = self.owned(session)
                if self.refused(gone, replica.get(owner, session)):
                    continue
                found, examples = self.call(replica.load_examples(owner, session))
                assert names(examples) == expected.examples
                assert list(found.classes.items()) == list(expected.classes.items())
                assert found.revision == expected.revision
            for owner in OWNERS:
                listed, _ = self.call(replica.list_page(f"{self.prefix}{owner}", limit=100, cursor=None))
                alive = [s for s, e in self.expected.items() if e.owner == owner and not e.deleted]
                assert [session.id for session in listed] == alive


def test_any_history(opener: Opener) -> None:
    machine = type("History", (History,), {"opener": opener})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
