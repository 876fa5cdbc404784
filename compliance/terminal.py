"""Text of others' making on a terminal or in a log: whatever would steer it, or can't be seen, is shown, never sent."""

from __future__ import annotations

from compliance.person import person_key


def shown(text: object, *, mark: str | None = None, characters_max: int | None = None) -> str:
    """Return a text in one line in which every character that a terminal obeys, or draws as nothing, is escaped.

    Control characters, line ends, escapes, characters of direction, invisible ones and halves of pairs are written as
    in `\\\\x1b` or `\\\\u202e`; or each as `mark`, where a text must keep its width. A text of more than
    `characters_max` characters is cut, with an ellipsis.
    """
    whole = str(text)
    if characters_max is not None and len(whole) > characters_max:
        whole = whole[:characters_max] + "…"
    if whole.isascii() and whole.isprintable():
        return whole
    return "".join(letter if _is_plain(letter) else mark or _escaped(letter) for letter in whole)


def _is_plain(letter: str) -> bool:
    # A letter of which nothing is left where two names are compared is one that nobody sees.
    return letter.isprintable() and (letter.isascii() or bool(person_key(letter)))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
