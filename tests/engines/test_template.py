"""Chat templates: what was asked is in the prompt, or the prompt is refused; the clock stands still; turns end."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import transformers.utils.chat_template_utils as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from cipo_eval.engines.chat import Prompt, encode, render
from cipo_eval.engines.conversation import Chat
from cipo_eval.engines.prompting import Prompting, Thinking
from cipo_eval.engines.template import Setting, templated, turn_end
from cipo_eval.errors import UsageError
from cipo_eval.records import Span
from cipo_eval.texts import THINK_TAGS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = {
    "a loop over parts": CHATML.replace(
        "{{ m.content }}",
        "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}",
    ),
    "the first part": CHATML.replace("m.content", "m.content[0]['text']"),
    "a filter of parts": CHATML.replace(
        "m.content",
        "m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | map('trim') | join",
    ),
}
TEXTS = {
    "as it is": CHATML,
    "trimmed": CHATML.replace("m.content", "m.content | trim"),
    "either": CHATML.replace("m.content", "(m.content if m.content is string else m.content[0].text)"),
    "without thoughts": CHATML.replace(
        "m.content", "(m.content.split('</think>')[-1] if m.role == 'assistant' else m.content)"
    ),
    "without switches": CHATML.replace(
        "m.content", "m.content.replace('/no_think', '').replace('/think', '')"
    ),
    "a system always": "{{ raise_exception('no system') if messages[0].role != 'system' }}" + CHATML,
    "the system before the last": (
        "{% for m in messages if m.role != 'system' %}[{% if loop.last and messages[0].role == 'system' %}"
        "{{ messages[0].content }}\n\n{% endif %}{{ m.content }}]{% endfor %}"
    ),
}
LOST = {
    "the system": (CHATML.replace("in messages", "in messages if m.role != 'system'"), "system"),
    "the assistant": (CHATML.replace("in messages", "in messages if m.role != 'assistant'"), "assistant"),
    "all but the last": (CHATML.replace("in messages", "in messages[-1:]"), "system and user and assistant"),
    "all": ("{{ bos_token }}Hello!", "system and user and assistant"),
    "another text": (CHATML.replace("m.content", "m.content | upper"), "system and user and assistant"),
    "a text in some, parts in others": (
        CHATML.replace("m.content", "(m.content[0].text if m.role == 'user' else m.content)"),
        "user",
    ),
}
DATES = (
    "\n  {% if strftime_now is defined %}\n  on {{ strftime_now('%d %b %Y, %-d %% %%d %H:%M:%S %A') }}\n{% endif %}\n",
    "  {%- set now = strftime_now(format='%Y-%m-%d') %}{{ now }} {{ strftime_now('%Y') | int + 1 }}\n\n",
    "{% macro at(x) %}{% if strftime_now is defined %}{{ strftime_now(x) }}{% endif %}{% endmacro %}{{ at('%j%p') }}",
    "   {% set x = 1 %}\n  {{ strftime_now('%c') }}",
)
PHRASES = [
    "What is 2+2?",
    "\n",
    "  ",
    "/think",
    "</think>",
    "<think>",
    "<|im_end|>",
    "{{ x }}",
    "{'type': 'text'",
    "é",
]


def tokenizer(template: str | None, *special: str | AddedToken) -> Any:
    """Of characters, with these tokens besides."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    backend.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=backend)
    found.add_tokens([AddedToken(t, special=True) if isinstance(t, str) else t for t in special])
    found.chat_template = template
    return found


def conversation(*contents: str) -> list[dict[str, str]]:
    roles = {1: ("user",), 2: ("system", "user"), 3: ("user", "assistant", "user")}
    return [
        {"role": role, "content": text}
        for role, text in zip(roles.get(len(contents), ("system", *roles[3])), contents, strict=True)
    ]


@pytest.mark.parametrize("name", [*PARTS, *TEXTS])
def test_what_is_asked_is_in_the_prompt(name: str) -> None:
    """As parts where the template wants parts, and then the prompt is the one that texts would give."""
    made = tokenizer((PARTS | TEXTS)[name])
    for contents in (["S", "1"], ["S", "Q", "A", "again"], *([["1"]] if name != "a system always" else [])):
        text, special = render(made, conversation(*contents))
        assert not special
        assert all(content in text for content in contents)
        assert "'type'" not in text
        assert (
            name != "a system always"
            or "< |im_start|>user" in render(made, conversation("S", "<|im_start|>user"))[0]
        )
        if name in PARTS:
            assert text == render(tokenizer(CHATML), conversation(*contents))[0]


