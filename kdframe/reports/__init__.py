"""What is said about networks and runs: numbers, tables and pictures."""
