"""Text that UTF-8 can hold, and errors of libraries in messages of one line."""

from __future__ import annotations


def whole_characters(text: str) -> str:
    """Return the text with halves of characters (lone surrogates) as U+FFFD.

    Browsers, JSON and command lines may bring them; UTF-8, and with it every tokenizer, file and
    answer, cannot hold them. Two halves that belong together become their character.
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def first_line(error: BaseException) -> str:
    """Return at most 200 characters of a library's error; the class where there is no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def why_not_parsed(error: Exception) -> str:
    """The reason why JSON or TOML cannot be parsed, in the user's words."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "integer string conversion" in str(error):
        return "it holds a whole number of more than 4,300 digits"
    return str(error)[:200]
