"""A rater with a taste of its own, who answers on the real page in a real Chromium."""

import re

PERSONAL = re.compile(r"\b(i|i'm|i'd|i've|my|me|we|our|us|you|your)\b", re.IGNORECASE)


def likes_questions_and_people(text):
    """More questions and persons (I, we, you), then fewer words: unlike what the crowd likes."""
    return 10 * (text.count("?") + len(PERSONAL.findall(text))) - len(text.split())


class ScriptedRater:
    """Opens the page at its first visit, and answers a few questions at each.

    :param browser: Playwright's.
    :param taste: of a completion; the higher one is chosen, equal ones tie.
    :param visit: answers a visit at most.
    """

    def __init__(self, browser, taste=likes_questions_and_people, *, visit=10):
        self.browser, self.taste, self.visit = browser, taste, visit
        self.page, self.answers = None, 0

    def __call__(self, address):
        if self.page is None:
            self.page = self.browser.new_page()
            self.page.set_default_timeout(60_000)
            self.page.goto(address)
            self.page.click("a.button")
            self.page.wait_for_selector("html[data-ready]")
        elif self.page.is_visible("#done"):  # new questions may have come since it looked
            self.page.reload()
            self.page.wait_for_selector("html[data-ready]")
        for _ in range(self.visit):
            if not self._answer():
                break
        self.page.wait_for_selector("#saved[data-state=saved]")

    def _answer(self):
        """Press a key, once the question has been there for as long as an answer needs."""
        if not self._is_asked():
            return False
        left, right = (self.taste(self.page.inner_text(f"#text-{side}")) for side in "ab")
        key = "ArrowDown" if left == right else "ArrowLeft" if left > right else "ArrowRight"
        self.page.keyboard.press(key)
        self.answers += 1
        return True

    def _is_asked(self):
        """Whether a question is there; waits until it may be answered."""
        return self.page.evaluate(
            """async () => {
              const { dataset } = document.documentElement
              const isDone = () => !document.getElementById("done").hidden
              while (!dataset.painted || isDone() || performance.now() < +dataset.painted + 301) {
                if (isDone()) return false
                await new Promise((done) => setTimeout(done, 10))
              }
              return true
            }"""
        )
