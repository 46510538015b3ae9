"""Results as people and programs read them."""

from farfield.report.model import cited
from farfield.report.page import page, write_page
from farfield.report.render import markdown, put_text, to_json, write
from farfield.report.terminal import tables

__all__ = ["cited", "markdown", "page", "put_text", "tables", "to_json", "write", "write_page"]