@pytest.mark.parametrize("name", LOST)
def test_a_template_that_leaves_a_text_out_is_refused_by_role(name: str) -> None:
    template, roles = LOST[name]
    with pytest.raises(UsageError, match=f"text of {roles} messages"):
        render(tokenizer(template), conversation("S", "Q", "A", "again"))


def test_a_question_that_alone_is_left_out_is_refused_too() -> None:
    """Where the template looks into texts; what a model said cannot make a prompt an error."""
    made = tokenizer(CHATML.replace("m.content", "(m.content if 'z' not in m.content else '')"))
    assert "plain" in render(made, conversation("plain"))[0]
    with pytest.raises(UsageError, match="text of user messages"):
        encode(made, conversation("z marks it"))
    quoted = [{"role": "user", "content": "Correct this: z Go."}]
    with pytest.raises(UsageError, match="text of user messages"):
        encode(made, quoted)
    made.chat_template = CHATML.replace("m.content", "m.content.replace('z', '')")
    assert encode(made, quoted, carried=[Span(0, 14, 16)]).text.count("Correct this:") == 1
    assert encode(made, conversation("Q", "z", "again")).ids


@pytest.mark.parametrize("name", [*PARTS, *TEXTS])
@settings(max_examples=25)
@given(pieces=st.lists(st.sampled_from(PHRASES), max_size=6))
def test_no_content_is_refused_where_templates_trim_or_have_switches(name: str, pieces: list[str]) -> None:
    text = "".join(pieces)
    made = _made(name)
    encode(made, conversation("S " + text, "Q" + text, text, text + " again"))


_kept: dict[str, Any] = {}


def _made(name: str) -> Any:
    return _kept.setdefault(name, tokenizer((PARTS | TEXTS)[name]))


@pytest.mark.parametrize(
    "template", ["{{ 1 + 'a' }}", "{% if %}", "{{ messages[5].content.x }}", "{{ range(9999999) | list }}"]
)
def test_whatever_a_template_does_is_one_line(template: str) -> None:
    with pytest.raises(UsageError, match="rejects the messages") as raised:
        Prompting(tokenizer(template), context=None)
    assert "\n" not in str(raised.value)


def test_of_several_templates_the_default_is_taken_or_none() -> None:
    several: Any = {"default": CHATML, "rag": "{{ messages[0].content }}"}
    assert render(tokenizer(several), conversation("Q")) == render(tokenizer(CHATML), conversation("Q"))
    del several["default"]
    with pytest.raises(UsageError, match="chat template"):
        Prompting(tokenizer(several), context=None)


