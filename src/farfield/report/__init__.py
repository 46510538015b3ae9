"""Results as people and programs read them."""

from farfield.report.render import markdown, to_json, write
from farfield.report.terminal import tables

__all__ = ["markdown", "tables", "to_json", "write"]
