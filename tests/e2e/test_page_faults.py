"""The page with two tabs or two keys, without its service, and when a change is made during another one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium, open_page
from tests.support.page_views import answer, card, choose_from_menu, shots
from tests.support.samples import SAMPLES
from tests.support.service import Service

pytestmark = needs_chromium
expect.set_options(timeout=15_000)
KEY, OTHER_KEY = "mine-" * 8, "other-" * 8

SKIP_STEPS = """async () => {
  (await import("./page/remembered.js")).setStepsDone(true);
  (await import("./page/state.js")).changed("classes");
}"""
HOLD = """() => {
  const ask = window.fetch;
  const free = new Promise((resolve) => { window.letGo = resolve; });
  window.held = false;
  window.fetch = async (url, options) => {
    const response = await ask(url, options);
    if (!url.endsWith("/examples")) return response;
    window.held = true;
    await free;
    return response;
  };
}"""
PICTURES = """() => new Promise((resolve) => {
  indexedDB.open("csrn", 1).onsuccess = ({ target: { result } }) => {
    const request = result.transaction("pictures").objectStore("pictures").getAllKeys();
    request.onsuccess = () => { result.close(); resolve(request.result); };
  };
})"""
"""The keys of the pictures that the browser keeps"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two keys, for the tests of this module."""
    keys = f"me:{KEY},other:{OTHER_KEY}"
    with Service(tmp_path_factory.mktemp("service"), CSRN_API_KEYS=keys) as service:
        service.client.headers["Authorization"] = f"Bearer {KEY}"
        yield service


@pytest.fixture
def page(service: Service, browser: Browser) -> Iterator[Page]:
    """A page of someone who has not been here and skips the first steps."""
    with open_page(browser, service.url, key=KEY, quick=True) as page:
        page.locator("main:not([inert])").wait_for()
        page.evaluate(SKIP_STEPS)
        yield page


def photos(expression: str, *numbers: int) -> list[Path]:
    return [SAMPLES / expression / f"{number:02d}.jpg" for number in numbers]


def teach(page: Page, label: str, files: list[Path]) -> None:
    page.get_by_label("New expression").fill(label)
    page.keyboard.press("Enter")
    add(page, label, files)


def add(page: Page, label: str, files: list[Path]) -> None:
    page.get_by_label(f"Add photos to {label}", exact=True).set_input_files(files)


def rename(page: Page, label: str, name: str) -> None:
    page.get_by_role("textbox", name=f"Name of {label}", exact=True).fill(name)
    page.keyboard.press("Enter")


def delete_everything(page: Page) -> None:
    choose_from_menu(page, "Delete everything")
    page.get_by_role("dialog").get_by_role("button", name="Delete everything").click()


def session_ids(page: Page) -> list[str]:
    """The sessions that the page remembers for its key, the one in use last."""
    ids: list[str] = page.evaluate(
        "import('./page/remembered.js').then((remembered) => remembered.sessions())"
    )
    return ids


def on_service(service: Service, session: str) -> dict[str, int]:
    """The number of examples of each class of a session on the service."""
    classes = service.client.get(f"/v1/sessions/{session}").json()["classes"]
    return {entry["label"]: entry["examples"] for entry in classes}


def open_tab(page: Page, key: str) -> Page:
    """Another tab of the same browser."""
    tab = page.context.new_page()
    tab.goto(page.url)
    tab.get_by_label("API key").fill(key)
    tab.keyboard.press("Enter")
    tab.locator("main:not([inert])").wait_for()
    return tab


@contextlib.contextmanager
def answers_held(page: Page) -> Iterator[None]:
    """The service adds examples, but the page gets the answers only at the end."""
    page.evaluate(HOLD)
    yield
    page.evaluate("letGo()")


def wait_until_held(page: Page) -> None:
    """Wait until the service has added the first example."""
    while not page.evaluate("held"):
        page.wait_for_timeout(20)


