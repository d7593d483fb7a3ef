"""What a LeetCode statement promises of its inputs (``1 <= nums.length <= 105``), as something that can be checked.

Exponents are flattened in the data: ``105`` is 10^5 and ``231 - 1`` is 2^31 - 1. A line that is not understood, or that
a known input seems to break, is listed in ``unknown``: nothing is claimed about it. Lines are read with ``ast`` and
evaluated here; nothing in them is ever run.
"""

from __future__ import annotations

import ast
import itertools
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.data.readers.leetcode.comparisons import (
    CHECKED,
    NODES,
    Args,
    Chain,
    OpenError,
    assignments,
    evaluate,
    read_chain,
    with_powers,
)

# --- words -------------------------------------------------------------------------------------------------

Check = Callable[[Args], bool]


@dataclass(slots=True)
class Constraints:
    """What is promised of an input. ``holds`` of every known one."""

    names: tuple[str, ...]
    linked: Mapping[str, str]
    chains: list[Chain] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    alphabets: dict[str, str] = field(default_factory=dict)
    """By parameter, the characters of its strings."""
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By parameter, all that its numbers can be."""
    distinct: set[str] = field(default_factory=set)
    ascending: dict[str, bool] = field(default_factory=dict)
    """By parameter: sorted, descending where False."""
    even: set[str] = field(default_factory=set)
    members: dict[str, str] = field(default_factory=dict)
    """Parameters that are among the items of another."""
    anagrams: dict[str, str] = field(default_factory=dict)
    trees: bool = False
    """Edges are those of one tree."""
    acyclic: bool = False
    search_tree: bool = False
    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By parameter, how many nodes a list or tree has."""
    no_zero: set[str] = field(default_factory=set)
    """Parameters whose numerals do not begin with 0."""
    once: set[str] = field(default_factory=set)
    """Parameters in whose strings no letter comes twice."""
    spaced: dict[str, bool] = field(default_factory=dict)
    """Parameters that are words with single spaces between; whether a capital comes first and nowhere else."""
    common: tuple[str, str] | None = None
    """Two lists that share an item."""
    places: dict[str, dict[int, str]] = field(default_factory=dict)
    """By parameter, the characters at places of its strings."""
    lines: list[str] = field(default_factory=list)
    """Where ``chains`` come from."""
    unknown: list[str] = field(default_factory=list)

    def symbols(self, env: Args) -> dict[str, Any]:
        """The input with what follows from it: ``n`` where ``n == nums.length``."""
        found = dict(env)
        if self.linked:
            found[NODES] = [value for name in self.linked for value in leaves(env.get(name), int)]
        going = True
        while going:
            going = False
            for chain in self.chains:
                for at, name in enumerate(chain.operators):
                    if name == "==":
                        going = _bind(chain.sides[at], chain.sides[at + 1], found) or going
        return found

    def holds(self, args: Args) -> bool:
        """Whether an input keeps all promises that were understood."""
        env = self.symbols(args)
        try:
            return all(chain.holds(env) for chain in self.chains) and all(
                check(args) for check in self.checks
            )
        except (
            OpenError,
            IndexError,
            TypeError,
            ValueError,
            AttributeError,
        ):  # of another form than known ones
            return False


def _bind(left: Sequence[ast.expr], right: Sequence[ast.expr], env: dict[str, Any]) -> bool:
    for one, other in (*itertools.product(left, right), *itertools.product(right, left)):
        name, solve = _unknown(one)
        if name and name not in env:
            try:
                inner = next(iter(assignments((other,), env)), None)
                if inner is not None:
                    env[name] = solve(evaluate(other, inner))
                    return True
            except (OpenError, IndexError, TypeError):
                continue
    return False


