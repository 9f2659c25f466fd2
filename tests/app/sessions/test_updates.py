"""Sessions and classes are changed, and images are sent a second time."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa

from app.sessions.errors import (
    ByteLimit,
    ClassExists,
    ClassNotFound,
    DuplicateImage,
    ExampleExists,
    ExampleLimit,
    SessionNotFound,
)
from app.sessions.store import SessionStore
from csrn_client.schemas import ClassChange, SessionChange
from tests.support.stores import QUOTAS, Opener, classes, create, disabled, example, names

pytestmark = pytest.mark.anyio
TWO_CLASSES = (example("1", "a", image="1"), example("2", "b"), example("3", "a", image="3"))


def change(**members: Any) -> ClassChange:
    return ClassChange(**members)


async def test_only_the_given_settings_of_a_session_change(store: SessionStore) -> None:
    created = await create(store, "ann", example("1"), ttl_s=60)
    assert await store.update("ann", created.id, SessionChange()) == created
    renamed = await store.update("ann", created.id, SessionChange(name="new"))
    assert renamed == created.model_copy(update={"name": "new"})
    cleared = await store.update("ann", created.id, SessionChange(name=None, ttl_s=None))
    assert (cleared.name, cleared.expires_at, cleared.metadata) == (None, None, created.metadata)
    replaced = await store.update("ann", created.id, SessionChange(metadata={"other": 1}))
    assert replaced == cleared.model_copy(update={"metadata": {"other": 1}})
    assert await store.get("ann", created.id) == replaced
    for owner, session_id in (("bob", created.id), ("ann", "none")):
        with pytest.raises(SessionNotFound):
            await store.update(owner, session_id, SessionChange(name="x"))


async def test_a_new_ttl_counts_from_the_change(store: SessionStore) -> None:
    created = await create(store, ttl_s=1.0)
    await asyncio.sleep(0.5)
    longer = await store.update("ann", created.id, SessionChange(ttl_s=600))
    assert longer.expires_at is not None
    assert 600.4 < (longer.expires_at - created.created_at).total_seconds() < 605
    await store.update("ann", created.id, SessionChange(ttl_s=0.05))
    await asyncio.sleep(0.1)
    with pytest.raises(SessionNotFound):
        await store.update("ann", created.id, SessionChange(ttl_s=600))


async def test_an_export_has_the_time_to_live_that_was_set_last(store: SessionStore) -> None:
    created = await create(store, ttl_s=1000.25)
    for change, ttl_s in (({}, 1000.25), ({"ttl_s": 60}, 60), ({"name": "n"}, 60), ({"ttl_s": None}, None)):
        await store.update("ann", created.id, SessionChange(**change))
        session, examples, exported_ttl_s = await store.load_for_export("ann", created.id)
        assert (session.id, examples, exported_ttl_s) == (created.id, [], ttl_s)
    with pytest.raises(SessionNotFound):
        await store.load_for_export("bob", created.id)


async def test_new_metadata_count_against_the_bytes_of_the_owner(opener: Opener) -> None:
    store = Opener(opener.url, dataclasses.replace(QUOTAS, bytes=100)).open()
    session = await create(store, "ann", example("1"))
    with pytest.raises(ByteLimit):
        await store.update("ann", session.id, SessionChange(name="new", metadata={"k": "x" * 60}))
    assert await store.get("ann", session.id) == session
    await store.update("ann", session.id, SessionChange(metadata={"k": "x" * 30}))
    with pytest.raises(ByteLimit):
        await store.add_examples("ann", session.id, [example("2")])
    await store.update("ann", session.id, SessionChange(metadata={}))
    await store.add_examples("ann", session.id, [example("2")])
    await store.close()


async def test_sessions_are_found_by_their_exact_name(store: SessionStore) -> None:
    named = []
    for name in ("new", "New", "new", "newer", "new"):
        created = await create(store)
        session = await store.update("ann", created.id, SessionChange(name=name))
        named += [session] if name == "new" else []
    await store.update("bob", (await create(store, "bob")).id, SessionChange(name="new"))
    page, cursor = await store.list_page("ann", limit=2, cursor=None, name="new")
    assert page == named[:2]
    assert await store.list_page("ann", limit=2, cursor=cursor, name="new") == (named[2:], None)
    assert await store.list_page("ann", limit=2, cursor=None, name="") == ([], None)


async def test_a_renamed_class_keeps_its_examples_and_its_place(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    renamed = await store.update_class("ann", session.id, "a", change(label="笑"))
    assert (renamed.label, renamed.examples, renamed.example_ids) == ("笑", 2, ["1", "3"])
    found, examples = await store.load_examples("ann", session.id)
    assert names(examples) == [("笑", "1"), ("b", "2"), ("笑", "3")]
    assert ([*classes(found)], found.revision) == (["笑", "b"], 2)
    assert await store.get_class("ann", session.id, "笑") == renamed
    with pytest.raises(ClassNotFound):
        await store.get_class("ann", session.id, "a")


async def test_a_class_cannot_take_the_label_of_another(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    with pytest.raises(ClassExists):
        await store.update_class("ann", session.id, "a", change(label="b", enabled=False))
    with pytest.raises(ClassNotFound):
        await store.update_class("ann", session.id, "none", change(label="b"))
    assert (await store.update_class("ann", session.id, "a", change(label="a"))).examples == 2
    assert await store.get("ann", session.id) == session, "nothing changed"


async def test_a_disabled_class_keeps_its_examples_and_is_not_loaded_for_scoring(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    before = await store.version("ann", session.id)
    changed = await store.update_class("ann", session.id, "a", change(enabled=False))
    assert (changed.enabled, changed.examples) == (False, 2)
    assert (await store.version("ann", session.id)).revision == before.revision + 1
    await store.update_class("ann", session.id, "a", change(enabled=False))
    assert (await store.version("ann", session.id)).revision == before.revision + 1, "nothing changed"
    found, examples = await store.load_examples("ann", session.id, enabled_only=True)
    assert (names(examples), disabled(found)) == ([("b", "2")], {"a"})
    assert len((await store.load_examples("ann", session.id))[1]) == 3
    await store.update_class("ann", session.id, "b", change(enabled=False))
    assert (await store.load_examples("ann", session.id, enabled_only=True))[1] == []
    await store.update_class("ann", session.id, "a", change(label="c", enabled=True))
    found, examples = await store.load_examples("ann", session.id, enabled_only=True)
    assert (names(examples), disabled(found)) == ([("c", "1"), ("c", "3")], {"b"})


async def test_a_class_stays_disabled_until_it_loses_its_last_example(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    for label in "ab":
        await store.update_class("ann", session.id, label, change(enabled=False))
    await store.update_class("ann", session.id, "b", change(label="c"))
    await store.add_examples("ann", session.id, [example("4", "a")])
    await store.replace_class("ann", session.id, "a", [example("5", "a"), example("6", "a")])
    await store.delete_example("ann", session.id, "a", "5")
    assert disabled(await store.get("ann", session.id)) == {"a", "c"}
    await store.delete_example("ann", session.id, "a", "6")
    await store.delete_class("ann", session.id, "c")
    again, _ = await store.add_examples("ann", session.id, [example("1", label) for label in "a"])
    assert disabled(again) == set()
    again, _ = await store.add_examples("ann", session.id, [example("2", "c")])
    assert disabled(again) == set()


async def test_an_image_is_an_example_of_a_session_once(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    sent = [
        example("4", "c", image="1"),
        example("5", "c", image="new"),
        example("6", "d", image="new"),
        example("7", "d"),
    ]
    after, left_out = await store.add_examples("ann", session.id, sent)
    assert (sorted(left_out), classes(after)) == (["4", "6"], {"a": 2, "b": 1, "c": 1, "d": 1})
    with pytest.raises(ExampleExists):
        await store.add_examples("ann", session.id, [example("1", image="1")])
    with pytest.raises(DuplicateImage):
        await store.add_examples("ann", session.id, [example("8", image="1")])
    assert await store.get("ann", session.id) == after, "nothing changed"
    await store.add_examples("ann", (await create(store)).id, [example("1", image="1")])


async def test_example_ids_can_be_checked_before_they_are_used(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    await store.check_ids("ann", session.id, ["4", "5"])
    await store.check_ids("ann", (await create(store)).id, ["1"])
    for ids in (["4", "1"], ["4", "4"]):
        with pytest.raises(ExampleExists, match=ids[-1]):
            await store.check_ids("ann", session.id, ids)


async def test_a_left_out_image_does_not_count_against_the_quotas(store: SessionStore) -> None:
    own = [example(str(index), image=str(index)) for index in range(QUOTAS.examples - 1)]
    session = await create(store, "ann", *own)
    copies = [example(f"copy {index}", f"class {index}", image="0") for index in range(6)]
    after, _ = await store.add_examples("ann", session.id, [*copies, example("last", image="last")])
    assert classes(after) == {"a": QUOTAS.examples}
    with pytest.raises(ExampleLimit):
        await store.add_examples("ann", session.id, [example("more", image="more")])


async def test_the_images_that_are_replaced_can_be_sent_again(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    sent = [example("4", "a", image="3"), example("5", "a", image="1"), example("6", "a", image="3")]
    after, left_out = await store.replace_class("ann", session.id, "a", sent)
    assert (left_out, classes(after)) == (["6"], {"b": 1, "a": 2})
    with pytest.raises(DuplicateImage):
        await store.replace_class("ann", session.id, "b", [example("7", "b", image="1")])
    assert await store.get("ann", session.id) == after, "class b is still there"
    await store.delete_class("ann", session.id, "a")
    await store.add_examples("ann", session.id, [example("8", "b", image="1")])


async def test_the_same_image_sent_to_several_replicas_at_once_is_added_once(opener: Opener) -> None:
    replicas = [opener.open() for _ in range(4)]
    session = await create(replicas[0])
    sent = (
        replicas[number % 4].add_examples(
            "ann", session.id, [example(str(number), str(number), image="same")]
        )
        for number in range(12)
    )
    results = await asyncio.gather(*sent, return_exceptions=True)
    assert [type(result) for result in results].count(DuplicateImage) == 11
    assert (await replicas[0].get("ann", session.id)).revision == 1
    for replica in replicas:
        await replica.close()


async def test_a_query_asks_the_store_for_one_row_whatever_is_disabled(store: SessionStore) -> None:
    session = await create(store, "ann", *TWO_CLASSES)
    await store.update_class("ann", session.id, "a", change(enabled=False))
    statements: list[str] = []

    @sa.event.listens_for(store._database._reads, "before_cursor_execute")
    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    await store.load_examples("ann", session.id, enabled_only=True)
    assert len([text for text in statements if text.startswith("SELECT")]) == 3
    statements.clear()
    await store.version("ann", session.id)
    assert len(statements) <= 1, "on SQLite the driver runs it without SQLAlchemy"
