"""Spellings of lm-evaluation-harness on our command line: its words, rewritten as ours before they are parsed. ``run``,
``plan``, ``score`` and ``rescore`` understand them.

Underscores for hyphens (``--max_tokens``), its own options (``--gen_kwargs``, ``--output_path``), and ``--model hf
--model_args pretrained=CKPT,dtype=float16``, where ``--model`` means the engine. They are spellings of the command line
only: configuration files know our names alone. docs/coming-from.md lists them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.cli.progress import say
from cipo_eval.errors import UsageError, nearest

_SHORT = {"-a": "model_args", "-b": "batch_size", "-f": "num_fewshot", "-L": "limit"}
_RENAMED = {
    "system_instruction": "--system-prompt",
    "output_path": "--output",
    "num_fewshot": "--num-fewshot",
    "device": "--device",
}
"""Options that we call otherwise, or that not every one of our commands has."""
_IDLE = {
    "batch_size": "batches are planned from the memory that is free (--batch-tokens)",
    "max_batch_size": "batches are planned from the memory that is free (--batch-tokens)",
    "use_cache": "a run directory is always resumed",
    "cache_requests": "a run directory is always resumed",
    "verbosity": "there is one level (--quiet: nothing)",
    "log_samples": "attempts are always stored",
    "confirm_run_unsafe_code": "programs run in the sandbox (docs/sandbox.md)",
    "tokenizer_backend": "the server has the tokenizer",
    "tokenized_requests": "the server has the tokenizer",
}
"""What is accepted, and why it changes nothing."""
_WITHOUT_VALUE = frozenset({"log_samples", "confirm_run_unsafe_code"})
_VALUE_OPTIONAL = frozenset({"apply_chat_template", "fewshot_as_multiturn"})
_ENGINES = {
    **dict.fromkeys(("hf", "hf-auto", "huggingface"), ("hf", ())),
    "vllm": ("vllm", ()),
    **dict.fromkeys(("openai", "local-chat-completions", "openai-chat-completions"), ("openai", ())),
    **dict.fromkeys(("local-completions", "openai-completions"), ("openai", ("--endpoint", "completions"))),
}
"""What lm-eval's ``--model`` names, as our engine with the options that make it the same."""
_MODEL_ARGUMENTS = {
    "pretrained": "--model",
    "model": "--model",
    "peft": "--model",
    "dtype": "--dtype",
    "revision": "--revision",
    "trust_remote_code": "--trust-remote-code",
    "device": "--device",
    "max_length": "--max-model-len",
    "max_model_len": "--max-model-len",
    "max_gen_toks": "--max-tokens",
    "tensor_parallel_size": "--tensor-parallel",
    "data_parallel_size": "--data-parallel",
    "enable_thinking": "--enable-thinking",
    "base_url": "--base-url",
    "num_concurrent": "--concurrency",
    "max_retries": "--retries",
    "timeout": "--request-timeout",
}
"""Our option for each key of ``--model_args``."""
_GENERATION = {
    "temperature": "--temperature",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "min_p": "--min-p",
    **dict.fromkeys(("max_gen_toks", "max_new_tokens", "max_tokens"), "--max-tokens"),
    **dict.fromkeys(("until", "stop"), "--stop"),
    "seed": "--seed",
    "do_sample": "--temperature",
}
"""Our option for each key of ``--gen_kwargs``."""
_ARGUMENTS = re.compile(r"(--model_args|-a)(=|$)")
_MODEL = frozenset({"pretrained", "model"})
_ENDPOINTS = ("/chat/completions", "/completions")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(slots=True)
class _Line:
    """A command line while it is rewritten."""

    takes: Mapping[str, bool]
    """By flag of the command, whether a value follows it."""
    words: list[str] = field(default_factory=list)
    """What is done."""
    with_arguments: bool = False
    """Whether there are lm-eval's ``--model_args``, beside which ``--model`` may mean the engine. ``--model-args`` are
    ours, which vLLM and lm-eval's model classes take as they are."""
    model: str | None = None
    engine: str | None = None
    model_arguments: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """By word that changes nothing, why."""

    def put(self, flag: str, value: Any = None) -> None:
        """One of our options, where the command has it: an estimate or a judgement depends on less than a run."""
        if flag not in self.takes:
            self.notes[flag] = "this command does not depend on it"
            return
        if self.takes[flag]:
            self.words += [flag, str(value)]
        elif _truth(value):
            self.words.append(flag)
        elif (opposite := f"--no-{flag.removeprefix('--')}") in self.takes:
            self.words.append(opposite)


