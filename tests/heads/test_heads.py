"""Three small heads of a third-party package: painted, spoken, trained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ming_core import OmniModel, load, user
from ming_core.chat.prompt import build_prompt
from ming_core.contract import BrokenContract, HeadExample, check_head
from ming_core.engine.prompting import tensors_of
from ming_core.engine.request import Request
from ming_core.errors import BadConfig
from ming_core.heads import Condition, Row, States, speak, states_of

Painter = import_module("acme_heads.painter").Painter
Reader = import_module("acme_heads.reader").Reader
Talker = import_module("acme_heads.talker").Talker

WIDTH = 192
"""Of nano's hidden states."""

VOICES = {"ann": [1.0, 0.0], "bob": [0.0, 1.0]}
CONFIG = {
    "painter_config": {"model_type": "acme_painter"},
    "talker_config": {"model_type": "acme_talker", "hidden_size": 12, "thinker_width": WIDTH},
    "reader_config": {"model_type": "acme_reader"},
}
SETTINGS = {
    "front": {"width": WIDTH, "scales": [1, 2]},
    "transformer": {"tokens": 4, "hidden": 64},
    "flow": {"width": 8, "voice": 2},
}


def picture(red: float) -> torch.Tensor:
    colour = torch.tensor([red, 1 - red, 0.2])
    return colour.view(3, 1, 1).expand(3, 4, 4)


@pytest.fixture
def voices(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "voices.json").write_text(json.dumps(VOICES), "utf-8")
    return {"reader/voices.json": tmp_path / "voices.json"}


def example(head_class: type[Any], files: dict[str, Path]) -> HeadExample:
    inputs: dict[type[Any], list[dict[str, Any]]] = {
        Painter: [
            {"references": [picture(0.1), picture(0.3)], "target": picture(1)},
            {"target": picture(0)},
        ],
        Talker: [{"text": "yes", "codes": [1, 2, 3]}, {"text": "oh!", "codes": [0, 5, 15]}],
        Reader: [
            {"voice": "ann", "text": "yes", "target": torch.randn(96)},
            {"voice": "bob", "text": "no.", "target": torch.randn(96)},
        ],
    }
    return HeadExample(CONFIG, inputs[head_class], SETTINGS, files, width=WIDTH)


@pytest.mark.parametrize("head_class", [Painter, Talker, Reader])
def test_the_contract(head_class: type[Any], voices: dict[str, Path]) -> None:
    check_head(head_class, example(head_class, voices))


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    model = load("nano", device="cpu", dtype="float32")
    model.omni.requires_grad_(False)
    return model


def new_head(head_class: type[Any], files: dict[str, Path] | None = None) -> Any:
    torch.manual_seed(0)
    parts = {}
    for part in head_class.components(CONFIG):
        settings = CONFIG[part.section] if part.section else SETTINGS.get(part.name, {})
        parts[part.name] = part.build(settings)
    return head_class(CONFIG, parts, files or {})


def read(model: OmniModel, head: Any, texts: Sequence[str]) -> list[States]:
    """Hidden states of prompts, with gradients to the queries."""
    asked = [head.queries] * len(texts)
    prompts = [
        build_prompt([user(text)], model.format, model.tokenizer, queries=head.queries)
        for text in texts
    ]
    rule, pad = model.rule, model.config.pad_token_id
    batch, _ = tensors_of(rule, pad, prompts, [], queries=asked)
    return states_of(batch, model.omni(batch, keep=head.reads))


def descend(head: Any, loss: Callable[[], dict[str, torch.Tensor]], steps: int) -> list[float]:
    """Steps of equal size for all weights: an optimiser of torch takes seconds to be imported."""
    values = []
    for step in range(steps):
        head.zero_grad()
        total = torch.stack([*loss().values()]).sum()
        total.backward()
        with torch.no_grad():
            for weights in head.parameters():
                if weights.grad is not None:
                    weights -= 0.01 * (1 - step / steps) * weights.grad.sign()
        values.append(float(total.detach()))
    return values


