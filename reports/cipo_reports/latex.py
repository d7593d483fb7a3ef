r"""Tables for a two-column paper: they fit its column or its page, and need nothing but ``\usepackage{booktabs}``.

How wide a table gets is estimated from Computer Modern's widths before it is written: it is set in a column, else
across the page, smaller where it must be, else in parts that repeat the names. A table that is longer than a page
goes on in another. The widths are those of the standard class ``article``, whose columns are narrow.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cipo_reports.cells import ONE_SEED, Cell, Table
from cipo_reports.writers import interval_text

COLUMN, PAGE = 200.0, 410.0
"""Width in points of a column and of a page of ``article`` with the option ``twocolumn``."""
LINES = 34
"""Most lines of a table, so that it stands on a page with its caption and notes."""
FLOATS = 12
"""So many parts of a table wait for their place together."""
NAME = 24
"""Longest line of a name, in characters; longer ones go on in another line."""
WORD = 14
"""Longest run of characters without a place to break a line."""
SUFFIX = re.compile(rf"\*{{0,3}}{ONE_SEED}?$")
_TEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "#": "\\#",
    "%": "\\%",
    "_": "\\_",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "|": "\\textbar{}",
    "<": "$<$",
    ">": "$>$",
    "Δ": "$\\Delta$",
    "ρ": "$\\rho$",
    "→": "$\\to$",
    "×": "$\\times$",
    "±": "$\\pm$",
    "†": "$^\\dagger$",
    "‡": "$^\\ddagger$",
    "–": "--",
    "−": "$-$",
}
_MARKS = {"best": "\\textbf{%s}", "second": "\\underline{%s}", "": "%s"}
_WIDTHS = (
    ("fijlrt.,:;|'![]() I-", 0.34),
    ("mwMW%", 0.95),
    ("+−=<>±→ΔQO×", 0.8),
    ("0123456789", 0.5),
    ("*†‡", 0.42),
)
"""Characters and their widths in em; of others a capital has 0.76, a letter 0.54."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size of letters."""

    command: str
    below: str
    """The next smaller one, for intervals."""
    points: float
    """Width of one em, with what small letters of Computer Modern are wider than large ones."""
    gap: int
    """Between columns, in points: two of ``\\tabcolsep``."""


SIZES = (
    Size("\\small", "\\scriptsize", 9 * 1.03, 6),
    Size("\\footnotesize", "\\scriptsize", 8 * 1.06, 6),
    Size("\\scriptsize", "\\tiny", 7 * 1.14, 4),
)
GAP = 6.0
"""Between columns, in points: two of ``\\tabcolsep``."""


def to_latex(table: Table) -> str:
    r"""One or more ``table`` or ``table*`` environments; names are text in them, as in all forms."""
    wide, size, parts = _layout(table)
    pieces = [piece for part in parts for piece in _by_length(part)]
    head = ["% \\usepackage{booktabs}"]
    if strange := _strange(table):
        head.append(
            f"% pdfLaTeX has no {strange}: use LuaLaTeX or XeLaTeX with a font that has these characters"
        )
    floats = [
        _float(piece, wide=wide, size=size, first=number == 0, last=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]
    for place in range(FLOATS, len(floats), FLOATS):  # LaTeX holds back a limited number
        floats[place] = f"\\clearpage\n{floats[place]}"
    return "\n".join([*head, *floats]) + "\n"


def _layout(table: Table) -> tuple[bool, Size, list[Table]]:
    """Whether it takes the page's whole width, its letters, and its parts."""
    for wide, room, sizes in ((False, COLUMN, SIZES[:2]), (True, PAGE, SIZES)):
        for size in sizes:
            if sum(_widths(table, size)) <= room:
                return wide, size, [table]
    return True, SIZES[-1], list(_by_width(table, SIZES[-1]))


def _widths(table: Table, size: Size) -> list[float]:
    """Of each column in points, with the gap behind it."""
    widths = []
    for place in range(len(table.columns)):
        cells = [row[place] for row in table.rows]
        if place < table.left:
            texts = [line for cell in cells for line in _lines(cell.text, NAME)]
        else:
            bold = 1.16 if any(cell.mark == "best" for cell in cells) else 1.0
            texts = [cell.text for cell in cells]
            texts += [interval_text(cell) for cell in cells] if table.intervals else []
        ems = max((em(text) for text in texts), default=0.0) * (bold if place >= table.left else 1.0)
        ems = max(ems, *(em(line) for line in _title_lines(table, place)))
        widths.append(ems * size.points + size.gap)
    return widths


def em(text: str) -> float:
    """Width of a text in em, estimated from above."""
    return sum(_em(char) for char in text)


def _em(char: str) -> float:
    for chars, width in _WIDTHS:
        if char in chars:
            return width
    return 1.0 if ord(char) > 0x2FF else 0.76 if char.isupper() else 0.54


def _lines(text: str, longest: int) -> list[str]:
    return textwrap.wrap(text, longest, break_on_hyphens=False) or [""]


def _title_lines(table: Table, place: int) -> list[str]:
    """A column's title in lines no longer than its cells, so that titles make no table wide."""
    longest = max((len(row[place].text) for row in table.rows), default=0)
    return _lines(table.columns[place], min(NAME, max(WORD if place < table.left else 10, longest)))


def _by_width(table: Table, size: Size) -> Iterator[Table]:
    """Parts that fit the page, each with the columns of names."""
    widths = _widths(table, size)
    names = list(range(table.left))
    room = PAGE - sum(widths[: table.left])
    part: list[int] = []
    for place in range(table.left, len(widths)):
        if part and sum(widths[i] for i in [*part, place]) > room:
            yield _chosen(table, names + part)
            part = []
        part.append(place)
    yield _chosen(table, names + part)


def _chosen(table: Table, places: Sequence[int]) -> Table:
    rows = tuple(tuple(row[i] for i in places) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in places), rows=rows)