def rewritten(words: Sequence[str], parameters: Sequence[Any], say: Callable[[str], None] = say) -> list[str]:
    """The words of a command line in our spelling; ``parameters`` are the command's (click's).

    ``say`` hears what was accepted and changes nothing. Raises ``UsageError`` for what cannot be meant here.
    """
    takes: dict[str, bool] = {}
    for parameter in parameters:
        if parameter.param_type_name == "option":
            takes |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], not parameter.is_flag)
    line = _Line(takes, with_arguments=any(_ARGUMENTS.match(word) for word in words))
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            _finish(line)
            line.words += [word, *rest]
            break
        _take(line, word, rest)
    else:
        _finish(line)
    if not {"-q", "--quiet"} & set(line.words):
        for name, why in line.notes.items():
            say(f"{name} changes nothing: {why}")
    return line.words


def _take(line: _Line, word: str, rest: list[str]) -> None:
    """Rewrites one word, with what of the rest belongs to it."""
    flag, equals, value = word.partition("=")
    name = _SHORT.get(flag, flag.removeprefix("--").replace("-", "_"))
    ours = flag if flag in line.takes else f"--{name.replace('_', '-')}"
    if not (flag.startswith("--") or flag in _SHORT or flag in ("-m", "-q")):
        line.words.append(word)
        if line.takes.get(word) and rest:
            line.words.append(rest.pop(0))
    elif line.with_arguments and flag in ("-m", "--model"):
        line.model = value if equals else _value(flag, rest)
    elif line.with_arguments and name == "engine":
        line.engine = value if equals else _value(flag, rest)
    elif name == "model_args" and flag != "--model-args":
        line.model_arguments.append(value if equals else _value(flag, rest))
    elif name == "tasks" and "--task" in line.takes:  # of a file, which answers one
        line.put("--task", value if equals else _value(flag, rest))
    elif name in _RENAMED:
        line.put(_RENAMED[name], value if equals else _value(flag, rest))
    elif name == "fewshot_as_multiturn":
        line.put(ours, (value if equals else _optional(name, flag, rest)) or True)
    elif ours in line.takes:
        line.words.append(f"{ours}={value}" if equals else ours)
        if line.takes[ours] and not equals and rest:
            line.words.append(rest.pop(0))
    elif name == "gen_kwargs":
        _generation(line, value if equals else _value(flag, rest))
    elif name == "apply_chat_template" or name in _IDLE:
        _idle(line, flag, name, value if equals else _optional(name, flag, rest))
    else:
        line.words.append(word)  # unknown: the parser says so


def _value(flag: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"{flag} needs a value")
    return rest.pop(0)


def _optional(name: str, flag: str, rest: list[str]) -> str:
    """The value of an option that takes none, perhaps one, or one."""
    if name in _WITHOUT_VALUE:
        return ""
    if name in _VALUE_OPTIONAL:
        return rest.pop(0) if rest and rest[0].lower() in _TRUTHS else ""
    return _value(flag, rest)


def _idle(line: _Line, flag: str, name: str, value: str) -> None:
    if name == "apply_chat_template":
        if value and not _TRUTHS.get(value.lower(), False):
            raise UsageError(
                f"{flag} {value}: a checkpoint's own chat template is always used where it has one "
                "(--engine openai: --endpoint completions asks without)"
            )
        line.notes[flag] = "a checkpoint's own chat template is always used where it has one"
        return
    line.notes[flag] = _IDLE[name]


