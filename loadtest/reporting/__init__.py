"""Figures of a run: as JSON, in the terminal, as one HTML page, side by side with another's."""
