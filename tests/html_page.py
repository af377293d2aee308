"""HTML read as a browser would: its text, and what it would fetch."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


class Page(HTMLParser):
    """Collects the text and what the page would fetch; complains about unbalanced tags."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.sources, self.tags = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def check_page(html):
    """What holds of every report: it loads and runs nothing, reads well everywhere, and warns."""
    page = Page(html)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    images = re.findall(r"<img [^>]*>", html)
    assert all(re.search(r'width="\d+" height="\d+" alt="[^"]{10,}"', image) for image in images)
    assert "Research only. Not a medical device." in page.words