def test_nothing_is_stored_once_everything_was_deleted(service: Service, page: Page) -> None:
    with answers_held(page):
        choose_from_menu(page, "Try the samples")
        wait_until_held(page)
        delete_everything(page)
        expect(page.locator("#notices")).to_contain_text("Everything was deleted.")
    page.wait_for_timeout(300)
    assert on_service(service, session_ids(page)[-1]) == {}
    with answers_held(page):
        page.get_by_role("button", name="Capture it").click()
        wait_until_held(page)
        delete_everything(page)
        expect(page.locator("#notices")).to_contain_text("Everything was deleted.")
    page.wait_for_timeout(300)
    expect(page.locator(".card")).to_have_count(0)
    assert on_service(service, session_ids(page)[-1]) == {}
    assert page.evaluate(PICTURES) == []


def test_photos_that_are_added_go_into_no_other_session_and_no_removed_class(
    service: Service, page: Page, tmp_path: Path
) -> None:
    teach(page, "one", photos("anger", 0, 1))
    expect(shots(page, "one")).to_have_count(2)
    with page.expect_download() as download:
        choose_from_menu(page, "Export the session")
    download.value.save_as(tmp_path / "mine.safetensors")
    with answers_held(page):
        add(page, "one", photos("anger", 2, 3, 4))
        wait_until_held(page)
        page.get_by_label("Import a session").set_input_files(tmp_path / "mine.safetensors")
        expect(page.locator("#notices")).to_contain_text("The session was imported.")
    page.wait_for_timeout(300)
    assert [on_service(service, session) for session in session_ids(page)] == [{"one": 2}, {"one": 2}]
    # This browser knows the pictures of its own export.
    expect(card(page, "one").locator(".shot img")).to_have_count(2)
    with answers_held(page):
        add(page, "one", photos("anger", 2, 3, 4))
        wait_until_held(page)
        page.get_by_role("button", name="Remove one", exact=True).click()
    expect(page.locator(".card")).to_have_count(0)
    page.wait_for_timeout(300)
    assert on_service(service, session_ids(page)[-1]) == {}


def test_each_key_of_a_browser_keeps_its_session_and_pictures(service: Service, page: Page) -> None:
    teach(page, "one", photos("anger", 0, 1))
    expect(shots(page, "one")).to_have_count(2)
    made = session_ids(page)
    other = open_tab(page, OTHER_KEY)
    expect(other.locator(".step.current")).to_contain_text("Show an expression")
    assert made[-1] not in session_ids(other)
    delete_everything(other)
    expect(other.locator("#notices")).to_contain_text("Everything was deleted.")
    page.reload()
    expect(card(page, "one").locator(".shot img")).to_have_count(2)
    assert session_ids(page) == made


def test_two_tabs_keep_each_others_pictures_and_colours_and_follow_when_everything_is_deleted(
    service: Service, page: Page
) -> None:
    teach(page, "one", photos("anger", 0, 1))
    expect(shots(page, "one")).to_have_count(2)
    other = open_tab(page, KEY)
    expect(shots(other, "one")).to_have_count(2)
    page.bring_to_front()
    teach(page, "two", photos("sadness", 0, 1))
    page.get_by_role("button", name="Change the colour of two").click()
    expect(shots(page, "two")).to_have_count(2)
    colours = page.locator(".card").evaluate_all("all => all.map(card => card.dataset.color)")
    other.bring_to_front()
    other.clock.install()
    other.get_by_role("button", name="Remove shot 1 of one").click()
    expect(shots(other, "one")).to_have_count(1)
    other.clock.fast_forward(11_000)  # the time to undo ends
    expect(other.get_by_role("button", name="Undo")).to_have_count(0)
    page.bring_to_front()
    page.reload()
    expect(page.locator(".shot img")).to_have_count(3)
    assert page.locator(".card").evaluate_all("all => all.map(card => card.dataset.color)") == colours
    assert len(page.evaluate(PICTURES)) == 3
    delete_everything(page)
    expect(page.locator(".card")).to_have_count(0)
    expect(other.locator(".card")).to_have_count(0)
    other.locator("main:not([inert])").wait_for()
    assert session_ids(other) == session_ids(page)
    assert page.evaluate(PICTURES) == []


