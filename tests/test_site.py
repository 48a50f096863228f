"""The documentation site: built without a warning, and every link within it leads somewhere."""

import functools
import html
import html.parser
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]

PAGES = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("sphinx", reason="the site takes pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", PAGES, folder]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Page(html.parser.HTMLParser):
    """What a page leads to, what it loads, and the places in it that can be led to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.places = set(), set(), {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif given.get("src") or (tag == "link" and given.get("rel") == "stylesheet"):
            self.loaded.add(given.get("src") or given["href"])


@functools.cache
def page(path):
    return Page(path)


def is_outside(link):
    return bool(urlsplit(link).scheme or link.startswith("//"))


def missing(path, link):
    """Whether a relative link from a page leads to no file, or to no place in it."""
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return True
    return target.suffix == ".html" and unquote(parts.fragment) not in page(target).places


def test_every_link_within_the_site_leads_to_a_page_and_a_place_in_it(site):
    pages = sorted(site.rglob("*.html"))
    links = [(path, link) for path in pages for link in page(path).links if not is_outside(link)]
    assert len(pages) > 30
    assert len(links) > 1000
    assert not [f"{path.name}: {link}" for path, link in links if missing(path, link)]
    assert missing(pages[0], "no-such-page.html")
    assert missing(pages[0], "#no-such-place")


def test_pages_load_nothing_from_elsewhere_and_every_picture_is_there(site):
    for path in site.rglob("*.html"):
        loaded = page(path).loaded
        assert not [source for source in loaded if is_outside(source)], path
        assert not [source for source in loaded if missing(path, source)], path


def test_every_page_and_notebook_is_in_the_site(site):
    sources = [path.with_suffix(".html").relative_to(PAGES) for path in PAGES.rglob("*.md")]
    sources += [Path("notebooks") / path.with_suffix(".html").name for path in notebooks()]
    assert not [name for name in sources if not (site / name).is_file()]


def notebooks():
    found = list((PAGES.parent / "notebooks").glob("*.ipynb"))
    assert found
    return found


def test_annotations_show_shapes_and_docstrings_their_formulas(site):
    text = re.sub(r"<[^>]+>", "", (site / "api" / "potentials.html").read_text("utf-8"))
    assert "r: Float[Array, '...']" in html.unescape(text)
    assert "jaxlib" not in text
    assert "Z_i = sum_{j != i} f(r_ij)," in text