def _by_length(table: Table) -> Iterator[Table]:
    """Parts that fit a page's height; cut above a rule where there is one."""
    heights = [_height(table, row) for row in table.rows]
    start = 0
    while start < len(table.rows):
        end, used = start, 0
        while end < len(table.rows) and (end == start or used + heights[end] <= LINES):
            used += heights[end]
            end += 1
        if end < len(table.rows):
            end = max((rule for rule in table.rules if start < rule <= end), default=end)
        rules = tuple(rule - start for rule in table.rules if start < rule < end)
        yield replace(table, rows=table.rows[start:end], rules=rules)
        start = end
    if not table.rows:
        yield table


def _height(table: Table, row: Sequence[Cell]) -> int:
    lines = max((len(_lines(cell.text, NAME)) for cell in row[: table.left]), default=1)
    return max(lines, 2 if table.intervals and any(map(interval_text, row)) else 1)


def _float(table: Table, *, wide: bool, size: Size, first: bool, last: bool) -> str:
    environment = "table*" if wide else "table"
    said = f"{table.caption} {table.setup}".strip()
    caption = tex(said) if first else f"{tex(table.caption)} (continued)"
    label = f"\\label{{tab:{re.sub(r'[^a-zA-Z0-9-]', '-', table.name)}}}"
    lines = [f"\\begin{{{environment}}}", "\\centering", *([] if first else ["\\addtocounter{table}{-1}"])]
    lines += [
        f"\\caption{{{caption}}}{label if first else ''}",
        f"\\setlength{{\\tabcolsep}}{{{size.gap // 2}pt}}",
    ]
    lines += [size.command, *_tabular(table, size)]
    if table.notes and last:
        notes = " ".join(tex(note) for note in table.notes)
        lines.append(f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\raggedright\\scriptsize {notes}}}")
    return "\n".join([*lines, f"\\end{{{environment}}}"])


def _tabular(table: Table, size: Size) -> list[str]:
    columns = range(len(table.columns))
    sides = ["l" if place < table.left else "r" for place in columns]
    titles = [
        table.latex.get(table.columns[place]) or _stacked(_title_lines(table, place), "b", sides[place])
        for place in columns
    ]
    lines = [
        f"\\begin{{tabular}}{{{''.join(sides)}}}",
        "\\toprule",
        f"{' & '.join(titles)} \\\\",
        "\\midrule",
    ]
    marks = [_longest_suffix(table, place) for place in columns]
    for number, row in enumerate(table.rows):
        if number in table.rules:
            lines.append("\\midrule")
        names = [cell.latex or _stacked(_lines(cell.text, NAME), "t", "l") for cell in row[: table.left]]
        values = [_value(row[place], marks[place]) for place in columns[table.left :]]
        lines.append(f"{' & '.join([*names, *values])} \\\\")
        if table.intervals and any(map(interval_text, row)):
            intervals = [f"{{{size.below} {tex(interval_text(cell))}}}" for cell in row[table.left :]]
            lines.append(f"{' & '.join([*([''] * table.left), *intervals])} \\\\")
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _stacked(lines: Sequence[str], anchor: str, side: str) -> str:
    """Lines over each other in one cell."""
    if len(lines) == 1:
        return tex(lines[0])
    body = " \\\\ ".join(tex(line) for line in lines)
    return f"\\begin{{tabular}}[{anchor}]{{@{{}}{side}@{{}}}}{body}\\end{{tabular}}"


def _longest_suffix(table: Table, place: int) -> str:
    if place < table.left:
        return ""
    return max((_suffix(row[place].text) for row in table.rows), key=em, default="")


def _suffix(text: str) -> str:
    suffix = SUFFIX.search(text)
    return suffix[0] if suffix else ""


def _value(cell: Cell, longest: str) -> str:
    """A number with its stars above the line; where others of the column have more, as much room as theirs."""
    own = _suffix(cell.text)
    body = _MARKS[cell.mark] % tex(cell.text.removesuffix(own) if own else cell.text)
    if not longest:
        return body
    return body + (
        _raised(own) if own == longest else f"\\rlap{{{_raised(own)}}}\\phantom{{{_raised(longest)}}}"
    )


def _raised(suffix: str) -> str:
    return f"$^{{{suffix.replace(ONE_SEED, chr(92) + 'ddagger')}}}$" if suffix else ""


def tex(text: str) -> str:
    """A text as LaTeX shows it: no character of it is a command, and no word is too long for a line."""
    words = [_broken(word) for word in text.split(" ")]
    # At the beginning of a row these two would be arguments of the line's end before it.
    return re.sub(r"^([\[*])", r"{\1}", " ".join(words))


def _broken(word: str) -> str:
    pieces = textwrap.wrap(word, WORD, break_on_hyphens=False) or [""]
    return "\\hspace{0pt}".join("".join(_TEX.get(char, char) for char in piece) for piece in pieces)


def _strange(table: Table) -> str:
    """Characters that pdfLaTeX does not know: all but Latin ones, usual punctuation and those of ``_TEX``."""
    texts = [table.caption, *table.columns, *table.notes, *(cell.text for row in table.rows for cell in row)]
    known = set(_TEX) | set("‘’“”…—•€™")
    return "".join(sorted({char for text in texts for char in text if ord(char) > 0x17F} - known))
