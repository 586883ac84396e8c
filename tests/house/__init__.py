"""The repository itself: layers, locks, pages, the wheel."""
