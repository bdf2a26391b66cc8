"""Ratios of cost, measured side by side in one process; not installed with kdframe."""