def _unknown(term: ast.expr) -> tuple[str, Callable[[int], int]]:
    """The name in ``n``, ``n - 1`` or ``2 * n``, and what it is where the whole is a number."""
    if isinstance(term, ast.Name):
        return term.id, lambda whole: whole
    if isinstance(term, ast.BinOp):
        left, right = term.left, term.right
        if isinstance(left, ast.Name) and isinstance(right, ast.Constant):
            by: Any = right.value
            if isinstance(term.op, ast.Sub):
                return left.id, lambda whole: whole + by
            if isinstance(term.op, ast.Add):
                return left.id, lambda whole: whole - by
        if isinstance(right, ast.Name) and isinstance(left, ast.Constant) and isinstance(term.op, ast.Mult):
            times: Any = left.value
            return right.id, lambda whole: whole // times
    return "", lambda whole: whole


def parse(
    text: str,
    statement: str,
    names: Sequence[str],
    linked: Mapping[str, str],
    known: Sequence[Args],
) -> Constraints:
    """``linked``: the parameters that are linked lists ("ln") and trees ("tn"); ``known``: inputs that are right."""
    found = Constraints(names=tuple(names), linked=linked)
    text = text.replace("\xa0", " ").replace("\u200b", "").replace("\r\n", "\n")
    components = _components(statement, names)
    text = re.sub(r"(?m)^(\w+)(.*?) and (do(?:es)? not )", r"\1\2\n\1 \3", text)
    for line in map(str.strip, text.split("\n")):
        if not line or re.match(r"(?:Follow-?up|Note)\b", line) or re.search(r"At most .* calls", line):
            continue
        if not (_compares(line, components, found) or _says(line, found, linked, known)):
            found.unknown.append(line)
    _drop_broken(found, known)
    _imply(statement, found, known)
    found.search_tree = bool(linked) and re.search(r"search tree|\bBST", statement) is not None
    for name in names:
        rows = [row for args in known if isinstance(args[name], list) for row in args[name]]
        if re.search(rf"\b{name}\.length == n ?- ?1\b", text) and rows and _pairs(rows):
            found.trees = True
            found.checks.append(lambda args, name=name: is_forest(args[name]))  # type: ignore[misc]
        if width := sum(place.startswith(f"{name}[i]") for place in components.values()):
            found.checks.append(lambda args, name=name, width=width: _all_of(args[name], width))  # type: ignore[misc]
    if found.search_tree:
        found.checks.append(
            lambda args: all(map(_is_search_tree, (args[n] for n in linked if linked[n] == "tn")))
        )
    if not all(map(found.holds, known)):
        found.unknown.append("a known input breaks it")
    return found


def _imply(statement: str, found: Constraints, known: Sequence[Args]) -> None:
    """Promises that stand in the statement only ("two sorted arrays"), and that all known inputs keep."""
    order = re.search(r"sorted|non-decreasing|increasing|ascending", statement)
    unlike = re.search(r"unique|distinct", statement)
    letters = "permutation" in statement
    for name in found.names:
        values = [args[name] for args in known]
        if letters and all(isinstance(value, str) and len(set(value)) == len(value) for value in values):
            found.once.add(name)
            found.checks.append(lambda args, name=name: len(set(args[name])) == len(args[name]))  # type: ignore[misc]
        if not all(isinstance(value, list) for value in values):
            continue
        flat = all(isinstance(item, int) for value in values for item in value)
        if order and flat and name not in found.ascending and all(map(_rising, values)):
            found.ascending[name] = True
            found.checks.append(lambda args, name=name: _rising(args[name]))  # type: ignore[misc]
        if unlike and name not in found.distinct and name not in found.linked and all(map(_unlike, values)):
            found.distinct.add(name)
            found.checks.append(lambda args, name=name: _unlike(args[name]))  # type: ignore[misc]


def _rising(values: Sequence[Any]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(values))


def _unlike(values: Sequence[Any]) -> bool:
    return len(set(map(repr, values))) == len(values)


def _components(statement: str, names: Sequence[str]) -> dict[str, str]:
    """``edges[i] = [ai, bi]``: what the parts of an item are called."""
    places = {}
    for name, parts in re.findall(r"(\w+)\[i\] = \[([\w, ]+)\]", statement):
        for at, part in enumerate(parts.split(",")):
            if name in names and part.strip() not in names:
                places[part.strip()] = f"{name}[i][{at}]"
    return places


