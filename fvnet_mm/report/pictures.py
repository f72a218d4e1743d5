"""The pictures of a run."""

from fvnet_mm.report.contact_sheet import draw_contact_sheet
from fvnet_mm.report.curves import draw_curves

__all__ = ["draw_contact_sheet", "draw_curves"]
