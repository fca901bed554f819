"""Text that cannot steer a terminal, as it has no control characters.

Names, labels and error messages are other people's: whoever may subscribe a task chooses them.
"""

import json


def printable(text: str) -> str:
    """Return `text` with its control characters (C0, C1, DEL, bidirectional ...) spelt out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return the same of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def to_json_line(document: object) -> str:
    """Return one line of JSON. What is not printable is escaped in it, which a parser undoes."""
    line = json.dumps(document, ensure_ascii=False)
    if line.isprintable():
        return line
    # Outside strings, JSON is printable ASCII.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