def test_a_class_keeps_one_name_on_the_service_and_its_undo_whatever_is_done_meanwhile(
    service: Service, page: Page
) -> None:
    teach(page, "smile", photos("happiness", 0))
    expect(shots(page, "smile")).to_have_count(1)
    with answers_held(page):
        add(page, "smile", photos("happiness", 1, 2))
        wait_until_held(page)
        rename(page, "smile", "grin")
        page.wait_for_timeout(200)
    expect(shots(page, "grin")).to_have_count(3)
    assert on_service(service, session_ids(page)[-1]) == {"grin": 3}
    # After a reload a removal is undone in the class that was renamed since.
    page.get_by_role("button", name="Remove shot 1 of grin").click()
    expect(shots(page, "grin")).to_have_count(2)
    page.reload()
    expect(shots(page, "grin")).to_have_count(2)
    rename(page, "grin", "laugh")
    expect(card(page, "laugh")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(shots(page, "laugh")).to_have_count(3)
    assert on_service(service, session_ids(page)[-1]) == {"laugh": 3}
    # What is in another class by now is not shown twice, and a class without shots is switched on again.
    page.get_by_role("switch", name="Recognise laugh").uncheck()
    expect(card(page, "laugh")).to_contain_text("Off")
    page.get_by_role("button", name="Remove laugh", exact=True).click()
    expect(page.locator(".card")).to_have_count(0)
    teach(page, "two", photos("happiness", 1))
    expect(shots(page, "two")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(shots(page, "laugh")).to_have_count(2)
    expect(card(page, "laugh")).to_contain_text("Not added: this picture is already here.")
    for left in (1, 0):
        page.get_by_role("button", name="Remove shot 1 of laugh").click()
        expect(shots(page, "laugh")).to_have_count(left)
    expect(card(page, "laugh").locator(".verdict")).to_be_hidden()
    add(page, "laugh", photos("happiness", 3))
    expect(page.get_by_role("switch", name="Recognise laugh")).to_be_checked()


def test_what_is_not_done_without_the_service_is_said(service: Service, page: Page) -> None:
    teach(page, "one", photos("anger", 0))
    expect(shots(page, "one")).to_have_count(1)
    page.context.set_offline(True)
    notices = page.locator("#notices")
    add(page, "one", photos("anger", 1, 2, 3))
    expect(card(page, "one")).to_contain_text("Not added (3): the service does not answer.")
    expect(notices).to_contain_text("Not done: the service does not answer.")
    delete_everything(page)
    page.wait_for_timeout(300)
    page.context.set_offline(False)
    expect(notices).to_have_text("The service is back. What you did meanwhile was not done.")
    expect(card(page, "one").locator(".shot img")).to_have_count(1)


def test_a_session_that_other_weights_made_is_replaced_but_still_deleted_with_everything(
    service: Service, page: Page
) -> None:
    choose_from_menu(page, "Try the samples")
    expect(answer(page)).to_have_text("Looks like happiness")
    page.get_by_label("Unknown below").focus()
    page.keyboard.press("End")
    expect(answer(page)).to_have_text("Unknown")
    choose_from_menu(page, "Try the samples")  # starts with an expression that is recognised
    expect(answer(page)).to_have_text("Looks like happiness")
    problem = {"status": 409, "code": "model_changed", "detail": "The session was taught with other weights"}
    page.route("**/classify", lambda route: route.fulfill(status=409, json=problem))
    page.get_by_role("button", name="Classify a sample of sadness").click()
    expect(page.locator("#notices")).to_contain_text("or was taught with other weights. This is a new one.")
    made = session_ids(page)
    assert len(made) == 2
    delete_everything(page)
    expect(page.locator("#notices")).to_contain_text("Everything was deleted.")
    assert [service.client.get(f"/v1/sessions/{one}").status_code for one in made] == [404, 404]