def _compares(line: str, components: Mapping[str, str], found: Constraints) -> bool:
    if re.search(r"['\"]", line) or (chain := read_chain(line, components)) is None:
        return False
    found.chains.append(chain)
    found.lines.append(line)
    return True


def _drop_broken(found: Constraints, known: Sequence[Args]) -> None:
    """Comparisons that known inputs do not keep, or that speak of something unknown, were misread."""
    right = []
    for chain, line in zip(found.chains, found.lines, strict=True):
        try:
            kept = all(chain.holds(found.symbols(args)) for args in known)
        except OpenError:
            kept = False
        if kept:
            right.append(chain)
        else:
            found.unknown.append(line)
    found.chains[:] = right


_NUMBER = re.compile(r"-?\d+")
# fmt: off
_FILLERS = frozenset({
    "'s", "a", "all", "an", "and", "and/or", "any", "are", "be", "both", "brackets", "case", "character",
    "characters", "consist", "consists", "contain", "contains", "digit", "digits", "each", "either",
    "english", "from", "in", "integer", "integer's", "integers", "is", "letter", "letters", "lower",
    "lowercase", "of", "one", "only", "or", "representing", "round", "s", "set", "space", "spaces",
    "string", "symbols:", "that", "the", "to", "uppercase", "value", "values", "will",
})
# fmt: on
"""Words that say nothing more of which characters or numbers there are."""


def _says(line: str, found: Constraints, linked: Mapping[str, str], known: Sequence[Args]) -> bool:
    """Takes in a line in words, and tells whether it was understood and known inputs agree."""
    mentioned = [name for name in found.names if re.search(rf"\b{re.escape(name)}\b", line)]
    before = len(found.checks)
    for reading in (_nodes, _order, _distinct, _parity, _graph, _member, _special, _characters, _numbers):
        checks = reading(line, mentioned, found, linked, known)
        if checks is not None:
            if all(check(args) for check in checks for args in known):
                found.checks.extend(checks)
                return True
            del found.checks[before:]
            return False
    return False


def _nodes(
    line: str, mentioned: Sequence[str], found: Constraints, linked: Mapping[str, str], _known: Sequence[Args]
) -> list[Check] | None:
    if not linked or "number of" not in line or "nodes" not in line:
        return None
    names = [n for n in mentioned if n in linked] or [
        name for name, kind in linked.items() if ("list" in line) == ("ln" in kind) or len(linked) == 1
    ]
    if re.search(r"\bis n\b", line):
        count = ast.parse(f"{NODES}.length", mode="eval").body
        found.chains.append(Chain(((ast.Name("n"),), (count,)), ("==",)))
        found.lines.append(line)
        return []
    span = re.search(r"\[(.+), (.+)\]", line)
    if span is None:
        return None
    chain = read_chain(f"{span[1]} <= x <= {span[2]}", {})
    if chain is None:
        return None
    low, high = (int(evaluate(chain.sides[at][0], {})) for at in (0, 2))
    found.nodes.update(dict.fromkeys(names, (low, high)))
    return [lambda args: all(low <= _count_nodes(args[name]) <= high for name in names)]


def _count_nodes(values: Any) -> int:
    return sum(value is not None for value in values or ())


def _order(
    line: str,
    mentioned: Sequence[str],
    found: Constraints,
    _linked: Mapping[str, str],
    _known: Sequence[Args],
) -> list[Check] | None:
    if not re.search(r"sorted|non-increasing|non-decreasing|ascending|increasing order", line):
        return None
    down = re.search(r"non-increasing|descending|decreasing order", line) and "non-decreasing" not in line
    strict = "strictly" in line
    if not mentioned:
        return None
    for name in mentioned:
        found.ascending[name] = not down
    inner = any(f"{name}[i]" in line for name in mentioned)

    def ordered(args: Args) -> bool:
        rows = [row for name in mentioned for row in (args[name] if inner else [args[name]])]
        rows = [row[::-1] if down else row for row in rows]
        return all(a < b if strict else a <= b for row in rows for a, b in itertools.pairwise(row))

    return [ordered]


