"""How easy a page is to read: the Flesch reading ease of its sentences.

    python -m tools.reading_ease README.md docs/tutorial/*.md

206.8 − 1.015 · words per sentence − 84.6 · syllables per word: 60 to 70 is plain English, below 50
is for those who must. Code, tables, pictures and addresses are left out. A heading, an item of a
list and a paragraph each end a sentence. Syllables are counted by the usual rule of vowels, which
is off for single words and right enough for a page.

References:
    Flesch, *A new readability yardstick*, Journal of Applied Psychology 32(3), 1948.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

__all__ = ["plain_sentences", "reading_ease", "syllables"]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[[^]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")


def plain_sentences(page: str) -> list[list[str]]:
    """Return the sentences of a Markdown page as words.

    >>> plain_sentences("# One\\n\\nIt *runs*. See [the page](a.md)!\\n\\n| a | b |\\n")
    [['One'], ['It', 'runs'], ['See', 'the', 'page']]
    """
    text = _PICTURE.sub("", _FENCE.sub("", page))
    text = _LINK.sub(r"\1", re.sub(r"<[^>]*>", "", text))
    text = re.sub(r"`[^`]*`", "value", text)
    blocks, lines = [], []
    for line in [*text.splitlines(), ""]:
        begins = re.match(r"\s*([-*#>]|\d+\.|!!!|\?\?\?)", line)
        if begins or not line.strip() or line.lstrip().startswith("|"):
            blocks.append(" ".join(lines))
            lines = []
        if not line.lstrip().startswith("|"):
            lines.append(line)
    blocks.append(" ".join(lines))
    sentences = (part for block in blocks for part in re.split(r"(?<=[.!?])\s", block))
    return [words for words in map(_WORD.findall, sentences) if words]


def syllables(word: str) -> int:
    """Count the syllables of an English word.

    >>> [syllables(word) for word in ("face", "video", "relevance", "asked", "table")]
    [1, 3, 3, 1, 2]
    """
    word = re.sub(r"[^a-z]", "", word.lower())
    count = len(re.findall(r"[aeiouy]+", word))
    # Two vowels that are spoken apart: video, client, area, being; not nation, facial, people.
    count += len(re.findall(r"(?<![cgstx])i[aou]|(?<!t)ie[nt]|eo(?!p)|ea$|eing", word))
    if re.search(r"[^aeiouy]es?$|[^aeioutd]ed$", word) and not re.search(
        r"[^aeiouyrl]le$|[cgsxz]es$|[cs]hes$", word
    ):
        count -= 1  # a silent e: face, makes, asked; not table, pauses
    return max(count, 1)


def reading_ease(page: str) -> float:
    """Return the Flesch reading ease of a Markdown page.

    Raises:
        ValueError: there is no sentence.
    """
    sentences = plain_sentences(page)
    if not sentences:
        raise ValueError("the page has no sentence; give it some text")
    words = [word for sentence in sentences for word in sentence]
    per_word = sum(map(syllables, words)) / len(words)
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * per_word


def main() -> None:
    """Read the command line and print a line a page."""
    parser = argparse.ArgumentParser(description="Print the Flesch reading ease of pages.")
    parser.add_argument("pages", nargs="+", type=Path)
    for path in parser.parse_args().pages:
        page = path.read_text(encoding="utf-8")
        words = sum(map(len, plain_sentences(page)))
        print(f"{reading_ease(page):5.1f}  {words:5} words  {path}")


if __name__ == "__main__":
    main()
