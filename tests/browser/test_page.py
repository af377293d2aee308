"""The page of `mura serve` in a real Chromium: dropped and chosen views, keyboard, phone, light and dark.

Needs a Chromium: on Debian `apt-get install chromium`. MURA_PICTURES=DIR keeps pictures of the page.
"""

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import as_png
from miniature import picture, png
from playwright.sync_api import Browser, Page, expect, sync_playwright
from radiographs import radiograph, written
from serving import DrawnAlias, Served, draw_version, serving

WIDE, PHONE = {"width": 1100, "height": 900}, {"width": 360, "height": 740}
Open = Callable[..., Page]
# A busy machine may take its time.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, draw_version(folder / "version")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "Chromium is not here: apt-get install chromium"
    with sync_playwright() as playwright:
        yield (started := playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]))
        started.close()


@pytest.fixture
def open_page(served: Served, browser: Browser) -> Iterator[Open]:
    """Opens the page; at the end, nothing was fetched from elsewhere and nothing was complained about."""
    complaints: list[str] = []
    contexts = []

    def opened(**options: object) -> Page:
        context = browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda each: _check(each.url, served.url, complaints))
        # Of refused studies, the browser says that their status is 422.
        page.on("console", lambda each: "422" in each.text or complaints.append(each.text))
        page.on("pageerror", lambda each: complaints.append(str(each)))
        page.goto(served.url)
        expect(page.locator("#version td").first).to_be_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def _check(url: str, home: str, complaints: list[str]) -> None:
    if not url.startswith((home, "data:", "blob:")):
        complaints.append(f"fetched {url}")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    bones = picture(4, 300, 240)
    (folder / "front.png").write_bytes(png(bones))
    (folder / "bright.png").write_bytes(png(np.full((100, 80), 220, np.uint8)))
    pixels = picture(5, 320, 260).astype(np.uint16) * 16
    (folder / "side.dcm").write_bytes(written(radiograph(pixels, bits=12, BodyPartExamined="WRIST")))
    (folder / "photo.png").write_bytes(as_png("RGB"))
    return folder


