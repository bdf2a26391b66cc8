"""The formats that a student is exported in, a file each; imported when its format is asked for."""
