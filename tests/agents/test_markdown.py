"""Sample texts on TensorBoard's page: through its own renderer, what was written is what shows."""

import warnings
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from textgym.agents.runs.markdown import escape_markdown, markdown_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard import plugin_util

PLAIN = {"table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Tags and cells of a page, as a browser reads them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.cells, self.is_inside = [], [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.is_inside = True

    def handle_endtag(self, tag):
        self.is_inside = self.is_inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.is_inside:
            self.cells[-1] += data


def page(rows):
    return Page(plugin_util.markdown_to_safe_html(markdown_table(("prompt", "continuation"), rows)))


def visible(text):
    """What a reader should see."""
    text = text.replace("\r\n", "\n")
    for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        text = text.replace(end, "\u23ce")
    for code in range(0x20):
        text = text.replace(chr(code), chr(0x2400 + code))
    text = text.replace("\x7f", "\u2421")
    return "".join(f"\\x{ord(c):02x}" if 0x80 <= ord(c) < 0xA0 else c for c in text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from(list("*_`[]()<>!#&;|\\~-+=:/.\"'1a \t\n\r")), max_size=30
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
@example([("p", "a\rb"), ("q", "z")])
@example([("[a](http://x.y)", "![b](http://x.y/z.png)"), ("<http://x.y>", "<a href='//x'>c</a>")])
@example([("**a** _b_ `c` ~~~\n```\nd", "# e\n\n---\n\n| f | g |\n| --- | --- |")])
@example([("    code", "1. a\n2. b"), ("&lt;b&gt; &#60;i&#62;", '[1]: http://x.y "t"\n[a][1]')])
@example([("\u2028\x85\x0b\x00\x02wzxhzdk:0\x03", "\x7f\x9b31m"), ("\u3000a\u00a0", "  b  c  ")])
def test_the_page_shows_the_text_and_nothing_acts(rows):
    shown = page(rows)
    assert set(shown.tags) == PLAIN and shown.tags.count("tr") == len(rows) + 1
    assert shown.cells[:2] == ["prompt", "continuation"]
    cells = [cell.replace("\u00a0", " ") for cell in shown.cells[2:]]
    assert cells == [visible(text).replace("\u00a0", " ") for row in rows for text in row]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text 12", "plain text 12"),
        (" a  b ", "&#160;a &#160;b&#160;"),
        ("a\r\nb\rc", "a\u23ceb\u23cec"),
        ("*\ud800", "&#42;\ufffd"),
        ("\x80", "&#92;x80"),
    ],
)
def test_escapes(text, escaped):
    assert escape_markdown(text) == escaped
