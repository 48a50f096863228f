"""Names as they are shown: no markup, nothing hidden, on one line."""

import codecs
import html
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mdsens.markup import for_figure, for_html, for_terminal, plain_letters, print_numbers, visible

NASTY = [
    "[/]", "[bold]x[/bold]", "\\[red]", ":warning:", "a\nb", "\x1b[31m", "\u202eabc", "\x00",
    "<script>alert('1')</script>", "&lt;", '"', "$\\frac{", "$$", "x\u2028y", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("sigma[Ar-Kr] für Å³ 漢字", "sigma[Ar-Kr] für Å³ 漢字"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m\x7f", r"\x1b[31m\x7f"),
        ("\u202eabc\u200b", r"\u202eabc\u200b"),
        ("\u2028\ud800", r"\u2028\ud800"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, seen):
    assert visible(text) == seen


@given(st.text() | st.sampled_from(NASTY) | st.text("\\[]/a:=# "))
@example("\\[")
@example("a\\")
def test_a_terminal_shows_the_text_itself(text):
    file = io.StringIO()
    Console(file=file, width=10_000, emoji=False).print(for_terminal(text), soft_wrap=True)
    assert file.getvalue() == visible(text) + "\n"


@pytest.mark.parametrize("width", [20, 45, 80, 200])
def test_no_number_is_cut_or_parted_however_narrow_the_terminal_is(width):
    file, table = io.StringIO(), Table("observable, parameter", "value", "error", "unit", box=None)
    table.add_row("elastic_constants(relaxed_ions=True)[0,0], lambda_[Si-Si-Si]", "-1.23456e-11",
                  "1.9e-17", "(eV/Å³)/Å")  # fmt: skip
    to = Console(file=file, width=width)
    print_numbers(to, table)
    words = file.getvalue().split()
    assert {"-1.23456e-11", "1.9e-17", "(eV/Å³)/Å"} <= set(words)


@given(st.text() | st.sampled_from(NASTY))
def test_a_page_shows_the_text_itself(text):
    escaped = for_html(text)
    assert not re.search(r"[<>\"']|&(?!\w+;|#x?\w+;)", escaped)
    assert html.unescape(escaped) == visible(text)


@pytest.mark.parametrize("text", NASTY)
def test_a_figure_shows_no_formula(text):
    figure = Figure()
    figure.text(0.5, 0.5, for_figure(text), parse_math=True)
    FigureCanvasAgg(figure).draw()


def test_an_encoding_with_few_letters_gets_those_that_it_has():
    codecs.register_error("plain", plain_letters)
    assert "d ln θ: 3 Å³, α".encode("ascii", "plain") == rb"d ln theta: 3 Ang^3, \u03b1"
    assert "θ Å".encode("latin-1", "plain") == b"theta \xc5"
