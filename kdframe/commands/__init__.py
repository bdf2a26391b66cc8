"""What ``kdframe`` and the scripts in ``tools/`` do, one file a command."""
