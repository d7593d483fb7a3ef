"""How turns are written: what a model is shown of an attempt, and asked to do with it.

The first turn is the same for all protocols that revise a model's own attempts, and is generated once. An attempt is a
hostile text: it goes into messages of its own, or between tags that do not occur in it; templates are filled in once,
so that nothing in it is taken for a template. What the verifier knows and a model may not see never gets here
(``Verdict.report``).
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import UsageError
from cipo_eval.records import Span, State, Turn, Verdict, fingerprint
from cipo_eval.texts import STRIP, strip_think
from cipo_eval.turns.prefill import WAIT, cut
from cipo_eval.turns.protocols import DIRECT, GIVEN, Protocol, ours
from cipo_eval.verifiers.critique import Form

if TYPE_CHECKING:
    from cipo_eval.turns.pools import Pool, PoolItem

VALUES = ("problem", "attempt", "critique", "instruction", "feedback")
"""What templates may have filled in."""


class TurnFormat(StrEnum):
    """How an earlier attempt is shown."""

    CHAT = "chat"
    """All turns so far as a conversation, each attempt an assistant's message."""
    INLINE = "inline"
    """The last attempt within one user message, with the problem."""


class Prompts:
    """The templates, ours or those of a user's folder.

    Raises ``UsageError`` for a folder that is not there, holds a file that is no template's, or a template that cannot
    be filled in.
    """

    def __init__(self, folder: Path | None = None) -> None:
        from jinja2 import Environment, StrictUndefined

        shipped = {
            path.name: path.read_text(encoding="utf-8")
            for path in resources.files("cipo_eval.turns.prompts").iterdir()
            if path.name.endswith(".txt")
        }
        own = _read_folder(folder, shipped) if folder else {}
        self.texts = {name.removesuffix(".txt"): own.get(name, text) for name, text in shipped.items()}
        self._environment = environment = Environment(undefined=StrictUndefined, autoescape=False)
        self._templates = {}
        for name, text in self.texts.items():
            try:
                self._templates[name] = environment.from_string(text)
                self.fill(name, **dict.fromkeys(VALUES, "x"))
            except Exception as error:
                raise UsageError(f"template {name}.txt cannot be filled in: {error}") from error

    def fill(self, name: str, **values: str) -> str:
        """The template of this name, filled in."""
        return self._templates[name].render(**values).strip()

    def fill_text(self, template: str, **values: str) -> str:
        """A template that is given as text, filled in."""
        return self._environment.from_string(template).render(**values).strip()

    def fingerprint(self, *names: str) -> str:
        """Fingerprint of the templates of these names, which a run keeps."""
        return fingerprint({name: self.texts[name] for name in names})


