"""placeholder"""


def page(*a, **k):
    return ""


def write_figures(*a, **k):
    pass
