"""The page in a browser: on a phone, by keyboard alone, in both themes, while a run is at work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import page_project
import pytest
from page_project import Project
from playwright.sync_api import Browser, Page, expect, sync_playwright

Scheme = Literal["light", "dark"]
PATIENCE = 120_000
"""Milliseconds for whatever a browser waits for: a busy machine takes long."""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const over = (top, below) => [0, 1, 2].map((at) => below[at] + (top[at] - below[at]) * top[3] / 255).concat(255);
  const own = (one) => rgba(getComputedStyle(one).backgroundColor);
  const ground = (one) => one ? over(own(one), ground(one.parentElement)) : [255, 255, 255];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = [];
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), one = texts.currentNode.parentElement;
    if (!text || !one.checkVisibility() || one.closest(".sr, noscript, select")) continue;
    const style = getComputedStyle(one), below = ground(one);
    const color = one.closest("svg") ? style.fill : style.color;
    const [dark, bright] = [light(over(rgba(color), below)), light(below)].sort((x, y) => x - y);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) poor.push([text, color, (bright + 0.05) / (dark + 0.05)]);
  }
  return poor;
}"""
"""Texts whose contrast is below 4.5, as WCAG 2.2 counts it: with the colour and the ratio."""


pytestmark = pytest.mark.skipif(
    not Path("/usr/bin/chromium").exists(), reason="needs Debian's chromium: apt-get install it"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return page_project.make(tmp_path_factory.mktemp("page") / "project", 60)


@pytest.fixture(scope="module")
def url(project: Project) -> Iterator[str]:
    """The page, with one run at work."""
    with page_project.working(project.root, project.working), page_project.serve(project.root) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        yield playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])


@pytest.fixture
def window(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 375, "height": 740})
    page.set_default_timeout(PATIENCE)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert problems == []  # nothing that the policy stopped either


def paths(project: Project) -> list[str]:
    run = f"/runs/{project.finished[0]}"
    pages = ["/runs", "/runs?q=nosuchthing", run, f"{run}/mistakes", f"{run}/params", f"/runs/{project.working}"]
    return [
        *pages,
        f"/runs/{project.working}/log",
        f"/runs/{project.stopped[1]}",
        f"/compare?before={run[6:]}&after={project.champion}",
    ]


def test_a_phone_scrolls_no_page_sideways(window: Page, url: str, project: Project) -> None:
    for path in paths(project):
        window.goto(url + path)
        assert window.evaluate("document.documentElement.scrollWidth") <= 375, path
        assert window.title().endswith("Convoy"), path


TABLES = """() => [...document.querySelectorAll(".chart details")].map((details) => {
  details.open = true;
  const room = details.querySelector(".scroll"), card = details.closest(".card").getBoundingClientRect();
  room.scrollLeft = 1e6;
  const edges = [room, room.querySelector("table")].map((one) => one.getBoundingClientRect().right);
  return room.tabIndex === 0 && edges[0] <= card.right && edges[1] <= edges[0] + 1;
})"""
"""Whether each table of a chart can be scrolled, by keys too, to its last column within its card."""


@pytest.mark.parametrize("width", [375, 1200])
def test_the_numbers_of_a_chart_can_be_read_to_the_last_column(
    window: Page, url: str, project: Project, width: int
) -> None:
    window.set_viewport_size({"width": width, "height": 740})
    for run in (project.finished[0], project.working):
        window.goto(f"{url}/runs/{run}")
        found = window.evaluate(TABLES)
        assert len(found) >= 4 and all(found)
        assert window.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_is_enough_to_find_and_compare_runs(window: Page, url: str, project: Project) -> None:
    window.goto(f"{url}/runs")
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.textContent") == "Skip to the content"
    window.keyboard.press("/")
    window.keyboard.type("state of nothing")
    window.wait_for_url(f"{url}/runs?q=state%20of%20nothing")
    window.get_by_text("No run fits").wait_for()
    window.keyboard.press("Control+a")
    window.keyboard.insert_text(project.champion[:8])  # at once: between keys a busy machine would look for half of it
    window.wait_for_url(f"{url}/runs?q={project.champion[:8]}")
    expect(window.locator("tbody tr")).to_have_count(1)
    window.evaluate("history.back()")  # the driver's own way is cut off, for the page loads itself anew
    window.get_by_text("No run fits").wait_for()
    assert window.url == f"{url}/runs?q=state%20of%20nothing"
    window.evaluate("history.forward()")
    window.locator("tbody tr").wait_for()
    assert window.url == f"{url}/runs?q={project.champion[:8]}"
    window.locator("input[name=run]").press("Space")
    window.goto(f"{url}/runs?page=2")
    window.locator("input[name=run]").last.press("Space")
    window.get_by_role("link", name="Compare", exact=True).press("Enter")
    window.wait_for_url("**/compare?before=*")
    assert project.champion in window.url


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Browser, url: str, project: Project, scheme: Scheme) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    for path in paths(project):
        page.goto(url + path)
        assert page.evaluate(CONTRAST) == [], path
    page.close()


@pytest.mark.slow
def test_a_list_that_is_open_sees_a_run_end(browser: Browser, tmp_path: Path) -> None:
    project = page_project.make(tmp_path / "project", 4)
    with page_project.serve(project.root) as url:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        with page_project.working(project.root, project.working):
            page.goto(f"{url}/runs")
            page.get_by_text("epoch 7 of 10").wait_for()
        page.get_by_text("epoch 7 of 10").wait_for(state="detached")
        page.locator("tbody tr").first.get_by_text("stopped short").wait_for()
        page.close()


@pytest.mark.slow
def test_verifying_is_a_job_whose_words_can_be_followed(browser: Browser, tmp_path: Path) -> None:
    project = page_project.make(tmp_path / "project", 2)  # in no git repository: it is refused, in words
    with page_project.serve(project.root) as url:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}/runs/{project.champion}")
        page.get_by_role("button", name="Verify").click()
        page.wait_for_url("**/jobs/*")
        page.get_by_text("failed").first.wait_for()
        expect(page.locator("#log")).to_contain_text("not a git repository")
        page.get_by_role("link", name="Jobs").click()
        page.get_by_role("link", name="verify").wait_for()
        page.close()