@functools.cache
def default_prompts() -> Prompts:
    """Our own templates."""
    return Prompts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revising:
    """How the turns after the first are asked for in a run."""

    protocols: tuple[Protocol, ...] = ()
    """The protocols with more than one turn."""
    direct: bool = True
    """First attempts are wanted even if nothing revises them."""
    pool: Pool | None = None
    """The attempts that ``given`` and its kind revise; None: no protocol takes any."""
    turns: int = 2
    """Number of attempts of a whole chain."""
    turn_format: TurnFormat = TurnFormat.CHAT
    """How an earlier attempt is shown, where the protocol leaves the choice."""
    critique_form: Form = Form.ANALYSIS
    """How judgements are asked for."""
    keep_think: bool = False
    """Thoughts of earlier turns stay in what later ones see."""
    think: str = STRIP
    """The tags of thoughts (``texts.think_tags``)."""
    prompts: Prompts | None = None
    """The templates; None: the package's own."""

    def identity(self) -> dict[str, Any]:
        """By protocol, what must stay the same for its attempts to belong together."""
        prompts = self.prompts or default_prompts()
        return {
            protocol.name: {
                "templates": self._fingerprint(prompts, protocol),
                "turn_format": self._format(protocol).value,
                "keep_think": self.keep_think,
                **({} if self.think == STRIP else {"think": self.think}),
                **({"form": self.critique_form.value} if protocol.judges and not protocol.locates else {}),
                **({} if protocol.own or self.pool is None else {"pool": self.pool.fingerprint}),
                **({} if protocol.cut is None else {"cut": protocol.cut, "wait": protocol.wait}),
                **({} if ours(protocol.name) else {"traits": protocol.traits()}),
            }
            for protocol in self.protocols
        }

    def _fingerprint(self, prompts: Prompts, protocol: Protocol) -> str:
        """Of what a protocol's turns are written with: for one of a user's own also its template, or its code."""
        if ours(protocol.name):
            return prompts.fingerprint(*self._templates(protocol))
        written = type(protocol).instruction
        code = "" if written is Protocol.instruction else _source(written)
        shared = prompts.fingerprint("inline", *(self._templates(protocol) if protocol.judges else ()))
        return fingerprint([protocol.template, code, shared])

    def _format(self, protocol: Protocol) -> TurnFormat:
        """How an earlier attempt is shown; some protocols leave no choice."""
        if protocol.continues:
            return TurnFormat.CHAT
        return TurnFormat.INLINE if protocol.locates else self.turn_format

    def _templates(self, protocol: Protocol) -> tuple[str, ...]:
        if protocol.continues:
            return ()
        if protocol.locates:
            return ("critique_step",)
        if protocol.judges:
            return self._judging(), "critique_correct", "inline", "inline_critique"
        return self._template(protocol), "inline"

    def _template(self, protocol: Protocol) -> str:
        """The template that asks for another attempt: variants by cut say the same."""
        return protocol.name if protocol.cut is None else GIVEN

    def _judging(self) -> str:
        """The template that asks for a judgement."""
        return "critique" if self.critique_form is Form.ANALYSIS else f"critique_{self.critique_form.value}"

    @property
    def generates_first(self) -> bool:
        """Whether the model makes first attempts of its own."""
        return self.direct or any(protocol.own for protocol in self.protocols)

    def follows(self, protocol: Protocol, start: str, turn: int) -> bool:
        """Whether a protocol goes on from a turn of ``start``: the first is shared, or the pool's."""
        return start == (protocol.name if turn > 1 or not protocol.own else DIRECT)

    def given(self, task: str, problem: str) -> tuple[PoolItem, ...]:
        """The pool's attempts at a problem, if any protocol revises them."""
        if self.pool is None or all(protocol.own for protocol in self.protocols):
            return ()
        return self.pool.of(task, problem)

    def asks(self, protocol: Protocol, history: Sequence[Turn]) -> bool:
        """Whether there is another turn after these."""
        last = protocol.last_turn(self.turns)
        return len(history) < last and not (protocol.only_wrong and history[-1].verdict.correct)

    def messages(
        self,
        protocol: Protocol,
        first: Sequence[Mapping[str, str]],
        history: Sequence[Turn],
        error_end: int | None = None,
    ) -> tuple[tuple[dict[str, str], ...], tuple[Span, ...]]:
        """Messages of the next turn, and where in them earlier turns are (they may be shortened).

        ``first``: the messages of the first turn, the problem's prompt last; ``error_end``: characters of the first
        attempt up to the end of its first wrong step, where that is known.
        """
        shown = [text if self.keep_think else strip_think(text, self.think).strip() for text, _ in history]
        if protocol.cut is not None:
            shown[0] = cut(history[0].text, protocol.cut, error_end, None if self.keep_think else self.think)
        messages = [dict(message) for message in first]
        if protocol.continues:
            # nothing of it is ever left out of its middle: it would not be what the model goes on with
            begun = (shown[0] + (WAIT if protocol.wait else "")).lstrip()
            return (*messages, *([{"role": "assistant", "content": begun}] if begun else ())), ()
        if self._format(protocol) is TurnFormat.INLINE:
            prompt, places = self._inline(protocol, messages.pop()["content"], shown, history)
            messages.append({"role": "user", "content": prompt})
            return tuple(messages), tuple(Span(len(messages) - 1, *place) for place in places)
        spans = []
        for number, text in enumerate(shown, start=1):
            spans.append(Span(len(messages), 0, len(text)))
            messages.append({"role": "assistant", "content": text})
            messages.append({"role": "user", "content": self._instruction(protocol, history[:number])})
        return tuple(messages), tuple(spans)

    def _inline(
        self, protocol: Protocol, problem: str, shown: Sequence[str], history: Sequence[Turn]
    ) -> tuple[str, list[tuple[int, int]]]:
        """One prompt with everything, and where in it the last attempt is, and what was said of it."""
        instruction = "" if protocol.locates else self._instruction(protocol, history)
        judged = protocol.is_judgement(len(history))
        texts = {"attempt": shown[-2], "critique": shown[-1]} if judged else {"attempt": shown[-1]}
        mark = "\ue000"
        while mark in problem + instruction:
            mark += "\ue000"
        places = {name: f"{mark}{name}{mark}" for name in texts}
        template = "critique_step" if protocol.locates else "inline_critique" if judged else "inline"
        prompts = self.prompts or default_prompts()
        filled = prompts.fill(template, problem=problem, instruction=instruction, **places)
        text, spans = "", []
        for i, part in enumerate(re.split(f"{mark}({'|'.join(texts)}){mark}", filled)):
            if i % 2 == 0:
                text += part
                continue
            # an attempt in steps has tags of its own
            between = texts[part] if protocol.locates else tagged(part, texts[part])
            start = len(text) + (0 if protocol.locates else between.index("\n") + 1)
            spans.append((start, start + len(texts[part])))
            text += between
        return text, spans

    def _instruction(self, protocol: Protocol, history: Sequence[Turn]) -> str:
        """What is asked after these turns."""
        if (written := protocol.instruction(history)) is not None:
            return written
        prompts = self.prompts or default_prompts()
        values = {"feedback": feedback(history[-1].verdict)} if protocol.tells else {}
        if protocol.template:
            return prompts.fill_text(protocol.template, **values)
        if protocol.judges:
            judged = protocol.is_judgement(len(history))
            return prompts.fill("critique_correct" if judged else self._judging())
        return prompts.fill(self._template(protocol), **values)


