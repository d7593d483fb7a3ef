"""The program that EvalPlus's sanitizer takes from a response (``evalplus.sanitize``): for paper mode.

Of all runs of two or more lines that parse, the first of those with the most lines that are not blank; of it the
imports, and those functions with a ``return``, classes and assignments at the top that the wanted function leads to.
Decorated functions and ``from __future__`` imports are dropped, as there.

The reference tries every pair of lines. Here a run that fails at some line is not tried again with more lines behind
it, and what is parsed is bounded, so that a hostile text takes little time; one that exceeds the bounds gives what was
found until then. Texts are at most ``MAX_LENGTH`` characters long. Nothing is ever run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence

MAX_PARSED = 1 << 18
"""Characters that are parsed in all, at the most."""
MAX_LENGTH = 20_000
"""Characters of a text that is sanitized."""
GLANCE = 3
"""Lines of a run that are parsed first: prose fails in the first of them."""
MAX_DEPTH = 150
"""Brackets within brackets; Python itself reads 200."""
_BRACKETS = re.compile(r"[\[({]|[\])}]")


def sanitize(text: str, entry_point: str | None) -> str:
    """The program in ``text``; empty where there is none."""
    code = _longest(text.split("\n"))
    tree = _parse(code)
    if tree is None:
        return ""
    lines = code.encode("utf-8", "surrogatepass").splitlines(keepends=True)
    imports: list[ast.stmt] = []
    definitions: dict[str | None, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__"):
            imports.append(node)
        elif (definition := _definition(node)) is not None:
            definitions.setdefault(definition[0], node)
    reached = _reachable(entry_point, definitions) if entry_point else set(definitions)
    nodes = [*imports, *(node for name, node in definitions.items() if name in reached)]
    return "\n".join(_source(node, lines) for node in nodes)


def _longest(lines: Sequence[str]) -> str:
    """The first of the longest runs of lines that parse, blank lines not counted; the first line where none does."""
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, chosen, budget = 0, (0, 1), MAX_PARSED
    deep = _too_deep("\n".join(lines))  # where the whole is not, no part of it is
    for start in range(len(lines)):
        end = len(lines)
        if filled[end] - filled[start] > best and budget > 0:
            glance = "\n".join(lines[start : start + GLANCE])[:2000]
            budget -= len(glance) // 4
            if _fails_at_once(glance):
                continue
        while end - start > 1 and filled[end] - filled[start] > best and budget > 0:
            while not lines[end - 1].strip() and end - start > 2:
                end -= 1  # as long, and the shorter one comes first in the reference
            code = "\n".join(lines[start:end])
            failed = 0 if deep and _too_deep(code) else _failure(code)
            if failed is None:
                best, chosen = filled[end] - filled[start], (start, end)
                break
            read = lines[start : start + failed] if failed else [code]
            budget -= len(code) // 16 + sum(map(len, read))
            end = min(start + failed - 1, end - 1) if failed else end - 1
    return "\n".join(lines[slice(*chosen)])


def _failure(code: str) -> int | None:
    """The line, from 1, at which the code fails to parse, 0 where that is not known; None where it parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        # positions within f-strings count from their own beginning
        return 0 if error.lineno is None or str(error.msg).startswith("f-string") else error.lineno
    except (ValueError, MemoryError, RecursionError):
        return 0
    return None


def _fails_at_once(code: str) -> bool:
    """Whether the first line cannot begin a program, whatever comes behind it: the parser read no further."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return error.lineno == 1 and error.msg in ("invalid syntax", "unexpected indent") and "\n" in code
    except (ValueError, MemoryError, RecursionError):
        pass
    return False


def _too_deep(code: str) -> bool:
    depth = 0
    for bracket in _BRACKETS.findall(code):
        depth = depth + 1 if bracket in "[({" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _parse(code: str) -> ast.Module | None:
    if _too_deep(code) or _failure(code) is not None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _definition(node: ast.stmt) -> tuple[str | None, ast.stmt] | None:
    """A definition with its name, None where the reference's parser finds no name; None for other statements."""
    if isinstance(node, ast.ClassDef):
        return None if node.decorator_list else (node.name, node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        returns = any(isinstance(inner, ast.Return) for inner in ast.walk(node))
        return (node.name, node) if returns and not node.decorator_list else None
    if isinstance(node, ast.Assign):
        names = [*node.targets, node.value]
        return next((n.id for n in _first_two(names) if isinstance(n, ast.Name)), None), node
    if isinstance(node, ast.AnnAssign):
        parts = [node.target, *([node.value] if node.value else [])]
        return next((n.id for n in parts if isinstance(n, ast.Name)), None), node
    return None


def _first_two(parts: Sequence[ast.expr]) -> Sequence[ast.expr]:
    """Of ``a = b = c`` the reference's parser has ``a`` and, as one, the rest."""
    return parts[:2] if len(parts) == 2 else parts[:1]


def _reachable(entry_point: str, definitions: dict[str | None, ast.stmt]) -> set[str | None]:
    reached: set[str | None] = {entry_point}
    queue = [entry_point]
    while queue:
        node = definitions.get(queue.pop())
        for name in _names(node) if node is not None else ():
            if name not in reached:
                reached.add(name)
                queue.append(name)
    return reached


def _names(node: ast.AST) -> Iterator[str]:
    """Every name within a statement, attributes and parameters too."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant):
            continue
        for field, value in ast.iter_fields(inner):
            if field in ("id", "arg", "attr", "name", "asname", "module", "rest") and isinstance(value, str):
                yield from value.split(".")
            elif field in ("names", "kwd_attrs"):
                yield from (name for name in value if isinstance(name, str))


def _source(node: ast.stmt, lines: Sequence[bytes]) -> str:
    """The statement's text."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    if first == last:
        part = lines[first][node.col_offset : node.end_col_offset]
    else:
        part = b"".join(
            [lines[first][node.col_offset :], *lines[first + 1 : last], lines[last][: node.end_col_offset]]
        )
    return part.decode("utf-8", "surrogatepass")
