"""What the demo makes of a page of HTML."""

import pytest

from tests.e2e.demo.documents import read_page

_HTML = """
<html><body><div class="sphinxsidebar"><p>Contents</p></div>
<div class="body" role="main">
<section id="venv"><h1>12. Virtual Environments<a class="headerlink" href="#venv">¶</a></h1>
<p>Python applications
will often use packages.</p>
<section id="make"><h2>12.1. Creating<a class="headerlink" href="#make">¶</a></h2>
<div class="highlight"><pre>python -m venv
  tutorial-env</pre></div>
<dl><dt>venv.create(dir)</dt><dd><p>Makes one.</p></dd></dl>
<ul><li><p>An item.</p></li></ul>
</section></section></div></body></html>
"""


def test_a_page_becomes_a_title_and_text_with_headings_and_fenced_code() -> None:
    page = read_page("tutorial/venv", _HTML)
    assert page.id == "tutorial.venv"
    assert page.title == "12. Virtual Environments"
    assert page.text.split("\n\n") == [
        "Python applications will often use packages.",
        "## 12.1. Creating",
        "```\npython -m venv\n  tutorial-env\n```",
        "venv.create(dir)",
        "Makes one.",
        "An item.",
    ]


def test_a_page_without_a_body_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"tutorial/none\.html"):
        read_page("tutorial/none", "<html><body><p>x</p></body></html>")
