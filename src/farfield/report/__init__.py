"""Results as people and programs read them."""

from farfield.report.diagnosis import write_diagnosis
from farfield.report.model import cited
from farfield.report.page import page, write_page
from farfield.report.recommendation import write_recommendation
from farfield.report.render import markdown, put_text, to_json, write
from farfield.report.terminal import diagnosis_table, recommendation_table, tables

__all__ = [
    "cited",
    "diagnosis_table",
    "markdown",
    "page",
    "put_text",
    "recommendation_table",
    "tables",
    "to_json",
    "write",
    "write_diagnosis",
    "write_page",
    "write_recommendation",
]