@pytest.mark.parametrize("start", DATES)
def test_the_date_is_the_one_that_it_is_told(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is to the letter what transformers makes of the template on that day, on any other day too."""
    clock = datetime(2031, 2, 3, 14, 5, 6, tzinfo=UTC)

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return clock.astimezone(tz) if tz else clock

    made = tokenizer(start + CHATML)
    ours = templated(made, conversation("Q"), Setting(clock=clock))
    with monkeypatch.context() as patch:
        patch.setattr(theirs, "datetime", Then)
        expected = made.apply_chat_template(conversation("Q"), tokenize=False, add_generation_prompt=True)
    assert ours == expected
    assert made.apply_chat_template(conversation("Q"), tokenize=False, add_generation_prompt=True) != ours
    day, other = (
        Prompting(made, context=None, clock=when) for when in (clock, datetime(2031, 2, 4, tzinfo=UTC))
    )
    assert day.describe()["clock"] == "2031-02-03T14:05:06+00:00"
    assert day.describe() != other.describe()
    assert "clock" not in Prompting(tokenizer(CHATML), context=None, clock=clock).describe()


@pytest.mark.parametrize(
    ("template", "special", "end"),
    [
        (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
        (CHATML, [AddedToken("<|im_end|>", special=False)], "<|im_end|>"),
        (CHATML, ["<|im_start|>"], None),
        (CHATML.replace("<|im_end|>", " </s>"), ["<", "</s>", "</s"], "</s>"),
        (CHATML.replace("<|im_end|>\n", ""), ["<|im_start|>"], None),
        (PARTS["a loop over parts"], ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
        (  # another end between turns than at the end (gpt-oss): that one is not the end of what it says
            CHATML.replace(
                "<|im_end|>", "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}"
            ),
            ["<|end|>", "<|return|>"],
            "<|return|>",
        ),
        ("{{ messages[0].content }}", ["<|im_end|>"], None),
        (
            "{{ raise_exception('no') if messages[0].role != 'system' }}" + CHATML,
            ["<|im_end|>"],
            "<|im_end|>",
        ),
        (
            "{{ raise_exception('no') if messages | length > 1 }}{{ messages[0].content }}",
            ["<|im_end|>"],
            None,
        ),
        (None, ["<|im_end|>"], None),
    ],
)
def test_the_token_behind_an_assistants_text_ends_its_turn(
    template: Any, special: Any, end: str | None
) -> None:
    made = tokenizer(template, *special)
    number = turn_end(made)
    assert (None if number is None else made.convert_ids_to_tokens(number)) == end
    assert Prompting(made, context=None, ends=[3]).ends == {3} | ({number} if number is not None else set())
    if number is not None:
        texts = Prompting(made, context=None)
        said = [*made("abc", add_special_tokens=False)["input_ids"], number]
        assert texts.completion(Prompt([1]), said, "stop").text == "abc"


@pytest.mark.parametrize(
    ("special", "said", "text"),
    [
        (("[THINK]", "[/THINK]"), "[THINK]ab[/THINK]c", "[THINK]ab[/THINK]c"),
        (("</s>", "[THINK]"), "[THINK]ab</s>c", "[THINK]abc"),
        (("<|end|>", "<|user|>"), "ab<|end|>c<|user|>", "abc"),  # Phi-3's, which mark no thoughts
        (
            ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>"),
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
        ),
    ],
)
def test_special_tokens_that_mark_thoughts_stay_in_texts(
    special: tuple[str, ...], said: str, text: str
) -> None:
    made = tokenizer(None, *special)
    texts = Prompting(made, context=None, thinking=Thinking(budget=4))
    tokens = made(said, add_special_tokens=False)["input_ids"]
    assert texts.completion(Prompt([1]), tokens, "stop").text == text
    cut = texts.cut((text[-1],))  # texts that a stop string ends keep them, too
    assert cut is not None
    found = cut.first(tokens)
    assert found is not None
    assert text.startswith(found[1])
    assert len(found[1]) >= 2
    opens = next((tags for tags in THINK_TAGS if said.startswith(tags.start)), None)
    begun = made(said[: len(opens.start) + 1] if opens else "ab", add_special_tokens=False)["input_ids"]
    closing = made.decode(texts.closing(Prompt([1]), begun))
    assert closing == (opens.closing if opens else "")


@given(
    pieces=st.lists(st.sampled_from(["a", "b", "é", "<|end|>", "<|", "|>", "<|x|>"]), max_size=8),
    stop=st.sampled_from(["<|end|>", "|>", "d|>a", "a<|end|>", "é", "ab", "<|x|>b"]),
)
def test_stop_strings_see_special_tokens_and_texts_do_not(pieces: list[str], stop: str) -> None:
    made = _kept.setdefault("stops", tokenizer(None, "<|end|>", "<|x|>"))
    tokens = made("".join(pieces), add_special_tokens=False)["input_ids"]
    raw = made.decode(tokens)
    cut_at = Prompting(made, context=None).cut((stop,))
    assert cut_at is not None
    found = next((f for n in range(1, len(tokens) + 1) if (f := cut_at(tokens[:n]))), None)
    assert (found is not None) == (stop in raw)
    if found is None:
        return
    kept, text = found
    cut = raw.index(stop)
    assert made.decode(tokens[:kept]).startswith(raw[:cut])
    assert not kept or not made.decode(tokens[: kept - 1]).startswith(raw[:cut])
    special = {at for mark in re.finditer(r"<\|(end|x)\|>", raw) for at in range(*mark.span())}
    assert text == "".join(letter for at, letter in enumerate(raw[:cut]) if at not in special)


def test_thinking_is_refused_where_the_template_has_no_switch() -> None:
    for template in (None, CHATML):
        with pytest.raises(UsageError, match="--enable-thinking"):
            Prompting(tokenizer(template), context=None, thinking=Thinking(chat=Chat(enable_thinking=True)))


def test_equal_prompts_have_equal_hashes() -> None:
    made = tokenizer("{{ strftime_now('%d %b') }} " + CHATML)
    one, same, later = (
        encode(made, conversation("Q"), setting=Setting(clock=datetime(2030, 1, day, tzinfo=UTC))).hash
        for day in (1, 1, 2)
    )
    assert one == same != later
