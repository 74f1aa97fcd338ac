"""A table shows every kind of cell, and escapes whatever is in it."""

from sn37.html import Markup, table


def test_cells_are_shown_by_their_kind_and_escaped():
    shown = table(["a<b"], [(3, None, 2.5, True, False, "<script>")], "A & B")
    left = ' style="text-align:left"'
    assert shown == (
        f"<table><caption>A &amp; B</caption><thead><tr><th{left}>a&lt;b</th></tr></thead><tbody><tr><td>3</td>"
        f"<td>-</td><td>2.5000</td><td>yes</td><td></td><td{left}>&lt;script&gt;</td></tr></tbody></table>"
    )


def test_a_table_without_names_has_no_head():
    assert table((), {1: 2}.items()) == "<table><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"


def test_only_what_says_that_it_is_html_is_taken_as_it_is():
    assert "><b>1</b></td><td" in table((), [(Markup("<b>1</b>"), "<b>")])
    assert ">&lt;b&gt;</td></tr>" in table((), [(Markup("<b>1</b>"), "<b>")])
