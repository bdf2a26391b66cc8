class Searching:
    pass