def fell(values: Sequence[float], to: float) -> bool:
    return sum(values[-5:]) < to * sum(values[:5])


WORDS = ("red", "green")


def test_a_painter_learns_with_a_frozen_backbone(nano: OmniModel, tmp_path: Path) -> None:
    """Its queries learn, too: from conditions that are made anew in each step."""
    head, rng = new_head(Painter), torch.Generator().manual_seed(0)
    pictures = torch.stack([picture(1), picture(0)]) * 2 - 1
    before = [vectors.detach().clone() for vectors in head.queries.vectors]
    reference = head.processor()

    def told() -> Condition:
        return head.condition([Row(states, reference) for states in read(nano, head, WORDS)])

    def loss() -> dict[str, torch.Tensor]:  # eight draws of noise for each condition
        return head.loss(
            Condition.stack([told()] * 8), {"picture": pictures.repeat(8, 1, 1, 1)}, rng
        )

    assert fell(descend(head, loss, 40), 0.7)
    for old, new in zip(before, head.queries.vectors, strict=True):
        assert (old != new).any(dim=1).all()
    request = [
        Request([user(word)], queries=head.queries, keep=head.reads, inputs={}) for word in WORDS
    ]
    answers = list(nano.engine.run(request))
    rows = [Row(answer.states, head.processor(**r.inputs)) for answer, r in zip(answers, request)]
    condition = head.condition(rows)
    torch.testing.assert_close(condition["text"], told()["text"], rtol=1e-3, atol=1e-3)
    stored = Condition.load(condition.save(tmp_path / "words.safetensors"))
    rngs = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    painted = head.paint(stored, rngs).mean(dim=(2, 3))
    assert painted[0, 0] > painted[0, 1] + 0.3  # red
    assert painted[1, 1] > painted[1, 0] + 0.3  # green


def test_a_head_trains_on_stored_conditions(nano: OmniModel) -> None:
    head = new_head(Talker)
    with torch.no_grad():
        rows = [Row(states) for states in read(nano, head, ["say yes", "please say no then"])]
    condition = head.condition(rows)
    made = [head.processor(text="abcd", codes=codes) for codes in ([1, 2, 3, 4], [9, 8, 7, 6])]
    target = {key: torch.stack([own[key] for own in made]) for key in made[0]}
    rng = torch.Generator()
    assert fell(descend(head, lambda: head.loss(condition, target, rng), 200), 0.05)
    head.eval()
    rngs = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
    said: list[list[torch.Tensor]] = [[], []]
    for number, samples in speak(head, condition, [["ab", "cd"], ["abcd"]], rngs):
        said[number].append(samples)
    for pieces, codes in zip(said, ([1, 2, 3, 4], [9, 8, 7, 6]), strict=True):
        assert len(pieces) == 4
        assert torch.equal(torch.stack(pieces), head.codec(torch.tensor(codes)))


def test_a_text_only_speaker_learns_without_a_backbone(voices: dict[str, Path]) -> None:
    head, rng = new_head(Reader, voices), torch.Generator().manual_seed(0)
    waves = {"ann": torch.ones(96), "bob": -torch.ones(96)}
    made = [head.processor(voice=v, text="yes", target=wave) for v, wave in waves.items()]
    target = {key: torch.stack([own[key] for own in made]) for key in made[0]}
    rows = [Row(inputs=own) for own in made]
    values = descend(head, lambda: head.loss(head.condition(rows), target, rng), 150)
    assert fell(values, 0.4)
    rngs = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    said = [torch.empty(0), torch.empty(0)]
    for number, samples in speak(head, head.condition(rows), [["ye", "s."], ["s"]], rngs):
        said[number] = torch.cat((said[number], samples))
    assert [len(sound) for sound in said] == [128, 32]
    assert said[0].mean() > 0.3
    assert said[1].mean() < -0.3


def test_speech_begins_before_the_text_is_complete(voices: dict[str, Path]) -> None:
    head = new_head(Reader, voices).eval()
    order = []

    def write() -> Iterator[str]:
        for word in ("One. ", "Two", "."):
            order.append(word)
            yield word

    row = Row(inputs=head.processor(voice="bob"))
    for _ in speak(head, head.condition([row]), [write()], [torch.Generator()]):
        order.append("sound")
    assert order.index("sound") == 1
    assert order.index("Two") < len(order) - 1 - order[::-1].index("sound")


