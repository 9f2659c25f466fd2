"""The page in a real Chromium: its classes, its answers, and the session behind them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium, open_page
from tests.support.page_views import answer, card, choose_from_menu, look, shots, try_samples
from tests.support.samples import SAMPLES, encoded, no_face, sample_bytes, sample_image
from tests.support.service import Service

pytestmark = needs_chromium
expect.set_options(timeout=20_000)


DROPPED = """async (url) => {
  const files = new DataTransfer();
  files.items.add(new File([await (await fetch(url)).blob()], "face.jpg", { type: "image/jpeg" }));
  return files;
}"""
"""Makes what a browser passes on when a file is dropped"""


def add_photos(page: Page, label: str, *photos: Path) -> None:
    page.get_by_label(f"Add photos to {label}").set_input_files(photos)


def session_ids(page: Page) -> list[str]:
    """The sessions that the page remembers, the one in use last."""
    ids: list[str] = page.evaluate("JSON.parse(localStorage.getItem('csrn.sessions'))")
    return ids


def example_ids(service: Service, page: Page, label: str) -> list[str]:
    ids: list[str] = service.client.get(f"/v1/sessions/{session_ids(page)[-1]}/classes/{label}").json()[
        "example_ids"
    ]
    return ids


def test_samples_are_taught_once_and_an_untaught_expression_is_shown_as_unknown(
    service: Service, browser: Browser
) -> None:
    with open_page(browser, service.url) as page:
        try_samples(page)
        expect(page.get_by_role("img", name="Your picture, with face, eyes and lips marked")).to_be_visible()
        choose_from_menu(page, "Try the samples")
        expect(answer(page)).to_have_text("Looks like happiness")
        expect(page.locator(".shot")).to_have_count(15)
        page.get_by_role("button", name="Classify a sample of surprise, which was not taught").click()
        expect(answer(page)).to_have_text("Unknown")
        expect(page.locator("#answer-help")).to_contain_text("Not similar enough. Nearest: ")
        look(page, "untaught")
        # The threshold changes the answer at once: nothing is asked again.
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("Unknown below").focus()
        page.keyboard.press("Home")
        expect(answer(page)).not_to_have_text("Unknown")
        expect(page.locator("#threshold-own")).to_contain_text("The session's own is 0.8")
        page.get_by_role("button", name="Reset").click()
        expect(answer(page)).to_have_text("Unknown")
        assert asked == []
        page.get_by_label("Parts of each score").check()
        expect(page.get_by_role("meter", name="movements").first).to_be_visible()
        expect(page.locator("#parts-help")).to_contain_text("how similar the movements of the faces are")
        page.get_by_label("Outline").uncheck()
        expect(page.get_by_role("img", name="Your picture", exact=True)).to_be_visible()
        # A class that is switched off does not answer, and a single class still knows what it does not know.
        for label in ("happiness", "sadness"):
            page.get_by_role("switch", name=f"Recognise {label}").uncheck()
        expect(page.get_by_role("meter", name="sadness")).to_have_count(0)
        expect(answer(page)).to_have_text("Unknown")
        anger = page.get_by_role("button", name="Classify a sample of anger")
        anger.click()
        expect(answer(page)).to_have_text("Looks like anger")
        expect(anger).to_have_attribute("aria-pressed", "true")
        expect(card(page, "sadness")).to_contain_text("Off: it is not recognised.")
        page.get_by_role("switch", name="Recognise anger").uncheck()
        expect(answer(page)).to_have_text("All expressions are switched off")
        expect(page.locator("#bars li")).to_have_count(0)


def test_classes_keep_their_names_colours_and_shots_and_what_is_removed_can_be_undone(
    service: Service, browser: Browser
) -> None:
    with open_page(browser, service.url) as page:
        try_samples(page)
        name = page.get_by_role("textbox", name="Name of anger")
        name.fill("sadness")
        page.keyboard.press("Enter")
        expect(page.locator("#notices")).to_contain_text("There is already an expression sadness.")
        expect(name).to_have_value("anger")
        name.fill("grumpy")
        page.keyboard.press("Enter")
        expect(page.get_by_role("textbox", name="Name of grumpy")).to_be_visible()
        page.get_by_role("button", name="Change the colour of grumpy").click()
        page.get_by_label("New expression").fill("空っぽ")
        page.get_by_role("button", name="Add", exact=True).click()
        expect(card(page, "空っぽ")).to_contain_text("No shots yet")
        colours = page.locator(".card").evaluate_all("all => all.map(card => card.dataset.color)")
        before = example_ids(service, page, "grumpy")
        for left in (4, 3):
            page.get_by_role("button", name="Remove shot 2 of grumpy").click()
            expect(shots(page, "grumpy")).to_have_count(left)
        expect(page.locator(".notice.with-action")).to_have_count(1)
        expect(page.locator(".notice.with-action")).to_contain_text("2 shots of grumpy were removed.")
        assert len(example_ids(service, page, "grumpy")) == 3
        page.reload()
        expect(page.locator(".card")).to_have_count(4)
        assert page.locator(".card").evaluate_all("all => all.map(card => card.dataset.color)") == colours
        expect(card(page, "grumpy").locator(".shot img")).to_have_count(3)
        page.get_by_role("button", name="Undo").click()
        expect(shots(page, "grumpy")).to_have_count(5)
        assert sorted(example_ids(service, page, "grumpy")) == sorted(before)
        page.get_by_role("button", name="Remove happiness", exact=True).click()
        expect(page.get_by_role("textbox", name="Name of happiness")).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        expect(shots(page, "happiness")).to_have_count(5)
        assert len(example_ids(service, page, "happiness")) == 5


def test_rejected_photos_are_grouped_with_their_reason_and_confusing_shots_are_marked(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    notes, empty, wrong = tmp_path / "notes.jpg", tmp_path / "empty.png", tmp_path / "wrong.png"
    notes.write_text("no image")
    empty.write_bytes(no_face())
    wrong.write_bytes(encoded(sample_image("anger", 6)))
    with open_page(browser, service.url) as page:
        try_samples(page)
        add_photos(page, "happiness", notes, empty, empty, SAMPLES / "anger" / "00.jpg", wrong)
        rejected = card(page, "happiness").locator(".rejections li")
        expect(rejected).to_have_count(3)
        expect(rejected.nth(0)).to_have_text("Not added: not a readable image.")
        expect(rejected.nth(1)).to_have_text("Not added (2): no face found.")
        expect(rejected.nth(1).locator("img")).to_have_count(2)
        expect(rejected.nth(2)).to_have_text("Not added: this picture is already here.")
        confusing = card(page, "happiness").locator(".shot.confusing")
        expect(confusing).to_have_count(1)
        expect(confusing.get_by_role("button")).to_have_attribute(
            "aria-label", "Remove shot 6 of happiness, which looks more like anger"
        )
        expect(card(page, "happiness").locator(".verdict")).to_contain_text(
            "Clear 5 of 6 shots are recognised. The marked ones look more like anger."
        )
        look(page, "rejected")
        for left in (2, 1, 0):
            rejected.first.get_by_role("button", name="Dismiss").click()
            expect(rejected).to_have_count(left)


def test_the_bars_of_many_expressions_are_sorted_by_score(service: Service, browser: Browser) -> None:
    made = service.client.post("/v1/sessions", json={}).json()["id"]
    photos = [sample_bytes(expression, index) for expression in ("anger", "surprise") for index in range(4)]
    labels = [f"class number {place}" for place in range(len(photos))]
    support = [("images", photo) for photo in photos]
    added = service.client.post(f"/v1/sessions/{made}/support", files=support, data={"labels": labels})
    added.raise_for_status()
    with open_page(browser, service.url) as page:
        expect(page.locator(".step.current")).to_be_visible()
        page.evaluate(f"localStorage.setItem('csrn.sessions', JSON.stringify(['{made}']))")
        page.reload()
        expect(page.locator(".card")).to_have_count(len(labels))
        page.get_by_label("Classify photo").set_input_files(SAMPLES / "surprise" / "05.jpg")
        meters = page.get_by_role("meter")
        expect(meters).to_have_count(len(labels))
        scores = [float(meter.inner_text().split()[-1]) for meter in meters.all()]
        assert scores == sorted(scores, reverse=True)
        cut = page.locator("#bars .label").evaluate_all(
            "all => all.filter(e => e.scrollWidth > e.offsetWidth).length"
        )
        assert cut == 0
        look(page, "many")


def test_the_first_steps_name_and_rename_expressions_and_a_close_call_names_both(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.png"
    empty.write_bytes(no_face())
    with open_page(browser, service.url) as page:
        page.get_by_label("Name").fill("laugh")
        page.get_by_label("Use photos instead").set_input_files(empty)
        expect(card(page, "laugh")).to_contain_text("no face found")
        # The class of the failed try gets the name of the next one.
        page.get_by_label("Name", exact=True).fill("smile")
        page.get_by_label("Use photos instead").set_input_files(SAMPLES / "happiness" / "00.jpg")
        expect(page.locator(".step.current")).to_contain_text("Show another one")
        expect(page.locator(".card")).to_have_count(1)
        page.get_by_label("Name", exact=True).fill("smile")
        photos = page.get_by_label("Use photos instead")
        photos.set_input_files(SAMPLES / "happiness" / "01.jpg")
        expect(page.locator("#notices")).to_contain_text("smile is taught already. Name another expression.")
        page.get_by_label("Name", exact=True).fill("grin")
        expect(photos).to_have_value("")  # so that the same photo can be chosen again
        photos.set_input_files(SAMPLES / "happiness" / "01.jpg")
        expect(shots(page, "grin")).to_have_count(1)
        dropped = page.evaluate_handle(DROPPED, f"{service.url}/samples/happiness/05.jpg")
        page.locator("#stage").dispatch_event("drop", {"dataTransfer": dropped})
        expect(answer(page)).to_have_text("smile, or maybe grin")


def test_everything_that_the_browser_made_can_be_exported_imported_and_deleted(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    with open_page(browser, service.url) as page:
        try_samples(page)
        with page.expect_download() as download:
            choose_from_menu(page, "Export the session")
        download.value.save_as(tmp_path / "mine.safetensors")
        page.get_by_label("Import a session").set_input_files(tmp_path / "mine.safetensors")
        expect(page.locator("#notices")).to_contain_text("The session was imported.")
        expect(page.locator(".shot img")).to_have_count(15)  # the browser knows its own export
        # Without a picture in this browser the page asks before it removes a shot.
        page.evaluate("import('./page/pictures.js').then((pictures) => pictures.keepSessions([]))")
        page.reload()
        expect(page.locator(".shot .no-picture")).to_have_count(15)
        page.get_by_role("button", name="Remove shot 1 of anger").click()
        expect(page.get_by_role("dialog")).to_contain_text("cannot be undone")
        page.get_by_role("button", name="Cancel").click()
        expect(shots(page, "anger")).to_have_count(5)
        made = session_ids(page)
        assert len(made) == 2
        choose_from_menu(page, "Delete everything")
        page.get_by_role("dialog").get_by_role("button", name="Delete everything").click()
        expect(page.locator(".step.current")).to_contain_text("Show an expression")
        expect(page.locator("#picture")).to_be_hidden()
        expect(page.locator(".card")).to_have_count(0)
        assert [service.client.get(f"/v1/sessions/{one}").status_code for one in made] == [404, 404]


def test_the_programs_that_use_the_session_by_api_run_as_they_are_copied(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "face.jpg").write_bytes((SAMPLES / "sadness" / "06.jpg").read_bytes())
    empty = tmp_path / "empty.png"
    empty.write_bytes(no_face())
    copied: dict[str, str] = {}
    with open_page(browser, service.url, allowed=("clipboard-read", "clipboard-write")) as page:
        try_samples(page)
        page.get_by_role("button", name="Use it by API").click()
        look(page, "api")
        for language in ("curl", "Python", "JavaScript"):
            page.get_by_role("button", name=f"Copy {language}").click()
            expect(page.get_by_role("button", name=f"Copy {language}")).to_contain_text("Copied")
            copied[language] = page.evaluate("navigator.clipboard.readText()")
        page.get_by_role("button", name="Close").click()
        page.evaluate("document.body.prepend(Object.assign(document.createElement('input'), {type: 'file'}))")
        page.locator("input[type=file]").first.set_input_files(tmp_path / "face.jpg")
        with page.expect_console_message() as message:
            page.evaluate(f"async () => {{ {copied['JavaScript']} }}")
        assert message.value.text == "sadness"
        page.locator("input[type=file]").first.set_input_files(empty)
        page.evaluate(f"async () => {{ {copied['JavaScript']} }}")
    curl = subprocess.run(["sh", "-c", copied["curl"]], cwd=tmp_path, capture_output=True, text=True)
    assert '"predicted":"sadness"' in curl.stdout, curl.stderr
    program = [sys.executable, "-c", copied["Python"]]
    with_client = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    python = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, env=with_client)
    assert python.stdout.startswith("sadness\nsadness 0.9"), python.stderr
    empty.replace(tmp_path / "face.jpg")
    python = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, env=with_client)
    assert (python.returncode, python.stdout) == (0, ""), python.stderr
