"""The documentation as pages, at /docs: the Markdown files of the repository, which the wheel carries too."""