def test_a_voice_that_is_not_there(voices: dict[str, Path]) -> None:
    with pytest.raises(BadConfig, match="no voice 'eve'; known are ann, bob"):
        new_head(Reader, voices).processor(voice="eve")


def test_a_request_that_is_forgotten_leaves_the_others_alone(voices: dict[str, Path]) -> None:
    head = new_head(Reader, voices).eval()
    rows = [Row(inputs=head.processor(voice=voice)) for voice in ("ann", "bob")]

    def begun() -> list[Any]:
        rngs = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return head.start(head.condition(rows), rngs)

    both, (_, bob) = begun(), begun()
    first = head.step(both, ["a.", "b."])[1]
    rest = head.step([both[1]], ["c"])[0]
    wanted = [head.step([bob], [text])[0] for text in ("b.", "c")]
    torch.testing.assert_close([first, rest], wanted)


BROKEN: dict[str, tuple[type[Any], str, Any]] = {
    "makes something else in a batch": (
        Painter,
        "paint",
        lambda old: lambda self, told, rngs, **how: old(self, told, rngs[:1] * len(rngs), **how),
    ),
    "gives [2, 4, 4], not": (
        Painter,
        "paint",
        lambda old: lambda *given, **how: old(*given, **how).mean(1),
    ),
    "values outside of 0 to 1": (
        Painter,
        "paint",
        lambda old: lambda *given, **how: old(*given, **how) * 2 + 0.5,
    ),
    "gives 1 rows for 2": (
        Reader,
        "condition",
        lambda old: lambda self, rows: old(self, rows[:1]),
    ),
    "gives no Condition": (Reader, "condition", lambda old: lambda self, rows: {}),
    "values that are not finite": (
        Reader,
        "condition",
        lambda old: lambda self, rows: Condition({"voice": old(self, rows)["voice"] / 0}, "x"),
    ),
    "is no finite number": (
        Talker,
        "loss",
        lambda old: lambda self, *given: {"codes": old(self, *given)["codes"].expand(2)},
    ),
    "no gradient": (
        Talker,
        "loss",
        lambda old: (
            lambda self, *g: {
                "codes": old(self, *g)["codes"].detach() + torch.zeros((), requires_grad=True)
            }
        ),
    ),
    "differs for equal seeds": (
        Reader,
        "loss",
        lambda old: (
            lambda self, told, target, rng: old(
                self, told, target, torch.Generator().manual_seed(int(torch.randint(10**6, ())))
            )
        ),
    ),
    "says nothing of 'One.'": (
        Talker,
        "step",
        lambda old: lambda self, *given: [said[:0] for said in old(self, *given)],
    ),
    "must not accept a row without states": (
        Talker,
        "condition",
        lambda old: (
            lambda self, rows: old(
                self,
                [row for row in rows if row.read]
                or [
                    Row(
                        States(
                            {0: torch.ones(1, WIDTH), "last": torch.ones(1, WIDTH)},
                            torch.zeros(1),
                            torch.zeros(1),
                        )
                    )
                ],
            )
        ),
    ),
    "share a name": (
        Painter,
        "components",
        lambda old: classmethod(lambda cls, config: old(config) * 2),
    ),
    "must keep its component 'codec' as a module": (
        Talker,
        "__init__",
        lambda old: (
            lambda self, config, parts, files: (
                old(self, config, parts, files),
                setattr(self, "codec", nn.Embedding(16, 40)),
            )[0]
        ),
    ),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_the_contract_finds_a_broken_head(sentence: str, voices: dict[str, Path]) -> None:
    base, name, change = BROKEN[sentence]
    broken = type(base.__name__, (base,), {name: change(getattr(base, name))})
    with pytest.raises(BrokenContract, match=re.escape(sentence)):
        check_head(broken, example(base, voices))