def _source(function: Any) -> str:
    """What identifies the code of a function: its text, or, where no file has it, its byte code."""
    try:
        return inspect.getsource(function)
    except OSError:
        return str(function.__code__.co_code.hex())


def tagged(name: str, text: str) -> str:
    """A text between two tags, of a name with which no tag in the text begins."""
    number, tag, lower = 1, name, text.lower()
    while f"<{tag}" in lower or f"</{tag}" in lower:
        number += 1
        tag = f"{name}-{number}"
    return f"<{tag}>\n{text}\n</{tag}>"


_STATES = {
    State.NO_ANSWER: "No final answer was found in it.",
    State.TRUNCATED: "It was cut off before it reached a final answer.",
}
_KINDS = {
    "wrong_answer": "A test gave a wrong result.",
    "error": "A test ended with an error.",
    "timeout": "A test did not finish within the time limit.",
    "crash": "The program broke down in a test.",
}


def feedback(verdict: Verdict) -> str:
    """What a model may be told about a wrong attempt: of tests the first that failed, with values if it is public."""
    failure = verdict.report.get("failure")
    if not failure:
        return _STATES.get(verdict.state, "The final answer that was read from it is not right.")
    parts = [_KINDS.get(failure.get("kind"), "A test failed.")]
    if failure.get("public"):
        named = (("input", "Input"), ("expected", "Expected"), ("actual", "Result"))
        parts += [f"{title}:\n{tagged(key, str(failure[key]))}" for key, title in named if key in failure]
    if failure.get("error"):
        parts.append(f"Error:\n{tagged('error', str(failure['error']))}")
    return "\n\n".join(parts)


def _read_folder(folder: Path, shipped: Mapping[str, str]) -> dict[str, str]:
    if not folder.is_dir():
        raise UsageError(f"--prompt-dir {folder} is not a folder")
    files = {path.name: path for path in folder.iterdir() if path.suffix == ".txt"}
    if unknown := sorted(set(files) - set(shipped)):
        raise UsageError(f"{folder / unknown[0]} is no template: there are {', '.join(sorted(shipped))}")
    return {name: path.read_text(encoding="utf-8") for name, path in files.items()}
