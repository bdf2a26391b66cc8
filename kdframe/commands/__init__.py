"""The commands, a file each: ``parser`` and ``main``; tools/ and the entry point call them."""