def _distinct(
    line: str, mentioned: Sequence[str], found: Constraints, linked: Mapping[str, str], known: Sequence[Args]
) -> list[Check] | None:
    if not re.search(
        r"unique|distinct|no duplicate|no repeated|not contain any duplicate|No two \w+ are exactly", line
    ):
        return None
    if "node" in line and linked:
        names = list(linked)
    else:
        names = list(mentioned) or [
            name
            for name in found.names
            if all(isinstance(args[name], list) and _pairs(args[name]) for args in known)
        ]
    if not names or re.search(r"except|more than once|at least", line):
        return None
    found.distinct.update(names)
    inner = re.search(r"Each \w+\[i\]", line) is not None
    nested = re.search(r"\[i\]\[j\]", line) is not None
    undirected = re.search(r"edge|pairs \(", line) is not None

    def items(value: Any) -> list[Any]:
        rows = [cell for row in value for cell in row] if nested else value
        return [
            repr(sorted(row) if undirected and isinstance(row, list) else row)
            for row in rows
            if row is not None
        ]

    def together(args: Args) -> bool:
        every = [item for name in names for item in items(args[name])]
        return len(every) == len(set(every))

    def apart(args: Args) -> bool:
        every = [items(row) for name in names for row in (args[name] if inner else [args[name]])]
        return all(len(row) == len(set(row)) for row in every)

    return [apart if inner or not all(map(together, known)) else together]


def _pairs(value: Sequence[Any]) -> bool:
    return all(isinstance(row, list) and len(row) == 2 for row in value)


def _parity(
    line: str,
    _mentioned: Sequence[str],
    found: Constraints,
    _linked: Mapping[str, str],
    _known: Sequence[Args],
) -> list[Check] | None:
    match = re.fullmatch(r"(\w+)(\[i\])? is (?:an )?even(?: integer)?\.?", line)
    if match is None:
        return None
    name = match[1]
    if match[2]:
        found.even.add(name)
        return [lambda args: all(value % 2 == 0 for value in args[name])]
    found.even.add(name)
    return [lambda args: found.symbols(args).get(name, 0) % 2 == 0]


def _graph(
    line: str, mentioned: Sequence[str], found: Constraints, _linked: Mapping[str, str], known: Sequence[Args]
) -> list[Check] | None:
    if re.search(r"represents a valid tree", line) and mentioned:
        name = mentioned[0]
        found.trees = True
        return [lambda args: is_forest(args[name])]
    if re.search(r"directed and acyclic", line):
        names = [n for n in found.names if all(isinstance(a[n], list) and _pairs(a[n]) for a in known)]
        found.acyclic = True
        return [lambda args: all(_is_acyclic(args[name]) for name in names)] if len(names) == 1 else None
    return None


