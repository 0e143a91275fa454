"""The page, used as people use it in a real Chromium; `make page` runs it, and leaves screenshots in out/page.

Nothing of it runs with the suite: it needs a browser, `chromium` of the distribution or what CHROMIUM names.
"""

import base64
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from tests.omni.server import servers

OUT = servers.ROOT / "out" / "page"
SAMPLES = servers.ROOT / "samples"
KEY = "a-key-of-the-page"
# A browser that has a microphone, and asks nobody whether it may be used.
FLAGS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"]
PHONE = {"width": 390, "height": 844}

CHECKS: list[Callable[[Page], None]] = []


def check(function: Callable[[Page], None]) -> Callable[[Page], None]:
    """One thing that people do; each begins with a page that has just been opened."""
    CHECKS.append(function)
    return function


def send(page: Page, text: str) -> None:
    """Write a message and send it by keyboard alone."""
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_hidden(timeout=300_000)


def drop(page: Page, selector: str, name: str, kind: str) -> None:
    """Let a file fall onto an element."""
    data = base64.b64encode((SAMPLES / name).read_bytes()).decode()
    page.evaluate(
        """([selector, data, name, type]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
            const event = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
            document.querySelector(selector).dispatchEvent(event);
        }""",
        [selector, data, name, kind],
    )


@check
def chat_by_keyboard(page: Page) -> None:
    send(page, "Hello")
    expect(page.locator("li.assistant")).to_contain_text("shapes")
    expect(page.locator("li.assistant .note")).to_contain_text("tokens in")
    page.reload()
    expect(page.locator("#messages li")).to_have_count(2)  # conversations stay in the browser
    page.get_by_role("button", name="New").click()
    expect(page.locator("#messages li")).to_have_count(0)


@check
def picture_recording_and_clip(page: Page) -> None:
    drop(page, "#chat", "shapes.png", "image/png")
    send(page, "What is in this picture?")
    expect(page.locator("li.assistant").last).to_contain_text(re.compile("circle|square|triangle"))
    page.locator("#files").set_input_files(SAMPLES / "seven.flac")
    send(page, "What is said?")
    expect(page.locator("li.assistant").last).to_contain_text(re.compile("seven", re.IGNORECASE))
    page.locator("#files").set_input_files(SAMPLES / "star.mp4")
    send(page, "What is in this video?")
    expect(page.locator("li.assistant").last).to_contain_text("star", timeout=60_000)
    page.get_by_role("button", name="What the model sees").first.click()
    expect(page.locator(".seen img").first).to_be_visible(timeout=300_000)
    page.locator("#messages").evaluate("list => list.scrollTo(0, 0)")
    page.screenshot(path=OUT / "chat.png")


@check
def microphone(page: Page) -> None:
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Stop recording").click()
    expect(page.locator("#waiting audio")).to_be_visible(timeout=60_000)
    send(page, "What is this?")
    expect(page.locator("li.assistant")).not_to_have_class(re.compile("error"))


@check
def stop_button(page: Page) -> None:
    page.route("**/v1/chat/completions", lambda route: None)  # no answer ever comes
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("li.assistant .note")).to_have_text("stopped")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Hello")
    page.unroute_all(behavior="ignoreErrors")


@check
def wrong_file(page: Page) -> None:
    page.locator("#files").set_input_files(servers.ROOT / "LICENSE")
    expect(page.get_by_role("status").first).to_contain_text("no picture, recording or clip")


@check
def similarity_of_media(page: Page) -> None:
    page.get_by_role("tab", name="Chat").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare")).to_be_visible()
    drop(page, ".slot:first-child", "shapes.png", "image/png")
    drop(page, ".slot:last-child", "shapes.png", "image/png")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#similarity")).to_have_text("Cosine similarity 1.000", timeout=300_000)
    page.get_by_role("button", name="Remove").last.click()
    page.get_by_label("Text of thing 2").fill("a red circle")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#similarity")).to_contain_text(re.compile(r"-?0\.\d{3}"), timeout=300_000)
    page.screenshot(path=OUT / "compare.png")


def open_page(browser: Browser, url: str, *, phone: bool, dark: bool) -> Page:
    """A fresh page, with its key; whatever it asks of others, or says on its console, is a failure."""
    context = browser.new_context(
        viewport=PHONE if phone else {"width": 1100, "height": 800},  # pyright: ignore[reportArgumentType]
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        permissions=["microphone"],
    )
    page = context.new_page()
    page.on("request", lambda request: _check_own(request.url, url))
    page.on("pageerror", lambda error: _fail(str(error)))
    page.goto(url)
    expect(page.get_by_label("API key")).to_be_visible()
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_text("demo")
    return page


FAILURES: list[str] = []


def _fail(what: str) -> None:
    FAILURES.append(what)


def _check_own(asked: str, url: str) -> None:
    if not asked.startswith((url, "data:", "blob:")):
        _fail(f"the page asked {asked[:200]}")


def main() -> int:
    """Run every check; print how it went."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium is installed: apt-get install chromium, or name one with CHROMIUM=", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    with servers.process("demo", "--max-batch", "4", "--api-key", KEY) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for i, one in enumerate(CHECKS):
            page = open_page(browser, server.url, phone=i % 2 == 1, dark=i % 4 > 1)
            try:
                one(page)
                assert not FAILURES, FAILURES
                wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
                assert not wide, "the page is wider than its window"
                print(f"ok      {one.__name__}")
            except (AssertionError, Error) as error:
                failed += 1
                print(f"FAILED  {one.__name__}: {str(error)[:1000]}")
            page.screenshot(path=OUT / f"{one.__name__}.png")
            page.context.close()
            FAILURES.clear()
    print(f"{len(CHECKS) - failed} passed, {failed} failed; screenshots are in {OUT.relative_to(Path.cwd())}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
