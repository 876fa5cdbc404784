"""Text of others' making on a terminal: whatever would steer it, or can't be seen, is shown and never sent."""

from __future__ import annotations

from compliance.person import person_key


def shown(text: object, *, mark: str | None = None) -> str:
    """Return a text in one line in which every character that a terminal obeys, or draws as nothing, is escaped.

    Control characters, line ends, escapes, characters of direction, invisible ones and halves of pairs are written as
    in `\\\\x1b` or `\\\\u202e`; or each as `mark`, where a text must keep its width.
    """
    whole = str(text)
    if whole.isascii() and whole.isprintable():
        return whole
    return "".join(letter if _is_plain(letter) else mark or _escaped(letter) for letter in whole)


def _is_plain(letter: str) -> bool:
    # A letter of which nothing is left where two names are compared is one that nobody sees.
    return letter.isprintable() and (letter.isascii() or bool(person_key(letter)))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
