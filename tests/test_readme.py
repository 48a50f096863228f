"""What the README and the pages list is what there is."""

import re
from pathlib import Path

from mdsens.study import ready_studies

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def listed(page, heading):
    """What stands in code, or as a link, in the first column of the table with this heading."""
    text = (ROOT / page).read_text("utf-8")
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    first = [row.split("|")[1] for row in table.splitlines()]
    return [name for cell in first for name in re.findall(r"`(\w[\w-]*)`|\[(\w+)\]", cell)]


def names_listed(page, heading):
    return sorted(code or link for code, link in listed(page, heading))


def test_the_studies_of_the_readme_are_those_that_are_ready():
    assert names_listed("README.md", "study") == sorted(ready_studies())


def test_the_notebooks_of_the_documentation_are_those_that_there_are():
    notebooks = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert names_listed("docs/notebooks.md", "notebook") == sorted(notebooks)


def test_the_benchmarks_of_the_documentation_are_those_that_there_are():
    from benchmarks.sections import WORDS

    assert names_listed("docs/benchmarks.md", "section") == sorted(WORDS)


def test_the_readme_is_one_page_whose_links_lead_to_files():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 20
    assert not [link for link in links if not (ROOT / link).is_file()]
    assert len(README.splitlines()) <= 160
