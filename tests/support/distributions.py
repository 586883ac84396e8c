"""Distributions that users install beside Millrace."""

from pathlib import Path


def installed(site: Path, name: str, group: str, points: dict[str, str], code: str) -> None:
    """Install a distribution of one module, as pip would, with entry points of a group."""
    (site / f"{name}.py").write_text(code, "utf-8")
    info = site / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", "utf-8")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]), "utf-8")
