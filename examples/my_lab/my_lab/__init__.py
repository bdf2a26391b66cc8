"""Parts for kdframe; ``setup.py`` gives them their names."""
