"""Checks of everything that can be registered. A plugin runs them on itself.

`check_entry` takes what a plugin registered; `check_light` takes its modules. `check_encoder` and
`check_head` take a class and an example of its settings and inputs. They raise BrokenContract with
one sentence. A package calls them in its tests (docs/plugins.md); `tests/contract` calls them for
everything that is installed.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ming_core.checkpoints.components import Component
from ming_core.checkpoints.formats import open_weights
from ming_core.checkpoints.keymap import identity_slots
from ming_core.checkpoints.reading import load_module, module_tensors, on_meta
from ming_core.checkpoints.writing import export
from ming_core.errors import MingError
from ming_core.evaluation.registered import open_benchmark
from ming_core.heads import Condition, Row, States, speak
from ming_core.media import Media
from ming_core.model.encoder import Features, Fills, by_modality
from ming_core.model.transformer import Layer
from ming_core.plugins.kinds import (
    BenchmarkEntry,
    ChatCommandEntry,
    EncoderEntry,
    HeadEntry,
    OptionsEntry,
    PresetEntry,
    RecipeEntry,
    ReleaseEntry,
    TaskEntry,
)
from ming_core.plugins.registry import Entry
from ming_core.release import Release
from ming_core.tasks import method_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAVY = ("torch", "numpy", "PIL", "av", "transformers", "lightning")
"""Libraries that no plugin may import before something of it is used."""

RTOL, ATOL = 1e-3, 1e-4
"""Largest difference between a result in a batch and the same result alone."""


class BrokenContract(AssertionError):
    """One sentence about what something registered does not do."""


@dataclass(frozen=True)
class EncoderExample:
    """config: a whole config.json of a small model. media: at least two, of different sizes."""

    config: Mapping[str, Any]
    media: Sequence[Media]
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadExample:
    """Settings of a small head, and what it is told.

    config: a whole config.json. settings: config.json of the folders of its components, by the name
    of the component. files: what its components ask for, by path below the model's folder. inputs:
    arguments of its processor for at least two rows, with targets of equal size. width: of the
    hidden states. texts: one for each row, of a speaker.
    """

    config: Mapping[str, Any]
    inputs: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    width: int = 32
    texts: Sequence[str] = ("One.", "Two words.")


def check_entry(entry: Entry) -> None:
    """Whether something registered is what its kind needs. Raises BrokenContract."""
    who = f"{entry.name!r} of {entry.plugin}"
    if not isinstance(entry, EncoderEntry | HeadEntry | OptionsEntry):
        one_line = bool(entry.summary) and "\n" not in entry.summary
        _check(one_line, f"{who} needs a summary of one line")
    if isinstance(entry, PresetEntry):
        scheme, _, place = entry.target.partition(":")
        there = scheme == "hub" or (files(scheme) / place / "config.json").is_file()
        _check(there, f"the preset {who} has no {entry.target!r} with a config.json")
        return
    try:
        _check_target(who, entry, entry.load())
    except MingError as error:
        raise BrokenContract(str(error)) from error


def check_encoder(encoder_class: type[Any], example: EncoderExample) -> None:
    """Shapes, dtypes, save and load, batch = single, errors. Raises BrokenContract."""
    name = encoder_class.__name__
    with on_meta():
        hollow = encoder_class.from_config(example.config, example.preprocessor)
    _check(
        all(parameter.is_meta for parameter in hollow.parameters()),
        f"{name}.from_config allocates weights when it is built on meta",
    )
    encoder = encoder_class.from_config(example.config, example.preprocessor).eval()
    _check(isinstance(encoder, nn.Module), f"{name} is no nn.Module")
    features = encoder.processor(example.media)
    _check(isinstance(features, Features), f"the processor of {name} gives no Features")
    _check(features.modality == encoder.modality, f"{name} makes features of another modality")
    _check(
        len(features.tokens) == len(example.media) and min(features.tokens) > 0,
        f"the processor of {name} must say how many tokens each medium takes",
    )
    _check(
        features.grid is None or features.grid.shape == (len(example.media), 3),
        f"the grid of {name} must have one row (time, height, width) for each medium",
    )
    with torch.inference_mode():
        values = encoder(features)
        width = example.config["llm_config"]["hidden_size"]
        _check_shape(f"{name}()", values, (sum(features.tokens), width))
        _check(bool(values.isfinite().all()), f"{name} makes values that are not finite")
        alone = torch.cat([encoder(encoder.processor([medium])) for medium in example.media])
        _check_close(f"{name} makes other tokens of a medium in a batch", alone, values)
        again = _stored(encoder, encoder_class.from_config(example.config, example.preprocessor))
        _check_close(
            f"{name} gives other tokens when it was saved and loaded", again(features), values
        )
        half = encoder.to(torch.bfloat16)(features.to("cpu", torch.bfloat16))
        _check(half.dtype == torch.bfloat16, f"{name} gives {half.dtype} when it is in bfloat16")
    if isinstance(encoder.processor, Fills):
        _check_dummy(
            name, encoder_class.from_config(example.config, example.preprocessor), features
        )
    with _refuses(f"{name}.from_config must raise BadConfig for a config.json without its section"):
        encoder_class.from_config({"llm_config": example.config["llm_config"]}, {})


def _check_dummy(name: str, encoder: Any, features: Features) -> None:
    """Whether the dummy input reaches all weights that these features reach."""
    dummy = encoder.processor.dummy(None)
    _check(dummy is not None, f"the processor of {name} makes no dummy input for nothing")
    used = _reached(encoder, dummy)
    idle = sorted(_reached(encoder, features) - used)
    _check(not idle, f"the dummy input of {name} does not reach {', '.join(idle[:3])}")
    rest = encoder.processor.dummy(features)
    both = features if rest is None else by_modality([features, rest])[0]
    idle = sorted(used - _reached(encoder, both))
    _check(not idle, f"the dummy input of {name} beside others misses {', '.join(idle[:3])}")


def _reached(encoder: Any, features: Features) -> set[str]:
    """Names of the weights that get a gradient from these features."""
    encoder.zero_grad()
    encoder(features).sum().backward()
    return {name for name, weight in encoder.named_parameters() if weight.grad is not None}


def check_head(head_class: type[Any], example: HeadExample) -> None:
    """Components, condition, loss, save and load, batch = single. Raises BrokenContract."""
    name = head_class.__name__
    components = head_class.components(example.config)
    _check_components(name, components, example)
    parts = {component.name: _built(component, example) for component in components}
    head = head_class(example.config, parts, example.files).eval()
    _check(isinstance(head, nn.Module), f"{name} is no nn.Module")
    _check(head.gives in ("image", "audio"), f"{name}.gives must be 'image' or 'audio'")
    held = {id(parameter) for parameter in head.parameters()}
    for part, module in parts.items():
        _check(
            all(id(parameter) in held for parameter in module.parameters()),
            f"{name} must keep its component {part!r} as a module, or it cannot be trained",
        )
    made = [head.processor(**inputs) for inputs in example.inputs]
    rows = [Row(_states(head, number, example.width), own) for number, own in enumerate(made)]
    condition = head.condition(rows)
    _check_condition(name, condition, len(rows))
    target = {key: torch.stack([own[key] for own in made]) for key in made[0]}
    _check_loss(name, head, rows, target)
    told = [head.condition([row]) for row in rows]
    makes = _pictures if head.gives == "image" else _sounds
    together = makes(head, condition, example)
    for number, alone in enumerate(told):
        found = makes(head, alone, example, number)[0]
        _check_close(f"{name} makes something else in a batch", found, together[number])
    with tempfile.TemporaryDirectory() as folder:
        path = condition.save(Path(folder) / "condition")
        again = makes(head, Condition.load(path), example)
    _check_close(f"{name} makes something else of a stored condition", again[0], together[0])
    copies = {c.name: _stored(parts[c.name], _built(c, example), c) for c in components}
    loaded = head_class(example.config, copies, example.files).eval()
    again = makes(loaded, loaded.condition(rows), example)
    _check_close(f"{name} makes something else when it was saved and loaded", again[0], together[0])
    if head.reads:
        with _refuses(f"{name}.condition must not accept a row without states", ValueError):
            head.condition([Row(None, made[0])])


def check_light(modules: Sequence[str]) -> None:
    """Check that importing plugin modules, and listing their entries, loads no heavy library."""
    code = (
        "import sys, importlib\n"
        "from ming_core.plugins import get_plugins\n"
        f"[importlib.import_module(name) for name in {list(modules)!r}]\n"
        "[list(registry) for registry in get_plugins().registries.values()]\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    _check(done.returncode == 0, f"{', '.join(modules)} cannot be imported: {done.stderr[-300:]}")
    found = done.stdout.split()
    _check(not found, f"to list what {', '.join(modules)} register imports {', '.join(found)}")


def _check_target(who: str, entry: Entry, target: Any) -> None:
    match entry:
        case EncoderEntry():
            _check_encoder_class(who, entry, target)
        case HeadEntry():
            _check_head_class(who, entry, target)
        case TaskEntry():
            _check_task(who, target)
        case ReleaseEntry():
            _check_release(who, target)
        case RecipeEntry():
            package, _, place = entry.settings.partition(":")
            there = (files(package) / place).is_file()
            _check(there, f"the recipe {who} has no file of settings {entry.settings!r}")
        case BenchmarkEntry():
            open_benchmark(entry, {})
        case OptionsEntry():
            right = is_dataclass(target) and isinstance(target, type)
            _check(right, f"the options {who} must be a dataclass")
            whole = all(_has_default(field) for field in fields(target))
            _check(whole, f"each field of the options {who} needs a default")
        case ChatCommandEntry():
            right = callable(target) and len(inspect.signature(target).parameters) == 3
            _check(right, f"the chat command {who} must take a model, an argument and messages")


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _check_encoder_class(who: str, entry: EncoderEntry, target: Any) -> None:
    _check_module(who, target, "from_config", "forward")
    _check(
        target.modality == entry.modality,
        f"the encoder {who} is registered for another modality than its class has",
    )


def _check_head_class(who: str, entry: HeadEntry, target: Any) -> None:
    _check_module(who, target, "components", "condition", "loss")
    gives = entry.gives
    _check(target.gives == gives, f"the head {who} is registered for another medium than it makes")
    _check_module(who, target, *(["paint"] if gives == "image" else ["start", "step", "finish"]))


def _check_module(who: str, target: Any, *methods: str) -> None:
    right = isinstance(target, type) and issubclass(target, nn.Module)
    _check(right, f"{who} must be a class of nn.Module")
    lacks = [name for name in methods if not callable(getattr(target, name, None))]
    _check(not lacks, f"{who} has no method {' or '.join(lacks)}")


def _check_task(who: str, target: Any) -> None:
    """A command is made of its signature and its text."""
    method = method_of(target)
    _check(callable(method), f"the task {who} must be a class of tasks or a function")
    _check(bool(inspect.getdoc(method)), f"the task {who} needs a docstring: it is its help")
    first = next(iter(inspect.signature(method).parameters.values()), None)
    named = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD
    _check(named, f"the first argument of the task {who} must be the model")


def _check_release(who: str, target: Any) -> None:
    """It is asked about every config.json, whatever that holds."""
    _check(isinstance(target, Release), f"{who} must be a Release")
    for config in ({}, {"llm_config": None}, {"llm_config": {"model_type": 7, "rope_scaling": 1}}):
        try:
            found = target.recognises(config)
        except Exception as error:
            raise BrokenContract(f"the release {who} raises for {config}: {error!r}") from error
        _check(not found, f"the release {who} recognises {config}, which says nothing")
    names = [place.name for place in target.components]
    _check(len(set(names)) == len(names), f"two components of the release {who} share a name")


def _check_components(name: str, components: Sequence[Component], example: HeadExample) -> None:
    names = [component.name for component in components]
    _check(bool(names), f"{name} has no components")
    _check(len(set(names)) == len(names), f"two components of {name} share a name: {names}")
    for component in components:
        with on_meta():
            module = component.build(_settings(component, example))
        _check(
            all(parameter.is_meta for parameter in module.parameters()),
            f"the component {component.name!r} of {name} allocates weights when built on meta",
        )
        try:
            module_tensors(module, component.slots(module))
        except ValueError as error:
            raise BrokenContract(f"the component {component.name!r} of {name}: {error}") from None
        for file in component.files:
            path = f"{component.folder}/{file}".lstrip("/")
            _check(path in example.files, f"the example of {name} lacks the file {path!r}")


def _check_condition(name: str, condition: Any, rows: int) -> None:
    _check(isinstance(condition, Condition), f"{name}.condition gives no Condition")
    _check(len(condition) == rows, f"{name}.condition gives {len(condition)} rows for {rows}")
    _check(bool(condition.head), f"the condition of {name} does not say which head made it")
    four = Condition.stack([condition.null(), condition, condition, condition])
    _check(len(four) == 4 * rows, f"four conditions of {name} do not stack")
    numbers = [t for t in condition.tensors.values() if t.is_floating_point()]
    _check(bool(numbers), f"the condition of {name} holds no floating-point tensor")
    finite = all(bool(tensor.isfinite().all()) for tensor in numbers)
    _check(finite, f"{name}.condition makes values that are not finite")


def _check_loss(name: str, head: Any, rows: Sequence[Row], target: Mapping[str, Tensor]) -> None:
    """Terms with gradients, equal for equal seeds."""
    head.zero_grad()
    terms = head.loss(head.condition(rows), target, _rng(0))
    _check(bool(terms), f"{name}.loss gives no terms")
    for key, term in terms.items():
        right = isinstance(term, Tensor) and term.dim() == 0 and bool(term.isfinite())
        _check(right, f"the term {key!r} of {name}.loss is no finite number")
    torch.stack([*terms.values()]).sum().backward()
    moved = any(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    _check(moved, f"no gradient of {name}.loss reaches the weights of the head")
    head.zero_grad()
    again = head.loss(head.condition(rows), target, _rng(0))
    for key, term in terms.items():
        _check_close(f"{name}.loss differs for equal seeds", again[key].detach(), term.detach())


def _pictures(
    head: Any, condition: Condition, example: HeadExample, first: int = 0
) -> list[Tensor]:
    rngs = [_rng(first + number) for number in range(len(condition))]
    name, pictures = type(head).__name__, head.paint(condition, rngs, steps=2)
    right = pictures.dim() == 4 and pictures.shape[:2] == (len(condition), 3)
    _check(right, f"{name}.paint gives {list(pictures.shape)}, not [rows, 3, height, width]")
    inside = bool(((pictures >= 0) & (pictures <= 1)).all())
    _check(inside, f"{name}.paint gives values outside of 0 to 1")
    return list(pictures)


def _sounds(head: Any, condition: Condition, example: HeadExample, first: int = 0) -> list[Tensor]:
    """What is said of texts that are written one character at a time."""
    name = type(head).__name__
    _check(isinstance(head.rate, int) and head.rate > 0, f"{name}.rate must be a number of samples")
    rngs = [_rng(first + number) for number in range(len(condition))]
    said: list[list[Tensor]] = [[torch.empty(0, device="cpu")] for _ in rngs]
    texts = example.texts[first : first + len(condition)]
    for number, samples in speak(head, condition, texts, rngs):
        _check(samples.dim() == 1, f"{name}.step gives {list(samples.shape)}, expected [samples]")
        said[number].append(samples)
    sounds = [torch.cat(pieces) for pieces in said]
    for text, sound in zip(texts, sounds, strict=True):
        _check(len(sound) > 0, f"{name} says nothing of {text!r}")
        _check(bool(sound.isfinite().all()), f"{name} says samples that are not finite")
    return sounds


def _states(head: Any, row: int, width: int) -> States | None:
    """Random hidden states of a prompt; each row has another length."""
    if not head.reads:
        return None
    queries = head.queries
    count = 0 if queries is None else sum(queries.counts)
    if queries is not None:
        wrong = [list(scale.shape) for scale in queries.vectors if scale.shape[1:] != (width,)]
        _check(not wrong, f"queries of {type(head).__name__} are {wrong}, expected [n, {width}]")
    length = 5 + row + count
    hidden: dict[Layer, Tensor] = {
        layer: torch.randn(length, width, generator=_rng(row), device="cpu") for layer in head.reads
    }
    numbers = torch.arange(length, device="cpu") - (length - count)
    return States(hidden, (numbers >= 0).long(), numbers.clamp_min(-1))


def _settings(component: Component, example: HeadExample) -> Mapping[str, Any]:
    if component.section:
        return example.config[component.section]
    return example.settings.get(component.name, {}) if component.folder else example.config


def _built(component: Component, example: HeadExample) -> nn.Module:
    return component.build(_settings(component, example)).eval()


def _stored(module: nn.Module, other: nn.Module, component: Component | None = None) -> nn.Module:
    """`other` with the weights of `module`, by way of a folder."""
    table = identity_slots if component is None else component.slots
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "part"
        export({"part": (module, table(module))}, place, {})
        weights = open_weights(place)
        load_module(other, weights, table(other), torch.device("cpu"), torch.float32)
    return other.eval()


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _check(right: bool, sentence: str) -> None:
    if not right:
        raise BrokenContract(sentence)


def _check_shape(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    _check(values.shape == shape, f"{what} gives {list(values.shape)}, expected {list(shape)}")


def _check_close(sentence: str, found: Tensor, wanted: Tensor) -> None:
    same = found.shape == wanted.shape and torch.allclose(found, wanted, RTOL, ATOL)
    _check(same, sentence)


@contextmanager
def _refuses(sentence: str, *errors: type[Exception]) -> Iterator[None]:
    """The block must raise a MingError, or one of these."""
    try:
        yield
    except (MingError, *errors):
        return
    raise BrokenContract(sentence)
