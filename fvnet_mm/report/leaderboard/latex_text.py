"""Any text as LaTeX that compiles and prints it."""

from __future__ import annotations

import unicodedata

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "’": "'",
    "°": r"$^\circ$",
}
_LETTERS = "".join(map(chr, range(0xC0, 0x100))).translate(dict.fromkeys(map(ord, "ÐðÞþ×÷")))
"""Letters of Latin-1 that every LaTeX of this century takes in UTF-8, whatever the font's encoding."""


def escape(text: str) -> str:
    """Text without meaning to LaTeX, in UTF-8.

    Letters that a plain LaTeX has no glyph for lose their accents, or where that isn't enough show their code point.
    """
    letters = "".join(_letter(letter) for letter in " ".join(text.split()))
    return letters.replace("--", "-{}-").replace("--", "-{}-")  # two would make a dash; twice for three in a row


def _letter(letter: str) -> str:
    if letter in _COMMANDS:
        return _COMMANDS[letter]
    if letter in _LETTERS or (letter.isascii() and letter.isprintable()):
        return letter
    bare = unicodedata.normalize("NFKD", letter)
    bare = "".join(part for part in bare if not unicodedata.combining(part))
    if bare and bare.isascii() and bare.isprintable():
        return "".join(_COMMANDS.get(part, part) for part in bare)
    return f"[U+{ord(letter):04X}]"
