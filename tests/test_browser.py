"""The fixtures of the browser see what a page asks for and what goes wrong on it."""

from browser import chromium, open_page  # noqa: F401


def test_requests_and_errors_of_a_page_are_seen(open_page, tmp_path):  # noqa: F811
    place = tmp_path / "page.html"
    script = "fetch('http://127.0.0.1:9/gone').catch(() => { throw new Error('broken') })"
    place.write_text(f"<p>好</p><script>{script}</script>", encoding="utf-8")
    page = open_page(place.as_uri())
    page.wait_for_timeout(200)
    assert page.inner_text("p") == "好"
    assert page.requests == [place.as_uri(), "http://127.0.0.1:9/gone"]
    assert any("broken" in error for error in page.errors)
