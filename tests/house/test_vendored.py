"""What is carried of others is what its authors published: NOTICE has its hash."""

import hashlib
import re

import pytest

from tests.support.paths import REPOSITORY

VENDOR = REPOSITORY / "static" / "vendor"
NOTICE = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
PACKAGES = sorted(folder.name for folder in VENDOR.iterdir())


@pytest.mark.parametrize("name", PACKAGES)
def test_notice_has_the_version_licence_and_hashes_of_what_is_carried(name: str) -> None:
    found = re.search(rf"^static/vendor/{re.escape(name)}/\n((?:    .*\n)+)", NOTICE, re.MULTILINE)
    assert found, f"NOTICE has no section static/vendor/{name}/"
    assert re.search(r" \d+\.\d+", found[1])
    assert "License" in found[1]
    noted = dict(re.findall(r"sha256 of (\S+):\s+([0-9a-f]{64})", found[1]))
    files = [path for path in (VENDOR / name).rglob("*") if path.is_file()]
    hashes = {str(path.relative_to(VENDOR / name)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert noted == hashes
    assert any("licen" in path.name.lower() for path in files)
