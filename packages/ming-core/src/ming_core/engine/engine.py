"""The engine of a model: it answers many requests at once, which come and go at any time.

The engine has no thread of its own. Whoever waits for an answer calls `step`, and one step serves
all requests. A lock lets only one thread at a time do a step:

    while the answer has not ended:
        compute the prompts that wait, and let them join the batch
        or, if none waits, decode one token of every row
        let go of the rows that ended
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING
from weakref import ref

import torch
from torch import Tensor

from ming_core.chat.dialects import as_messages
from ming_core.chat.prompt import Prompt
from ming_core.chat.tokenizer import StreamDecoder
from ming_core.engine.answers import Answer, checked
from ming_core.engine.decoding import Batch, Row
from ming_core.engine.prompting import prepare, room_for, tensors_of
from ming_core.engine.request import Request, check_batch
from ming_core.engine.sampling import loop_of
from ming_core.engine.session import Memory, Past, Session
from ming_core.errors import BadConfig, MingError
from ming_core.heads.states import States
from ming_core.loading import TEXT
from ming_core.model.cache import Cache
from ming_core.model.queries import NO_QUERY
from ming_core.model.seen import Seen, SeenMedia, encode
from ming_core.model.transformer import Layer

if TYPE_CHECKING:
    from ming_core.api import OmniModel


@dataclass(eq=False)
class Ticket:
    """A request in the engine, and what has come of it so far.

    memory: of the session that it is a turn of. error: why there is no answer.
    """

    request: Request
    prompt: Prompt
    seen: Sequence[Seen]
    row: Row
    memory: Memory | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or self.row.end is not None


class Engine:
    """Answers requests of any number of sessions and threads with one model."""

    def __init__(self, model: OmniModel) -> None:
        self._ref = ref(model)  # the model holds its engine, and must not be held by it
        self.lock = RLock()
        """Held while something is computed, and by the model while it loads a part: a plugin may
        ask the model when a part arrives, so two locks could wait for each other."""
        self._busy = False
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._batch: Batch | None = None

    @property
    def model(self) -> OmniModel:
        """Raises MingError if the model is gone."""
        model = self._ref()
        if model is None:
            raise MingError("the model of this engine is gone; keep the model while you use it")
        return model

    # One request

    def submit(
        self, request: Request, session: Session | None = None, known: SeenMedia | None = None
    ) -> Ticket:
        """Take in a request: its media are opened and its prompt is written, but not computed.

        session: the conversation that the request belongs to. known: media that are not opened
        again. Raises BadConfig, BadMedia or MissingPlugin.
        """
        model = self.model
        model.sources.require(TEXT)
        if session is not None and session.model is not model:
            raise BadConfig(
                f"the session belongs to another model than {model.name}; make one with "
                "model.session()"
            )
        layers = range(model.config.num_hidden_layers + 1)
        for layer in request.keep:
            if layer != "last" and layer not in layers:
                raise BadConfig(
                    f"keep has a layer {layer!r}, which {model.name} does not have; use 0 to "
                    f"{layers[-1]} or 'last'"
                )
        memory = None if session is None else session.memory
        request = replace(request, messages=as_messages(request.messages))
        known = memory.seen if memory else SeenMedia() if known is None else known
        # Media may come slowly: nobody else waits for them.
        prompt, seen = prepare(model, request, known)
        room = room_for(model, request, prompt, seen)
        limit = min(request.sampling.max_new_tokens, room)
        row = Row(
            prompt.input_ids,
            replace(request.sampling, max_new_tokens=limit),
            stop=(model.tokenizer.id(model.format.stop),),
            keep=request.keep,
            keep_from=request.keep_from,
            silent=request.queries is not None,
        )
        ticket = Ticket(request, prompt, seen, row, memory)
        with self.lock:
            known.keep(prompt.media, seen)
            self._waiting.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Stop working on a request. Nothing happens if it has ended."""
        if not ticket.done:
            ticket.row.end = "cancelled"
        # Who is at work lets go of it at the next step: another thread, or this one, because a
        # stream may be collected as garbage at any moment.
        if self.lock.acquire(blocking=False):
            try:
                if not self._busy:
                    with self._at_work():
                        self._let_go()
            finally:
                self.lock.release()

    def wait(self, ticket: Ticket) -> Answer:
        """Wait for the answer. If the request was cancelled, the answer holds the text so far.

        An answer has an `error` if values were not finite. All other errors are raised.
        """
        try:
            while not ticket.done:
                self._serve(ticket)
        finally:
            self.cancel(ticket)
        return self._answer(ticket)

    def answer(self, request: Request, session: Session | None = None) -> Answer:
        """Answer one request. Raises also NotFinite."""
        ticket = self.submit(request, session)
        return self._told(ticket, self.wait(ticket))

    def stream(self, request: Request, session: Session | None = None) -> Iterator[str]:
        """Yield the pieces of an answer's text. Closing the stream cancels the request. Raises also
        NotFinite.
        """
        return self._pieces(self.model, request, session)

    def _pieces(self, model: OmniModel, request: Request, session: Session | None) -> Iterator[str]:
        """model: kept while there are pieces to come."""
        ticket = self.submit(request, session)
        decoder, said = StreamDecoder(model.tokenizer), 0
        try:
            while not ticket.done or said < len(ticket.row.tokens):
                if said == len(ticket.row.tokens):
                    self._serve(ticket)
                for token in ticket.row.tokens[said:]:
                    said += 1
                    if piece := decoder.push(token):
                        yield piece
        finally:
            self.cancel(ticket)
        self._told(ticket, self._answer(ticket))
        if piece := decoder.flush():
            yield piece

    def room(self, request: Request, session: Session) -> int:
        """Number of tokens that the context has left for an answer; below 1 if there is no room.

        What is opened for it is known when the request is submitted. Raises BadMedia.
        """
        prompt, seen = prepare(self.model, request, session.memory.seen)
        with self.lock:
            session.memory.seen.keep(prompt.media, seen)
        return self.model.config.max_position_embeddings - len(prompt.input_ids)

    # Many requests

    def run(self, requests: Iterable[Request], batch: int | None = None) -> Iterator[Answer]:
        """Answers in the order of the requests, which are taken in while others are decoded.

        batch: highest number of requests that are worked on at once; None is all of them. An answer
        has an `error` if values were not finite. All other errors are raised, and end the run.
        """
        self.model.sources.require(TEXT)
        if batch is not None:
            check_batch(batch)
        left = iter(requests)
        # Several requests may be about the same picture.
        known = SeenMedia(self.model.config.max_position_embeddings)
        taken: deque[Ticket] = deque()
        more = True
        try:
            while more or taken:
                while more and (batch is None or sum(not t.done for t in taken) < batch):
                    request = next(left, None)
                    more = request is not None
                    if request is not None:
                        taken.append(self.submit(request, known=known))
                while taken and taken[0].done:
                    yield self.wait(taken.popleft())
                if taken:
                    self._serve(taken[0])
        finally:
            for ticket in taken:
                self.cancel(ticket)

    # The work

    def step(self) -> None:
        """Compute the prompts that wait or, if none waits, one more token of every answer."""
        with self.lock, self._at_work(), self._whole():
            self._let_go()
            if self._waiting:
                self._prefill()
            elif self._batch and self._running:
                with self._blaming(self._running):
                    self._batch.step()
            self._let_go()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _serve(self, ticket: Ticket) -> None:
        """A step, unless another thread has brought the request to its end meanwhile."""
        with self.lock:
            if not ticket.done:
                self.step()

    def _prefill(self) -> None:
        """Compute the prompts that wait."""
        tickets, self._waiting = self._waiting, []
        with self._blaming(tickets):
            self._start(tickets)

    def _start(self, tickets: Sequence[Ticket]) -> None:
        """Encode media and compute prompts; those that go on from a past one by one."""
        model = self.model
        backbone = model.omni.backbone
        self._batch = self._batch or Batch(backbone)
        with torch.inference_mode():
            media = [item for ticket in tickets for item in ticket.seen]
            encode(model.omni, media, model.sources.device, model.sources.dtype)
        fresh = []
        for ticket in tickets:
            if not all(item.finite for item in ticket.seen):
                ticket.row.end = "broken"
            elif not ticket.done:
                past = ticket.memory.take() if ticket.memory else Past()
                known = past.shared(ticket.prompt, ticket.seen)
                if ticket.request.keep:  # states are kept of what is computed only
                    known = min(known, ticket.row.first_kept)
                if known:
                    past.cache.crop(known)
                    self._join([ticket], past.cache)
                else:
                    fresh.append(ticket)
        for group in _alike(fresh):
            self._join(group)

    def _join(self, tickets: Sequence[Ticket], cache: Cache | None = None) -> None:
        """Compute prompts and let their rows join. cache: the start of a single one."""
        model = self.model
        assert self._batch
        with self._blaming(tickets), torch.inference_mode():
            batch, positions = tensors_of(
                model.rule,
                model.config.pad_token_id,
                [ticket.prompt for ticket in tickets],
                [item for ticket in tickets for item in ticket.seen],
                cache.length if cache else 0,
                [ticket.request.queries for ticket in tickets],
            )
            device = model.sources.device
            batch = batch.to(device, model.sources.dtype)
            rows = [ticket.row for ticket in tickets]
            embeds = model.omni.embed(batch)
            self._batch.prefill(rows, embeds, batch, positions.to(device), cache)
            self._running += tickets

    def _let_go(self) -> None:
        """Take the rows that ended out of the batch; sessions keep what was computed of theirs."""
        self._waiting = [ticket for ticket in self._waiting if not ticket.done]
        ended = [ticket for ticket in self._running if ticket.done]
        if not ended or self._batch is None:
            return
        for ticket in ended:
            row = ticket.row
            if ticket.memory and ticket.error is None and row.end != "broken":
                cache = self._batch.cache_of(row)
                ticket.memory.past = Past(row.ids[: cache.length], ticket.seen, cache)
        self._batch.drop([ticket.row for ticket in ended])
        # Not all that are done: another thread may have cancelled one just now.
        self._running = [ticket for ticket in self._running if ticket not in ended]

    @contextmanager
    def _blaming(self, tickets: Sequence[Ticket]) -> Iterator[None]:
        """An error or an interruption inside ends these requests; an error is theirs alone."""
        try:
            yield
        except BaseException as error:
            _fail(tickets, error)
            if not isinstance(error, Exception):
                raise

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Ends all requests of the batch if the work inside is broken off.

        That may happen at any moment, so that nothing that was computed can be trusted.
        """
        try:
            yield
        except BaseException as error:
            _fail(self._running, error)
            self._running, self._batch = [], None
            raise

    # Answers

    def _answer(self, ticket: Ticket) -> Answer:
        """What became of a request that has ended."""
        if ticket.error is not None:
            raise ticket.error
        model, row = self.model, ticket.row
        tokens, looped = row.tokens, row.end == "loop"
        if looped:
            length = row.sampling.max_loop
            tokens = tokens[: len(tokens) - length + loop_of(tokens, length)]
        error = self._broken(ticket)
        sure = None
        if model.knowledge is not None and not row.silent:
            messages = ticket.request.messages
            sure = not looped and model.knowledge.is_sure(messages, ticket.seen, row.confidence)
        return Answer(
            "" if error else model.tokenizer.decode(tokens).strip(),
            len(row.tokens),
            stopped=row.end == "stop",
            confidence=row.confidence,
            repeated=looped,
            sure=sure,
            error=error,
            states=_states(ticket) if row.states else None,
        )

    def _broken(self, ticket: Ticket) -> str | None:
        """Why a request whose values are not finite has no answer."""
        if ticket.row.end != "broken":
            return None
        name = self.model.name
        for medium, seen in zip(ticket.prompt.media, ticket.seen, strict=True):
            if not seen.finite:
                return (
                    f"the encoder of {name} made values of {medium} that are no finite numbers; "
                    "check the file, and the weights of the model"
                )
        return (
            f"{name} computed values that are no finite numbers, so there is no answer; check its "
            "weights and config.json, or load it with dtype float32"
        )

    def _told(self, ticket: Ticket, answer: Answer) -> Answer:
        """The answer, after the notes about it. Raises NotFinite."""
        return answer if ticket.row.end == "cancelled" else checked(self.model, answer)


def _fail(tickets: Iterable[Ticket], error: BaseException) -> None:
    """Give the requests that have not ended an error; an interruption is not raised elsewhere."""
    if not isinstance(error, Exception):
        error = MingError(f"the answer was interrupted ({type(error).__name__})")
    for ticket in tickets:
        if not ticket.done:
            ticket.error = error


def _alike(tickets: Sequence[Ticket]) -> list[list[Ticket]]:
    """Tickets to be computed together: at most a third of each group is padding."""
    groups: list[list[Ticket]] = []
    total = 0
    for ticket in sorted(tickets, key=lambda ticket: len(ticket.prompt.input_ids)):
        length = len(ticket.prompt.input_ids)
        total += length
        if not groups or 2 * (len(groups[-1]) + 1) * length > 3 * total:
            groups.append([])
            total = length
        groups[-1].append(ticket)
    return groups


def _states(ticket: Ticket) -> States:
    """What was kept of a request: from its first kept token on, generated tokens included."""
    prompt, row = ticket.prompt, ticket.row
    hidden: dict[Layer, Tensor] = {n: torch.cat(parts) for n, parts in row.states.items()}
    some = next(iter(hidden.values()))
    told = torch.zeros(2, len(some), dtype=torch.long, device="cpu")  # generated tokens are text
    told[1] = NO_QUERY
    for values, known in zip(told, (prompt.modality_ids, prompt.query_ids), strict=True):
        kept = torch.tensor(known[row.first_kept :], device="cpu")
        values[: len(kept)] = kept
    modality_ids, query_ids = told.to(some.device)
    return States(hidden, modality_ids, query_ids)