def is_forest(edges: Sequence[Sequence[int]]) -> bool:
    """Whether no edge closes a circle."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for edge in edges:
        a, b = root(edge[0]), root(edge[1])
        if a == b:
            return False
        parent[a] = b
    return True


def _is_acyclic(edges: Sequence[Sequence[int]]) -> bool:
    left = {tuple(edge) for edge in edges}
    while left:
        targets = {edge[1] for edge in left}
        rest = {edge for edge in left if edge[0] in targets}
        if len(rest) == len(left):
            return False
        left = rest
    return True


def _is_search_tree(values: Any) -> bool:
    """Of a tree in level order: strictly between what its ancestors allow, equal ones where they may be."""
    values = list(values or ())
    if not values:
        return True
    inf = float("inf")
    level: list[tuple[float, float]] = [(-inf, inf)]
    at = 0
    while at < len(values) and level:
        below = []
        for low, high in level:
            if at >= len(values):
                break
            value = values[at]
            at += 1
            if value is not None:
                if not low <= value <= high:
                    return False
                below += [(low, value), (value, high)]
        level = below
    return True


def _member(
    line: str,
    _mentioned: Sequence[str],
    found: Constraints,
    linked: Mapping[str, str],
    _known: Sequence[Args],
) -> list[Check] | None:
    if match := re.fullmatch(r"(\w+) is an anagram of (\w+)\.?", line):
        one, other = match.groups()
        found.anagrams[one] = other
        return [lambda args: sorted(args[one]) == sorted(args[other])]
    if match := re.fullmatch(r"All the integers of (\w+) also appear in (\w+)\.?", line):
        one, other = match.groups()
        found.members[one] = other
        return [lambda args: set(args[one]) <= set(args[other])]
    one = ""
    if match := re.fullmatch(r"(\w+) (?:is in|equals to an element of|exists in) (\w+)\.?", line):
        one, other = match.groups()
    elif (match := re.fullmatch(r"A node with a value of (\w+) exists in the tree\.?", line)) and linked:
        one, other = match[1], next(iter(linked))
    if not one or one not in found.names or other not in found.names:
        return None
    found.members[one] = other
    return [lambda args: args[one] in args[other]]


def _special(
    line: str, mentioned: Sequence[str], found: Constraints, _linked: Mapping[str, str], known: Sequence[Args]
) -> list[Check] | None:
    """Promises that only a few problems make."""
    if re.search(r"leading (?:zeros?|0)", line) and re.search(r"\bnot\b|\bno\b", line) and mentioned:
        found.no_zero.update(mentioned)
        return [lambda args: all(map(_no_zero, (args[name] for name in mentioned)))]
    if "no two adjacent" in line and len(mentioned) == 1:
        name = mentioned[0]
        return [lambda args: not any(a and b for a, b in itertools.pairwise(args[name]))]
    if match := re.fullmatch(r"No letter occurs more than once in any string of (\w+) or (\w+)\.?", line):
        names = match.groups()
        found.once.update(names)
        return [lambda args: all(len(set(text)) == len(text) for name in names for text in args[name])]
    if re.search(r"single space", line):
        names = tuple(mentioned) or tuple(n for n in found.names if isinstance(known[0][n], str))
        capital = "begins with a capital letter and then contains lowercase" in line
        if len(names) != 1 or not (capital or re.search(r"^There is|separated by", line)):
            return None
        found.spaced[names[0]] = capital
        if capital:
            found.alphabets[names[0]] = string.ascii_lowercase + " "
        return [lambda args: _single_spaces(args[names[0]], capital=capital)]
    if re.match(r"Each word consists of uppercase and lowercase English letters", line) and found.spaced:
        found.alphabets.update(dict.fromkeys(found.spaced, string.ascii_letters + " "))
        return []
    if re.search(r"at least two \w+ have different", line):
        (name,) = [n for n in found.names if isinstance(known[0][n], list)][:1] or [""]
        return [lambda args: len(set(args[name])) > 1] if name else None
    if match := re.fullmatch(r"There is at least a common string between (\w+) and (\w+)\.?", line):
        one, other = match.groups()
        found.common = one, other
        return [lambda args: not set(args[one]).isdisjoint(args[other])]
    if match := re.fullmatch(r"The sum of (\w+)\[i\]\.length will not exceed (\d+)\.?", line):
        name, most = match[1], int(evaluate(ast.parse(with_powers(match[2]), mode="eval").body, {}))
        return [lambda args: sum(map(len, args[name])) <= most]
    if re.fullmatch(r"n \+ 1 is a power of 2\.?", line):
        return [lambda args: ((n := found.symbols(args).get("n", 0)) & (n + 1)) == 0]
    if re.search(r"at most two digits after the decimal point in (\w+)", line):
        return [lambda args: all(round(args[name], 2) == args[name] for name in mentioned)]
    if re.search(r"you can reach nums\[n - 1\]", line):
        return [lambda args: _reaches_end(args["nums"])]
    if re.search(r"The answer is guaranteed to fit", line):
        return []  # integers here have no end
    if match := re.fullmatch(r"(\w+)\[i\]\[(\d)\] is (a lowercase letter|'.'|either '.' or '.')\.?", line):
        name, at = match[1], int(match[2])
        allowed = "".join(re.findall(r"'(.)'", match[3])) or string.ascii_lowercase
        found.places.setdefault(name, {})[at] = allowed
        return [lambda args: all(at < len(text) and text[at] in allowed for text in args[name])]
    return None


def _no_zero(value: Any) -> bool:
    if isinstance(value, list) and any(isinstance(item, str | list) for item in value):
        return all(map(_no_zero, value))
    return not isinstance(value, list | str) or len(value) < 2 or value[0] not in (0, "0")


def _all_of(rows: Sequence[Sequence[Any]], width: int) -> bool:
    return all(len(row) == width for row in rows)


def _single_spaces(text: str, *, capital: bool) -> bool:
    whole = not capital or (text[:1].isupper() and not any(map(str.isupper, text[1:])))
    return whole and text == " ".join(text.split()) and bool(text)


def _reaches_end(jumps: Sequence[int]) -> bool:
    far = 0
    for at, jump in enumerate(jumps):
        if at > far:
            return False
        far = max(far, at + jump)
    return True


def _characters(
    line: str, mentioned: Sequence[str], found: Constraints, _linked: Mapping[str, str], known: Sequence[Args]
) -> list[Check] | None:
    names = [name for name in mentioned if any(leaves(args[name], str) for args in known)]
    if not names or not re.search(r"consist|contain|letter|digit|character|\bis\b|\bare\b", line):
        return None
    rest, alphabet = line, ""
    if symbols := re.search(r"symbols: \"([^\"]+)\"", line):
        alphabet += symbols[1]
        rest = rest.replace(symbols[0], "symbols:")
    for quoted in re.findall(r"'(.)'|\"(.)\"", rest):
        alphabet += quoted[0] or quoted[1]
    if spread := re.search(r"from '(\w)' to '(\w)'|\b(\d)-(\d)\b", line):
        first, last = (spread[1], spread[2]) if spread[1] else (spread[3], spread[4])
        alphabet += "".join(map(chr, range(ord(first), ord(last) + 1)))
        rest = rest.replace(spread[0], "")
    elif "digits" in line:
        alphabet += string.digits
    rest = re.sub(r"'.'|\"[^\"]*\"|\{.*\}", " ", rest)
    if "{" not in line and re.search(r"letters?\b", line):
        both = re.search(r"uppercase and lowercase|lowercase and uppercase", line)
        if both or "lowercase" in line or "uppercase" not in line:
            alphabet += string.ascii_lowercase
        if both or "uppercase" in line or "lowercase" not in line:
            alphabet += string.ascii_uppercase
    if "brackets" in line:
        alphabet += "()"
    if re.search(r"\bspaces?\b", line):
        alphabet += " "
    if "valid ascii" in line:
        alphabet += "".join(map(chr, range(33, 127)))
        rest = rest.replace("valid ascii", "")
    if not alphabet:
        return None
    alphabet = "".join(dict.fromkeys(alphabet))
    for name in names:
        found.alphabets[name] = alphabet
    rest = re.sub(r"\w+(?:\[[^\]]*\])+", " ", rest)
    words = set(re.findall(r"[\w/':-]+", rest.lower())) - {name.lower() for name in found.names}
    if words - _FILLERS:
        return None
    allowed = set(alphabet)
    return [
        lambda args: all(set(leaf) <= allowed for name in names for leaf in leaves(args[name], str)[:CHECKED])
    ]


def _numbers(
    line: str, mentioned: Sequence[str], found: Constraints, _linked: Mapping[str, str], known: Sequence[Args]
) -> list[Check] | None:
    if not mentioned or not re.search(r"\b(?:is|are)\b(?: either)? -?\d", line):
        return None
    body = re.sub(r"\w+(?:\[[^\]]*\])+", " ", line)
    values = tuple(sorted(set(map(int, _NUMBER.findall(body)))))
    words = set(re.findall(r"[a-z]+", body.lower())) - _FILLERS - {name.lower() for name in found.names}
    if words or not all(leaves(args[name], int) for name in mentioned for args in known):
        return None
    for name in mentioned:
        found.values[name] = values
    allowed = set(values)
    return [
        lambda args: all(leaf in allowed for name in mentioned for leaf in leaves(args[name], int)[:CHECKED])
    ]


def leaves(value: Any, kind: type) -> list[Any]:
    """All values of a type inside lists."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, kind)]
    return [value] if type(value) is kind else []
