"""Many requests at once: whoever comes when, each gets the answer it would get alone."""

from __future__ import annotations

import copy
import gc
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pil
from torch import Tensor

from ming_core import Image, OmniModel, Video, assistant, system, user
from ming_core.chat import Tokenizer
from ming_core.engine.answers import Answer
from ming_core.engine.engine import Ticket
from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling
from ming_core.errors import BadCheckpoint, BadConfig, BadMedia, MingError, NotFinite
from ming_core.media import Frames, Message
from ming_core.model.cache import Cache
from ming_core.model.seen import SeenMedia
from ming_core.model.transformer import Layer

TOKENS = 10
"""Length of most answers here: the random model never ends one by itself."""


@pytest.fixture(scope="module")
def made(make_model: Callable[..., OmniModel], tokenizer_folder: Path) -> OmniModel:
    return make_model("flash", Tokenizer(tokenizer_folder))


@pytest.fixture
def model(made: OmniModel) -> OmniModel:
    """The same weights without anything that other tests asked."""
    return OmniModel(made.name, made.omni, made.sources)


def pixels(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(seed: int, height: int = 32, width: int = 32) -> Image:
    return Image(pixels(seed, height, width))


def video(seed: int, frames: int = 4) -> Video:
    return Video(Frames([pixels(seed + i) for i in range(frames)], [i / 2 for i in range(frames)]))


def request(*parts: Any, tokens: int = TOKENS, **options: Any) -> Request:
    fields = {name: options.pop(name) for name in ("keep", "keep_from", "begin") if name in options}
    return Request([user(*parts)], sampling=Sampling(max_new_tokens=tokens, **options), **fields)


def mixed() -> list[Request]:
    """Requests of all kinds and lengths."""
    return [
        request("red?", tokens=14),
        request(picture(1), "what is red?", tokens=5),
        Request(
            [system("be brief"), user("how?"), assistant("so"), user(picture(2, 24, 40), "why?")],
            sampling=Sampling(max_new_tokens=9),
        ),
        request(video(3), "what moves?", tokens=7),
        request("blue " * 30, tokens=12),
        request(picture(4), picture(5, 48, 16), "what differs?", begin="it is", tokens=1),
        request("what?", tokens=8, temperature=1.0, seed=3),
        request(picture(4), "what?", tokens=8, no_repeat_ngram=1),
    ]


def single(model: OmniModel, asked: Request) -> list[int]:
    """The tokens of a request that has the model for itself."""
    ticket = model.engine.submit(asked)
    model.engine.wait(ticket)
    return ticket.row.tokens


def serve(model: OmniModel, steps: int) -> None:
    for _ in range(steps):
        model.engine.step()


def is_idle(model: OmniModel) -> bool:
    engine = model.engine
    batch = engine._batch
    return not (
        engine._waiting or engine._running or (batch and (batch.rows or batch._cache.length))
    )


# Requests that come and go


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_requests_that_come_late_get_the_answers_they_get_alone(model: OmniModel, gap: int) -> None:
    expected = [single(model, asked) for asked in mixed()]
    tickets: list[Ticket] = []
    for asked in mixed():
        tickets.append(model.engine.submit(asked))
        serve(model, gap)
    for ticket in reversed(tickets):
        model.engine.wait(ticket)
    assert [ticket.row.tokens for ticket in tickets] == expected
    assert is_idle(model)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_run_gives_all_answers_in_order(model: OmniModel, batch: int | None) -> None:
    expected = [model.engine.answer(asked) for asked in mixed()]
    assert list(model.engine.run(mixed(), batch)) == expected
    assert is_idle(model)


def test_a_run_takes_requests_as_it_has_room(model: OmniModel) -> None:
    taken: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(9):
            taken.append(number)
            yield request("red " * (number + 1), tokens=2 + number % 3)

    answers = model.engine.run(requests(), batch=3)
    assert taken == []
    next(answers)
    assert 3 <= len(taken) < 9
    assert len(list(answers)) == 8


def test_a_run_that_is_closed_or_fails_leaves_nothing_behind(model: OmniModel) -> None:
    answers = model.engine.run(mixed())
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert is_idle(model)
    with pytest.raises(BadMedia):
        list(model.engine.run([*mixed(), request(Image("absent.png"), "what?")], batch=4))
    assert is_idle(model)
    assert single(model, mixed()[0]) == single(model, mixed()[0])


def test_a_picture_of_several_requests_is_opened_and_encoded_once(
    model: OmniModel, work: Any
) -> None:
    shared = picture(7)
    list(model.engine.run([request(shared, "red?"), request(shared, "blue?"), request("what?")]))
    assert work.encoded == [1]
    assert work.passes[0] == max(work.passes)  # one prefill of all three
    assert work.passes[1:] == [1] * (TOKENS - 1)


def test_a_seed_gives_the_same_answer_beside_others(model: OmniModel) -> None:
    drawn = request(picture(1), "what?", temperature=1.0, seed=5)
    expected = single(model, drawn)
    others = [request("red " * n, temperature=0.5) for n in (1, 20)]  # without a seed
    for place in range(3):
        tickets = [model.engine.submit(asked) for asked in others]
        tickets.insert(place, model.engine.submit(drawn))
        for ticket in tickets:
            model.engine.wait(ticket)
        assert tickets[place].row.tokens == expected
    assert single(model, request(picture(1), "what?", temperature=1.0, seed=6)) != expected


# Cancelling


def test_a_request_that_waits_is_cancelled(model: OmniModel, work: Any) -> None:
    ticket = model.engine.submit(request("red?"))
    model.engine.cancel(ticket)
    assert is_idle(model)
    answer = model.engine.wait(ticket)
    assert (answer.text, answer.tokens, answer.stopped) == ("", 0, False)
    assert work.passes == []


def test_a_request_is_cancelled_while_it_is_decoded(model: OmniModel) -> None:
    expected = [single(model, asked) for asked in mixed()[:3]]
    tickets = [model.engine.submit(asked) for asked in mixed()[:3]]
    serve(model, 4)
    for _ in range(2):  # the second time nothing happens
        model.engine.cancel(tickets[0])
        assert len(model.engine._running) == 2
    assert model.engine.wait(tickets[0]).tokens == 4
    for ticket in tickets[1:]:
        model.engine.wait(ticket)
        model.engine.cancel(ticket)  # nor after its end
    assert [ticket.row.tokens for ticket in tickets] == [expected[0][:4], *expected[1:]]
    assert [ticket.row.end for ticket in tickets] == ["cancelled", "length", "length"]
    assert is_idle(model)


@pytest.mark.parametrize("number", [0, 1])
def test_a_request_is_cancelled_while_prompts_are_computed(
    model: OmniModel, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = model.encoder("image")
    tickets = [model.engine.submit(request(picture(i), "what?")) for i in range(2)]
    forward = encoder.forward

    def interrupted(features: Any) -> Tensor:
        model.engine.cancel(tickets[number])
        return forward(features)

    monkeypatch.setattr(encoder, "forward", interrupted)
    answers = [model.engine.wait(ticket) for ticket in tickets]
    monkeypatch.undo()
    assert answers[number].tokens == 0
    assert tickets[1 - number].row.tokens == single(model, tickets[1 - number].request)
    assert is_idle(model)


def test_a_stream_that_is_closed_cancels(model: OmniModel) -> None:
    stream = model.ask("red?", stream=True, max_new_tokens=40)
    other = model.engine.submit(request("blue?"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(model.engine._running) == 1
    model.engine.wait(other)
    assert is_idle(model)
    stream = model.chat([user("red?")], stream=True, max_new_tokens=40)
    next(stream)
    del stream
    assert is_idle(model)
    unused = model.ask("red?", stream=True)
    assert is_idle(model)  # nothing is asked before somebody listens
    del unused


# Sessions


def test_sessions_keep_what_is_computed_while_others_talk(model: OmniModel, work: Any) -> None:
    talks: list[list[Message]] = [[user(picture(10 + n), "red?")] for n in range(3)]
    sessions = [model.session() for _ in talks]
    expected: list[list[str]] = [[] for _ in talks]
    for number, talk in enumerate(talks):
        turns = list(talk)
        for question in ("blue?", "why?", None):
            answer = model.session().chat(turns, max_new_tokens=TOKENS)
            expected[number].append(answer.text)
            turns += [assistant(answer.text), user(question or "")]
    said: list[list[str]] = [[] for _ in talks]
    work.encoded.clear()
    first = None
    for question in ("blue?", "why?", None):
        for number, (talk, session) in enumerate(zip(talks, sessions, strict=True)):
            work.passes.clear()
            answer = session.chat(talk, max_new_tokens=TOKENS)
            said[number].append(answer.text)
            talk += [assistant(answer.text), user(question or "")]
            first = first or work.passes[0]
            if question != "blue?":
                assert work.passes[0] < first
    assert said == expected
    assert work.encoded == [1] * 3


def test_turns_of_several_sessions_are_decoded_together(model: OmniModel, work: Any) -> None:
    sessions = [model.session() for _ in range(3)]
    talks: list[list[Message]] = [[user(picture(20 + n), "red " * (n + 1))] for n in range(3)]
    for turn in range(3):
        expected = [model.session().chat(talk, max_new_tokens=TOKENS).text for talk in talks]
        work.passes.clear()
        streams = [
            session.chat(talk, stream=True, max_new_tokens=TOKENS)
            for session, talk in zip(sessions, talks, strict=True)
        ]
        pieces = [next(stream) for stream in streams]
        said = [(a + "".join(b)).strip() for a, b in zip(pieces, streams, strict=True)]
        assert said == expected
        assert len(work.passes) <= 3 + TOKENS + 1
        for talk, text in zip(talks, said, strict=True):
            talk += [assistant(text), user(f"and {turn}?")]


def test_an_answer_that_was_cut_short_is_not_computed_again(model: OmniModel, work: Any) -> None:
    session, talk = model.session(), [user(picture(30), "what is red?")]
    stream = session.chat(talk, stream=True, max_new_tokens=40)
    for _ in range(3):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    work.passes.clear()
    answer = session.chat(talk, max_new_tokens=TOKENS)
    assert work.passes[0] == 1
    assert answer == model.session().chat(talk, max_new_tokens=TOKENS)


def test_the_same_picture_in_another_object_shares_the_past(model: OmniModel, work: Any) -> None:
    """As in the requests of a server, which hold every picture of the conversation again."""
    session = model.session()
    first = session.chat([user(picture(31), "what is red?")], max_new_tokens=TOKENS)
    work.passes.clear()
    talk = [user(picture(31), "what is red?"), assistant(first.text), user("why?")]
    answer = session.chat(talk, max_new_tokens=TOKENS)
    assert work.passes[0] < 40
    assert answer == model.session().chat(talk, max_new_tokens=TOKENS)
    changed = [user(picture(32), "what is red?"), assistant(first.text), user("why?")]
    other = session.chat(changed, max_new_tokens=TOKENS)
    assert other == model.session().chat(changed, max_new_tokens=TOKENS)


def test_two_turns_of_one_session_at_once(model: OmniModel) -> None:
    session = model.session()
    talk = [user(picture(33), "red?")]
    answer = session.chat(talk, max_new_tokens=TOKENS)
    nexts = [[*talk, assistant(answer.text), user(q)] for q in ("blue?", "why?")]
    expected = [model.session().chat(turns, max_new_tokens=TOKENS).text for turns in nexts]
    streams = [session.chat(turns, stream=True, max_new_tokens=TOKENS) for turns in nexts]
    pieces = [next(stream) for stream in streams]
    assert [(a + "".join(b)).strip() for a, b in zip(pieces, streams, strict=True)] == expected


def test_a_session_knows_its_model(model: OmniModel, made: OmniModel) -> None:
    with pytest.raises(BadConfig, match=r"the session belongs to another model than flash; make"):
        made.engine.submit(request("red?"), model.session())
    session, engine = copy.deepcopy(made).session(), copy.deepcopy(made).engine
    gc.collect()
    talk = [user(picture(34), "red?")]
    expected = made.session().chat(talk, max_new_tokens=TOKENS)
    assert session.chat(talk, max_new_tokens=TOKENS) == expected  # it keeps its model
    with pytest.raises(MingError, match="the model of this engine is gone; keep the model"):
        engine.submit(request("red?"))


def test_what_another_model_has_seen_is_refused(model: OmniModel, made: OmniModel) -> None:
    first = model.engine.submit(request(picture(35), "red?"))
    expected = model.engine.wait(first)
    shown = Image(first.seen[0])  # as a watched stream gives what it has seen
    assert model.ask("red?", shown, max_new_tokens=TOKENS) == expected
    other = copy.deepcopy(made)
    with pytest.raises(BadMedia, match="was seen by another model than flash"):
        other.ask("red?", shown)
    with pytest.raises(BadMedia, match="was seen by another model than flash"):
        other.session().chat([user(shown, "red?")])
    # A medium that both models open by themselves is what each of them makes of it.
    both = picture(36)
    assert other.ask("red?", both) == model.ask("red?", both)


# Hidden states


def hidden(answer: Answer) -> Mapping[Layer, Tensor]:
    assert answer.states is not None
    return answer.states.hidden


close = partial(torch.testing.assert_close, rtol=0, atol=5e-5)


def test_states_of_a_request_are_those_of_one_pass(model: OmniModel) -> None:
    layers = (0, 1, "last")
    asked = [request(picture(40), "what is red?", keep=layers), request("red?", keep=["last"])]
    tickets = [model.engine.submit(one) for one in [*asked, request("what " * 9)]]
    serve(model, 2)
    tickets.append(model.engine.submit(request(picture(41), "blue?", keep=layers, keep_from=-1)))
    answers = [model.engine.wait(ticket) for ticket in tickets]
    for ticket, answer in zip(tickets, answers, strict=True):
        keep = ticket.request.keep
        if not keep:
            assert answer.states is None
            continue
        states = hidden(answer)
        assert states.keys() == set(keep)
        alone = Request(**{**vars(ticket.request), "sampling": Sampling(1)})
        prompted = hidden(model.engine.answer(alone))
        size = len(ticket.prompt.input_ids)
        first = size - 1 if ticket.request.keep_from else 0
        for layer in keep:
            assert len(states[layer]) == size - first + TOKENS - 1
            close(states[layer][: size - first], prompted[layer])
        logits = model.omni.backbone.lm_head(states["last"][size - first - 1 :])
        assert logits.argmax(dim=1).tolist() == ticket.row.tokens
    embeds = model.omni.backbone.embed(torch.tensor(tickets[0].row.tokens[:-1]))
    assert torch.equal(hidden(answers[0])[0][-TOKENS + 1 :], embeds)


@pytest.mark.parametrize("layer", [99, -1, "first"])
def test_a_layer_that_is_not_there_is_an_error_of_its_request(model: OmniModel, layer: Any) -> None:
    with pytest.raises(BadConfig, match=r"keep has a layer .*; use 0 to \d+ or 'last'"):
        model.engine.submit(request("red?", keep=(layer,)))
    assert is_idle(model)


@pytest.mark.parametrize("batch", [0, -1, 1.5])
def test_a_run_needs_a_batch(model: OmniModel, batch: Any) -> None:
    with pytest.raises(BadConfig, match=r"batch is .*; it must be"):
        next(model.engine.run([request("red?")], batch))


def test_states_are_whole_in_a_session(model: OmniModel) -> None:
    session = model.session()
    asked = request(picture(42), "what is red?", keep=["last"])
    whole = hidden(model.engine.answer(asked, session))["last"]
    again = hidden(model.engine.answer(asked, session))["last"]  # all of it is in the cache
    close(again, whole)
    end = model.engine.answer(Request(**{**vars(asked), "keep_from": -3}), session)
    close(hidden(end)["last"], whole[-TOKENS - 2 :])


# What goes wrong


def test_an_error_is_that_of_its_requests_only(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = model.encoder("image")
    running = model.engine.submit(request("red?"))
    serve(model, 2)
    monkeypatch.setattr(encoder, "forward", lambda _: 1 / 0)
    wrong = model.engine.submit(request(picture(50), "what?"))
    serve(model, 1)
    with pytest.raises(ZeroDivisionError):
        model.engine.wait(wrong)
    monkeypatch.undo()
    model.engine.wait(running)
    assert running.row.tokens == single(model, running.request)
    assert is_idle(model)


def test_a_medium_that_is_not_finite_leaves_the_others_right(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = model.encoder("image")
    forward, session = encoder.forward, model.session()
    dark = picture(51)
    monkeypatch.setattr(encoder, "forward", lambda features: forward(features) * float("nan"))
    wrong = model.engine.submit(request(dark, "what?"), session)
    right = model.engine.submit(request("red?"))
    assert "no finite numbers" in str(model.engine.wait(wrong).error)
    model.engine.wait(right)
    with pytest.raises(NotFinite):
        session.chat([user(dark, "what?")])
    monkeypatch.undo()
    assert right.row.tokens == single(model, right.request)
    answer = session.chat([user(dark, "what?")], max_new_tokens=TOKENS)  # it is looked at again
    assert answer == model.session().chat([user(dark, "what?")], max_new_tokens=TOKENS)


def test_an_interruption_ends_what_was_computed(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = model.omni.backbone.lm_head
    tickets = [model.engine.submit(request(q)) for q in ("red?", "blue?")]
    serve(model, 2)

    def stopped(_: Tensor) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(head, "forward", stopped)
    with pytest.raises(KeyboardInterrupt):
        model.engine.wait(tickets[0])
    monkeypatch.undo()
    with pytest.raises(MingError, match=r"the answer was interrupted \(KeyboardInterrupt\)"):
        model.engine.wait(tickets[1])
    assert is_idle(model)
    assert single(model, tickets[0].request) == single(model, tickets[0].request)


def test_an_interruption_ends_all_prompts_that_were_computed(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = model.omni.backbone.lm_head
    asked = [request("red?" * count) for count in (1, 100)]  # too unlike for one batch
    tickets = [model.engine.submit(one) for one in asked]

    def stopped(_: Tensor) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(head, "forward", stopped)
    with pytest.raises(KeyboardInterrupt):
        model.engine.step()
    monkeypatch.undo()
    for ticket in tickets:
        with pytest.raises(MingError, match="the answer was interrupted"):
            model.engine.wait(ticket)
    assert is_idle(model)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_rows_that_could_not_leave_are_not_mixed_up(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    tickets = [model.engine.submit(request("red?", tokens=n)) for n in (2, TOKENS)]

    def stopped(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Cache, "select", stopped)
    with pytest.raises(error):
        serve(model, TOKENS)
    monkeypatch.undo()
    assert len(tickets[0].row.tokens) == 2
    with pytest.raises((MingError, MemoryError)):
        model.engine.wait(tickets[1])
    assert is_idle(model)
    assert single(model, tickets[1].request) == single(model, tickets[1].request)


def test_a_language_model_that_cannot_be_read_is_an_error_of_all_who_wait(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = [model.engine.submit(request(question)) for question in ("red?", "blue?")]

    def damaged(*_: Any) -> None:
        raise BadCheckpoint("the file is damaged")

    monkeypatch.setattr(OmniModel, "component", damaged)
    for ticket in tickets:
        with pytest.raises(BadCheckpoint, match="damaged"):
            model.engine.wait(ticket)


# Threads


def test_nobody_waits_for_the_medium_of_another(model: OmniModel, tmp_path: Path) -> None:
    model.encoder("image")
    pipe = tmp_path / "picture.png"
    os.mkfifo(pipe)
    slow: list[Answer] = []
    quick: list[list[int]] = []
    threads = [
        threading.Thread(
            target=lambda: slow.append(model.engine.answer(request(Image(pipe), "what?"))),
            daemon=True,
        ),
        threading.Thread(target=lambda: quick.append(single(model, request("red?"))), daemon=True),
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    threads[1].join(20)
    assert quick
    assert not slow
    written = io.BytesIO()
    pil.fromarray(pixels(1)).save(written, "png")
    pipe.write_bytes(written.getvalue())
    threads[0].join(20)
    assert slow[0] == model.engine.answer(request(picture(1), "what?"))


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of calls that begin at the same time, each in a thread of its own."""
    results: list[Any] = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def work(number: int) -> None:
        ready.wait()
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def test_threads_get_their_own_answers(model: OmniModel) -> None:
    talks = [[user(picture(60 + n), "red " * (n + 1))] for n in range(6)]
    expected = [model.session().chat(talk, max_new_tokens=TOKENS) for talk in talks]

    def streamed(talk: list[Message]) -> str:
        return "".join(model.chat(talk, stream=True, max_new_tokens=TOKENS)).strip()

    for _ in range(3):
        # The default session of the model serves them all.
        chats = [lambda talk=talk: model.chat(talk, max_new_tokens=TOKENS) for talk in talks]
        assert in_threads(chats) == expected
        streams = [lambda talk=talk: streamed(talk) for talk in talks]
        assert in_threads(streams) == [answer.text for answer in expected]
    batches = [
        lambda: model.answer_batch(talks, max_new_tokens=TOKENS),
        lambda: model.ask("red?", Image("absent.png")),
        lambda: model.answer_batch(talks[::-1], max_new_tokens=TOKENS),
    ]
    first, failed, second = in_threads(batches)
    assert (first, second) == (expected, expected[::-1])
    assert isinstance(failed, BadMedia)
    assert is_idle(model)


def test_one_session_in_two_threads_gives_right_answers(model: OmniModel) -> None:
    session, talk = model.session(), [user(picture(70), "red?")]
    answer = session.chat(talk, max_new_tokens=TOKENS)
    turns = [[*talk, assistant(answer.text), user(q)] for q in ("blue?", "why?", "where?")]
    expected = [model.session().chat(turn, max_new_tokens=TOKENS) for turn in turns]
    for _ in range(3):
        chats = [lambda turn=turn: session.chat(turn, max_new_tokens=TOKENS) for turn in turns]
        assert in_threads(chats) == expected


def test_a_request_is_cancelled_from_another_thread(model: OmniModel) -> None:
    ticket = model.engine.submit(request("red?", tokens=300, max_loop=0))
    other = threading.Timer(0.05, lambda: model.engine.cancel(ticket))
    other.start()
    answer = model.engine.wait(ticket)
    other.join()
    assert answer.tokens < 300
    assert is_idle(model)


def test_media_known_to_several_requests_are_given(model: OmniModel, work: Any) -> None:
    known, shared = SeenMedia(), picture(80)
    for question in ("red?", "blue?"):
        model.engine.wait(model.engine.submit(request(shared, question), known=known))
    assert work.encoded == [1]
