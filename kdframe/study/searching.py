class Searching: pass
