"""The commands: one file each, called by its script in tools/."""
