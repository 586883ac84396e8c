"""One key of a TOML file is set, and all else is left as it is."""

import stat
import tomllib
from pathlib import Path

import pytest

from millrace.cli.rewriting import RewritingError, set_key, with_key
from tests.support.paths import REPOSITORY

KEY = ("cache", "semantic_threshold", 0.91)


def test_a_line_is_added_to_the_shipped_file_and_nothing_else_changes() -> None:
    shipped = (REPOSITORY / "millrace.toml").read_text("utf-8")
    written = with_key(shipped, *KEY)
    added = "semantic_threshold = 0.91\n"
    assert written.replace(added, "") == shipped
    assert tomllib.loads(written)["cache"]["semantic_threshold"] == 0.91
    assert with_key(written, "cache", "semantic_threshold", 0.5) == written.replace("0.91", "0.5")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[cache]\nsemantic_threshold = 0.8  # as measured\n", "[cache]\nsemantic_threshold = 0.91  # as measured\n"),
        ("[cache]\n  semantic_threshold=0.8\n[limits]\n", "[cache]\n  semantic_threshold = 0.91\n[limits]\n"),
        ("[cache]\nexact = true\n\n[limits]\n", "[cache]\nexact = true\nsemantic_threshold = 0.91\n\n[limits]\n"),
        ("[cache] # both", "[cache] # both\nsemantic_threshold = 0.91\n"),
        ("[limits]\n", "[limits]\n\n[cache]\nsemantic_threshold = 0.91\n"),
        ("", "[cache]\nsemantic_threshold = 0.91\n"),
        ("[cache]\r\nexact = true\r\n", "[cache]\r\nexact = true\r\nsemantic_threshold = 0.91\r\n"),
        ('[cache.embedder]\nmodel = "x"\n', '[cache.embedder]\nmodel = "x"\n\n[cache]\nsemantic_threshold = 0.91\n'),
        (
            "[cache]\n# semantic_threshold = 0.7\nttl_s = 1\n",
            "[cache]\n# semantic_threshold = 0.7\nsemantic_threshold = 0.91\nttl_s = 1\n",
        ),
        (
            "[cache]\nttl_s = 1\n\n# [more]\n# x = 1\n",
            "[cache]\nttl_s = 1\nsemantic_threshold = 0.91\n\n# [more]\n# x = 1\n",
        ),
    ],
)
def test_comments_order_and_line_ends_are_kept(before: str, after: str) -> None:
    assert with_key(before, *KEY) == after


@pytest.mark.parametrize("text", ["cache = { exact = true }\n", "cache.exact = true\n", 'x = """\n[cache]\n"""\n'])
def test_what_cannot_be_set_on_a_line_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    """The file stays as it is, and no other one is left."""
    path = tmp_path / "millrace.toml"
    path.write_text(text)
    with pytest.raises(RewritingError, match=r"semantic_threshold = 0\.91"):
        set_key(path, *KEY)
    assert (path.read_text(), [*tmp_path.iterdir()]) == (text, [path])


def test_the_file_keeps_its_mode_and_its_place(tmp_path: Path) -> None:
    """Also where its name is a link."""
    path, link = tmp_path / "real.toml", tmp_path / "millrace.toml"
    path.write_text("[cache]\n")
    path.chmod(0o640)
    link.symlink_to(path)
    set_key(link, *KEY)
    assert link.is_symlink()
    assert path.read_text() == "[cache]\nsemantic_threshold = 0.91\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
