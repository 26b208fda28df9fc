"""The pages' modules, as they are served and bundled; their words, colours and what they load."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import lessons
from app.web import assets
from app.web.assets import JS, bundle, dependencies, in_order, module_route, module_url
from app.web.calls import mount_script

ALL = sorted(path.relative_to(JS).as_posix() for path in JS.rglob("*.js"))
EXPORTED_PAGES = [name for name in ALL if re.search(r"sharing/shared_(?!parts)", name)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree of modules for a test to write, instead of the page's."""
    monkeypatch.setattr(assets, "JS", tmp_path)
    for cached in (assets._hash, assets._read):
        cached.cache_clear()
    yield tmp_path
    for cached in (assets._hash, assets._read):
        cached.cache_clear()


def client():
    return TestClient(Starlette(routes=[module_route()]))


def test_no_module_reaches_itself():
    for name in ALL:
        before = in_order(*dependencies(name))
        assert name not in before


def test_a_module_is_served_for_good():
    answer = client().get(f"/{module_url('shared/dom.js')}")
    assert answer.status_code == 200
    assert answer.content == (JS / "shared" / "dom.js").read_bytes()
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


def test_another_release_and_other_files_are_not_served():
    here = module_url("shared/dom.js")
    for path in (
        here.replace("/shared", "0/shared"),
        module_url("../css/base.css"),
        module_url("%2e%2e/assets.py"),
        module_url("shared"),
        module_url(""),
    ):
        answer = client().get(f"/{path}")
        assert answer.status_code == 404, path
        assert "immutable" not in answer.headers.get("cache-control", "")


def test_a_changed_module_changes_every_address(tree):
    (tree / "a.js").write_text("export const A = 1;\n")
    (tree / "b.js").write_text("export const B = 1;\n")
    before = module_url("a.js")
    (tree / "b.js").write_text("export const B = 2;\n")
    assets._hash.cache_clear()
    assert module_url("a.js") != before


@pytest.mark.parametrize("entry", EXPORTED_PAGES)
def test_an_exported_page_is_one_script(entry):
    script = bundle(entry)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert script.index("class TokenView") < script.index('pageElement("main")')
    assert "</script" not in script
    assert "loadPlotly" not in script, "a file has no server to load plotly from"


def test_two_modules_of_one_script_have_no_name_in_common(tree):
    (tree / "a.js").write_text("const same = 1;\nexport const A = same;\n")
    (tree / "b.js").write_text('import { A } from "./a.js";\n\nconst same = A;\n')
    with pytest.raises(ValueError, match=r"a\.js and b\.js both have same"):
        bundle("b.js")


TERM = re.compile(r"\[\[([a-z][a-z -]*)(?:\|[^\]\[]+)?\]\]")


def test_every_term_used_is_explained_and_every_one_explained_is_used():
    texts = [*JS.rglob("*.js"), Path(lessons.__file__).with_name("lessons.json")]
    used = {key for path in texts for key in TERM.findall(path.read_text("utf-8"))}
    assert used == set(assets.terms())


MODULES = {path.relative_to(JS).as_posix(): path.read_text("utf-8") for path in JS.rglob("*.js")}


def test_the_pages_load_nothing_from_elsewhere():
    assert assets.plotly_path().is_file()
    sheets = [path.read_text("utf-8") for path in (JS.parent / "css").rglob("*.css")]
    sources = "\n".join([*MODULES.values(), *sheets])
    assert len(sheets) > 10
    links = set(re.findall(r"https?://[^\s\"'`)]+", sources))
    # The second is the frame around a Space, which is spoken to; nothing is read from it. The third
    # is where a model card's reference leads when it is clicked.
    ours = {
        "http://www.w3.org/2000/svg",
        "https://huggingface.co",
        "https://arxiv.org/abs/${number}",
    }
    assert links <= ours
    assert "@import" not in sources


def test_constants_cannot_end_the_script_they_are_in():
    for script in (
        mount_script("explore/explore.js", "server", {"label": "</script>\u2028"}),
        assets.site_data({"label": "</script>\u2028"}).removesuffix("</script>"),
    ):
        assert "</script>" not in script
        assert "\u2028" not in script