def choose(page: Page, files: Path, *names: str) -> None:
    page.set_input_files("#files", [files / name for name in names])


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("MURA_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_dicom_file_and_a_png_are_answered_and_shown(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "side.dcm", "front.png")
    expect(page.locator("#verdict")).to_have_text(re.compile("^(Normal|Abnormal)$"))
    expect(page.locator("#words")).to_contain_text("Body part: wrist")
    expect(page.locator("#notes")).to_contain_text("Grey levels by")
    expect(page.locator("#views li")).to_have_count(2)
    for place, what in enumerate(("DICOM, 260 by 320 pixels", "PNG, 240 by 300 pixels")):
        view = page.locator("#views li").nth(place)
        expect(view.locator(".what")).to_have_text(what)
        assert view.locator("img").evaluate("image => image.complete && image.naturalWidth") == 512


def test_the_scale_shows_the_probability_and_the_operating_point(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "bright.png")
    expect(page.locator("#verdict")).to_have_text("Abnormal")
    said = page.locator("#scale").get_attribute("aria-label") or ""
    found = re.search(r"Probability (0\.\d+) .* Abnormal from (0\.\d+)", said)
    assert found
    probability, threshold = map(float, found.groups())
    assert page.locator("#said").inner_text() == f"Abnormal, probability {probability:.3f}."
    track = page.locator(".track").bounding_box()
    assert track
    for name, value in (("#mark", probability), ("#line", threshold)):
        box = page.locator(name).bounding_box()
        assert box
        assert box["x"] + box["width"] / 2 == pytest.approx(track["x"] + value * track["width"], abs=2)


def test_the_map_is_switched_on_and_off(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "front.png")
    canvas = page.locator("#views canvas")
    expect(page.locator("#views img")).to_be_visible()
    expect(canvas).to_be_hidden()
    page.check("#map")
    expect(canvas).to_be_visible()
    expect(page.locator("#map-words")).to_contain_text("no localisation")
    shown = "each => [...each.getContext('2d').getImageData(0, 0, each.width, each.height).data]"
    pixels = np.array(canvas.evaluate(shown)).reshape(8, 8, 4)
    # The strongest place is the most opaque; places that speak for normal are clear.
    assert pixels[..., 3].max() == round(255 * 0.75)
    assert (pixels[..., 3] == 0).any()
    page.uncheck("#map")
    expect(canvas).to_be_hidden()


def test_views_are_dropped(open_page: Open, files: Path) -> None:
    page = open_page()
    content = base64.b64encode((files / "side.dcm").read_bytes()).decode()
    drop = """content => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(content), (each) => each.charCodeAt(0))], "side.dcm"));
        for (const kind of ["dragenter", "dragover", "drop"])
            document.getElementById("drop").dispatchEvent(
                new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, content)
    expect(page.locator("#views .what")).to_have_text("DICOM, 260 by 320 pixels")


def test_a_refused_view_is_named_and_the_others_answer(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "photo.png", "front.png")
    expect(page.locator("#said")).to_contain_text("It used 1 of 2 views.")
    expect(page.locator("#views li.refused .what")).to_have_text("Refused: a PNG in colour, not a radiograph.")
    page.get_by_role("button", name="Remove view 1").click()
    expect(page.locator("#views li")).to_have_count(1)
    expect(page.locator("#said")).not_to_contain_text("It used")
    choose(page, files, "photo.png")
    page.get_by_role("button", name="Remove view 1").click()
    expect(page.locator("#wrong")).to_contain_text("No answer. View 1: a PNG in colour")
    expect(page.locator("#answer")).to_be_hidden()


def test_the_body_part_is_asked_with(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "front.png")
    expect(page.locator("#notes")).to_contain_text("The body part is not known")
    before = page.locator("#words").inner_text()
    page.select_option("#part", "wrist")
    expect(page.locator("#words")).to_contain_text("Body part: wrist")
    assert page.locator("#words").inner_text() != before
    expect(page.locator("#notes li")).to_have_count(0)


def test_names_of_files_stay_here(open_page: Open, files: Path) -> None:
    page = open_page()
    page.evaluate("""() => {
        const append = FormData.prototype.append;
        window.sent = [];
        FormData.prototype.append = function (...field) {
            window.sent.push(field.map((each) => (each instanceof File ? "" : each)));
            return append.apply(this, field);
        };
    }""")
    choose(page, files, "front.png")
    expect(page.locator("#views .name")).to_have_text("View 1: front.png")
    expect(page.locator("#verdict")).not_to_be_empty()
    sent = page.evaluate("sent")
    assert [field for field in sent if field[0] == "view"] == [["view", "", "view"]]


def test_the_keyboard_does_it_all(open_page: Open, files: Path) -> None:
    page = open_page()
    # From the start: the browser must know that somebody waits for a choice before it is asked for one.
    page.on("filechooser", lambda chooser: chooser.set_files([files / "front.png", files / "side.dcm"]))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    outline = page.locator("label.button").evaluate("label => getComputedStyle(label).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).not_to_be_empty()
    expect(page.locator("#views img")).to_have_count(2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "part"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "map"
    page.keyboard.press("Space")
    expect(page.locator("#views canvas").first).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#views li")).to_have_count(1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove view 1"
    page.keyboard.press("Enter")
    expect(page.locator("#seen")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "files"


def test_readers_of_screens_hear_the_answer(open_page: Open, files: Path) -> None:
    page = open_page()
    choose(page, files, "front.png")
    expect(page.get_by_role("status")).to_contain_text("probability 0.")
    expect(page.get_by_role("img", name=re.compile("Probability"))).to_be_visible()
    expect(page.get_by_role("img", name="View 1 as the model got it")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    for control in ("Choose views", "Body part", "Show what the network used"):
        expect(page.get_by_label(control)).to_have_count(1)


def test_it_says_which_version_and_what_it_was_measured_on(open_page: Open) -> None:
    page = open_page()
    text = page.locator("#version").inner_text()
    for said in (
        "mura 3",
        "hand, wrist",
        "kappa",
        "100 studies of 90 patients",
        "0.800 (0.750 to 0.850)",
        "abababababab",
    ):
        assert said in text
    expect(page.locator("main")).to_contain_text("Research only: not a medical device.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("form", "viewport"), [("wide", WIDE), ("phone", PHONE)])
def test_it_fits_and_is_readable(open_page: Open, files: Path, form: str, viewport: object, scheme: str) -> None:
    page = open_page(viewport=viewport, color_scheme=scheme)
    keep(page, f"{form}-{scheme}-empty")
    choose(page, files, "side.dcm", "front.png", "photo.png")
    expect(page.locator("#verdict")).not_to_be_empty()
    page.check("#map")
    keep(page, f"{form}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    texts = "h1, #verdict, #words, .soft, #notes, .button, .what, td, th, #said, .point"
    assert page.evaluate(CONTRASTS, texts) == []


# Texts whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3).
CONTRASTS = """selector => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parts(colour).slice(0, 3)
            .map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = getComputedStyle(each).backgroundColor;
            if (parts(colour)[3] !== 0) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const wrong = [];
    for (const element of document.querySelectorAll(selector)) {
        if (!element.textContent.trim() || !element.getClientRects().length) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) wrong.push(`${element.tagName} ${element.textContent.slice(0, 30)}`);
    }
    return wrong;
}"""


def test_another_version_is_told_and_its_answers_name_it(browser: Browser, files: Path, tmp_path: Path) -> None:
    alias = DrawnAlias(tmp_path / "followed")
    with serving(tmp_path, alias.folder, "--follow", "1") as running:
        page = browser.new_context(viewport=WIDE).new_page()
        page.goto(running.url)
        choose(page, files, "front.png")
        expect(page.locator("#words")).to_contain_text("mura version 3 answered")
        alias.move(4)
        expect(page.locator("#version")).to_contain_text("mura 4")
        page.locator("#part").select_option("hand")
        expect(page.locator("#words")).to_contain_text("mura version 4 answered")
        expect(page.locator("#behind")).to_be_hidden()
        alias.move(5, lambda folder: (folder / "model.sig").unlink())
        expect(page.locator("#behind")).to_contain_text("Version 5 was not taken")
        expect(page.locator("#part")).to_have_value("hand")
        page.context.close()
