"""Runs a program's top level as fast as a function's body, where nobody can tell the difference.

CPython looks up the names of a module in a dictionary and those of a function in an array, so a loop at the top of a
program takes up to twice as long as the same loop in a function. Programs of contests are often nothing but such loops,
and LiveCodeBench's runner, with which their time limits are measured, puts them into a function. ``ModuleCode`` does
that as well, and keeps a module's meaning: each name that anything but the top level itself could see stays a global.

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import importlib
import re
import symtable
import types
from collections.abc import Iterator
from typing import Any

LONGEST = 1 << 16
"""Characters of a program; in longer ones, the tree of which takes a lot of memory, all stays as it is."""
_OBSERVES = re.compile(
    r"\b(?:globals|locals|vars|dir|exec|eval|__import__|import_module|inspect|_getframe|currentframe|__main__|__dict__"
    r"|__globals__|modules|get_type_hints|singledispatch|tracemalloc|settrace|setprofile|runpy|pdb|timeit|cProfile"
    r"|doctest|__annotations__|__closure__|__code__|getattr_static)\b"
)
"""Words by which a program might look at its own names, frames or code."""
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class ModuleCode:
    """A program, compiled as a module and, where there is something to gain, its loops as a function's.

    The names of functions, classes and imports, and names that are builtins' too, stay globals: others may look for
    them there, or the name may mean the builtin before it is bound. So do names that a nested scope declares global or
    that a class binds, which it then does not see in a function around it. Raises what ``compile`` raises for the
    source, and nothing else.
    """

    def __init__(self, source: str, filename: str) -> None:
        self._module = compile(source, filename, "exec", dont_inherit=True)
        self._body: types.CodeType | None = None
        if len(source) > LONGEST or _OBSERVES.search(source):
            return
        try:
            self._split(source, filename)
        except (SyntaxError, ValueError, RecursionError, MemoryError, ImportError):
            self._body = None

    def run(self, space: dict[str, Any]) -> Any:
        """Runs it in a module's namespace; what is returned holds the objects that the namespace does not."""
        exec(self._module, space)  # noqa: S102  the purpose of this process
        if self._body is None:
            return None
        running = types.FunctionType(self._body, space)()
        next(running)
        return running

    def _split(self, source: str, filename: str) -> None:
        """``_module``: all up to what only a module may have; ``_body``: the rest, as the code of a generator function
        that yields once, at its end: its names live on until it is dropped."""
        tree = ast.parse(source, filename)
        if not any(isinstance(node, _LOOPS) for node in _top_level(tree.body)):
            return
        first = 1 + max((at for at, node in enumerate(tree.body) if _needs_module(node)), default=-1)
        first = max(first, ast.get_docstring(tree, clean=False) is not None)
        head, rest = tree.body[:first], tree.body[first:]
        flags = self._module.co_flags & _FUTURE
        if any(map(_needs_module, _top_level(rest))) or any(map(_is_annotation, _top_level(rest))):
            return
        table = symtable.symtable(source, filename, "exec")
        bound = {symbol.get_name() for symbol in table.get_symbols() if _is_bound(symbol)}
        kept = bound & (_kept_global(table) | _bound_by(head))
        if bound == kept:
            return
        body = _as_function(rest, sorted(kept), filename, flags)
        self._module = compile(
            ast.Module(body=head, type_ignores=[]), filename, "exec", flags, dont_inherit=True
        )
        self._body = body


def _top_level(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes that are executed as part of the module itself; comprehensions with what is in them."""
    left: list[ast.AST] = list(statements)
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, _SCOPES):
            left.extend(ast.iter_child_nodes(node))


def _needs_module(node: ast.AST) -> bool:
    """``import *`` and ``from __future__``."""
    return isinstance(node, ast.ImportFrom) and (
        node.module == "__future__" or any(alias.name == "*" for alias in node.names)
    )


def _is_annotation(node: ast.AST) -> bool:
    """Annotations of names are evaluated and stored by a module only."""
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _kept_global(table: symtable.SymbolTable) -> set[str]:
    """Names of the top level that have to stay globals."""
    kept = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_namespace()
        or symbol.is_imported()
        or symbol.is_declared_global()
        or symbol.get_name().startswith("__")
        or hasattr(builtins, symbol.get_name())
    }
    left = list(table.get_children())
    while left:
        inner = left.pop()
        left.extend(inner.get_children())
        in_class = inner.get_type() == "class"
        kept |= {
            symbol.get_name()
            for symbol in inner.get_symbols()
            if symbol.is_declared_global() or (in_class and _is_bound(symbol))
        }
    return kept


def _bound_by(head: list[ast.stmt]) -> set[str]:
    """Names that the statements before the function bind, those of ``import *`` among them. Raises ``ImportError``."""
    names: set[str] = set()
    for node in _top_level(head):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            module = importlib.import_module(node.module or "")
            names.update(getattr(module, "__all__", None) or vars(module))
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return names


def _as_function(rest: list[ast.stmt], kept: list[str], filename: str, flags: int) -> types.CodeType:
    """The code of a function without arguments that has the statements as its body."""
    body: list[ast.stmt] = [ast.Global(names=kept)] if kept else []
    body += [*rest, ast.copy_location(ast.Expr(ast.copy_location(ast.Yield(), rest[-1])), rest[-1])]
    function = ast.FunctionDef(
        name="module",
        args=ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]),
        body=body,
        decorator_list=[],
    )
    tree = ast.fix_missing_locations(ast.Module(body=[function], type_ignores=[]))
    outer = compile(tree, filename, "exec", flags, dont_inherit=True)
    inner = next(constant for constant in outer.co_consts if isinstance(constant, types.CodeType))
    return inner.replace(co_name="<module>", co_qualname="<module>")