def _generation(line: _Line, text: str) -> None:
    values = _pairs("--gen_kwargs", text)
    greedy = "do_sample" in values and not _truth(values.pop("do_sample"))
    if greedy:
        values["temperature"] = 0
    for key, value in values.items():
        if key not in _GENERATION:
            raise UsageError(f"--gen_kwargs {key}: {_ours(key, _GENERATION)}")
        for item in value if isinstance(value, list) else [value]:
            line.put(_GENERATION[key], item)


def _finish(line: _Line) -> None:
    """Puts model and engine, of ``--model``, ``--engine`` and ``--model_args``, which mean nothing alone."""
    values: dict[str, Any] = {}
    for text in line.model_arguments:
        if line.engine is not None and line.engine not in ("hf", "openai", "vllm"):
            line.put("--model-args", text)  # of a model class of lm-eval's, or of a replica
        else:
            values |= _pairs("--model_args", text)
    if _MODEL & values.keys():
        _lm_eval_model(line, values)
    elif line.model is not None:
        line.words += ["--model", line.model]
    if line.engine is not None:
        line.put("--engine", line.engine)
    _model_arguments(line, values)


def _lm_eval_model(line: _Line, values: dict[str, Any]) -> None:
    """``--model`` names the engine, ``pretrained`` the model; an adapter (``peft``) knows its base itself."""
    if line.engine is None:
        name = line.model or "hf"
        if name not in _ENGINES:
            raise UsageError(
                f"--model {name} beside --model_args pretrained=…: {nearest(name, _ENGINES)} "
                "(another model class of lm-eval's: --engine lm-eval:NAME)"
            )
        engine, more = _ENGINES[name]
        if (
            engine in ("hf", "vllm") or "--base-url" in line.takes
        ):  # of an estimate: a server's machine is vLLM's
            line.engine = engine
        for flag, value in zip(more[::2], more[1::2], strict=True):
            line.put(flag, value)
    elif line.model is not None and line.model not in _ENGINES:
        raise UsageError(f"--model {line.model} and --model_args pretrained=… both name the model")
    path = values.pop("peft", None) or values.get("pretrained") or values.get("model")
    for name in _MODEL:
        values.pop(name, None)
    line.put("--model", path)


def _model_arguments(line: _Line, values: Mapping[str, Any]) -> None:
    further = []
    for key, value in values.items():
        if key in _IDLE:
            line.notes[f"--model_args {key}"] = _IDLE[key]
        elif key in _MODEL_ARGUMENTS and not (key == "device" and line.engine == "vllm"):
            line.put(_MODEL_ARGUMENTS[key], _address(value) if key == "base_url" else value)
        elif line.engine == "vllm":
            further.append(f"{key}={value}")
        else:
            raise UsageError(f"--model_args {key}: {_ours(key, _MODEL_ARGUMENTS)}")
    if further:
        line.put("--model-args", ",".join(further))


def _address(value: Any) -> str:
    """A server's address up to and with ``/v1``: lm-eval's goes on."""
    text = str(value).rstrip("/")
    for end in _ENDPOINTS:
        text = text.removesuffix(end)
    return text


def _ours(key: str, table: Mapping[str, str]) -> str:
    """What is near to a key that is not known, and all keys with our options."""
    near = nearest(key, table)
    flags = ", ".join(f"{name} ({flag})" for name, flag in table.items())
    return f"{near} known: {flags}" if near.startswith("did") else f"known: {flags}"


def _pairs(flag: str, text: str) -> dict[str, Any]:
    """Values by key of ``KEY=VALUE,…`` or of a JSON mapping. A comma in a value goes with it where no key follows."""
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{flag}: no JSON ({error})") from None
    values: dict[str, Any] = {}
    key = ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip()
            values[key] = value.strip()
        elif key:
            values[key] += f",{part}"
        elif part.strip():
            raise UsageError(f"{flag} {part.strip()}: write KEY=VALUE,KEY=VALUE")
    return values


def _truth(value: Any) -> bool:
    return value is None or _TRUTHS.get(str(value).lower(), False)
