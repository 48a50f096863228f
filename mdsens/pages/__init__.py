"""Pages of HTML that hold all that they need: tables, charts and structures that one explores."""

from mdsens.pages.page import (
    chart,
    data_block,
    html_image,
    html_table,
    page,
    structure_view,
    structures_view,
    sweep_view,
)
from mdsens.pages.view import View

__all__ = [
    "View",
    "chart",
    "data_block",
    "html_image",
    "html_table",
    "page",
    "structure_view",
    "structures_view",
    "sweep_view",
]
