"""The HTTP server of a simulated provider."""

import asyncio
from collections import deque
from dataclasses import asdict
from itertools import count
from random import Random
from typing import Any, NamedTuple, Self

import orjson
from aiohttp import web
from msgspec.structs import replace

from millrace import tokens
from millrace.simulator import embeddings
from millrace.simulator.batches import BatchDesk
from millrace.simulator.book import Book
from millrace.simulator.directives import HEADER
from millrace.simulator.faults import Fault, Kind
from millrace.simulator.profiles import Profile
from millrace.simulator.prompt_cache import PromptCache
from millrace.simulator.question import Question, decode, read_question
from millrace.simulator.script import NO_BOOK, Script, compose
from millrace.simulator.sending import deliver_instead, deliver_stream, deliver_whole, json_response
from millrace.simulator.shapes import BadRequestError, Envelope, Usage
from millrace.simulator.stats import Call, Stats

_MAX_BODY = 16 * 2**20
_CALLS_KEPT = 256
_SHUTDOWN_S = 0.1  # for requests that are not calls yet, such as one whose body never arrives


class Received(NamedTuple):
    """A request as received, and whether it had credentials (not the credentials themselves)."""

    body: dict[str, Any]
    authorized: bool


class Simulator:
    """One provider with one model, on its own port."""

    def __init__(self, profile: Profile, *, seed: int = 0, book: Book = NO_BOOK) -> None:
        self.profile = profile
        self._book = book
        self.stats = Stats()
        self.calls: deque[Received] = deque(maxlen=_CALLS_KEPT)
        self.fault: Fault | None = None  # of every call that asks for none
        self._seed = seed
        self.batches = BatchDesk()
        self._cache = PromptCache()
        self._numbers = count(1)
        self._stalls = Random(f"stall\0{seed}\0{profile.name}")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._host = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Start to listen. Port 0 takes a free port."""
        if self._runner:
            raise RuntimeError("the simulator is already started")
        await asyncio.to_thread(tokens.encoding)  # or the first answer waits for it
        # With handler_cancellation aiohttp cancels a call as soon as its client disconnects.
        # aiohttp sets TCP_NODELAY itself.
        runner = web.AppRunner(
            self._application(), handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self._host = runner, host
        self.batches.url = f"http://{host}:{self.port}"

    async def stop(self) -> None:
        """Close every connection, including those with a running stream."""
        if self._runner:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port the server listens on. Raises `RuntimeError` before `start`."""
        if self._runner is None:
            raise RuntimeError("the simulator is not started")
        return int(self._runner.addresses[0][1])

    @property
    def base_url(self) -> str:
        """The `base_url` for an OpenAI client."""
        return f"http://{self._host}:{self.port}/v1"

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY)
        self.batches.add_routes(app)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/stats", self._stats)
        app.router.add_post("/stats/reset", self._reset_stats)
        app.router.add_post("/fault", self._set_fault)
        app.on_shutdown.append(self._cancel_calls)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            document = decode(raw)
            question = read_question(document, request.headers.get(HEADER, ""), self.profile.name)
            script = compose(self.profile, question, self._seed, self._book)
            script = replace(script, fault=script.fault or self.fault)
        except BadRequestError as error:
            return json_response(error.body(), 400)
        self.calls.append(Received(document, "Authorization" in request.headers))
        return await self._answer(request, question, script)

    async def _answer(self, request: web.Request, question: Question, script: Script) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with self.stats.call() as call:
                return await self._deliver(request, question, script, call)
        except ConnectionResetError:  # whoever asked has gone in the middle of a write; the call is counted as aborted
            return web.Response()
        finally:
            self._tasks.discard(task)

    async def _deliver(
        self, request: web.Request, question: Question, script: Script, call: Call
    ) -> web.StreamResponse:
        if script.fault and script.fault.replaces:
            return await deliver_instead(script.fault, question.directives.ttft, call)
        if self._stalls.random() < self.profile.stall_share:
            await asyncio.sleep(self._stalls.uniform(*self.profile.stall_s))
        envelope = self._envelope(question, script, call)
        deliver = deliver_stream if question.body.stream else deliver_whole
        return await deliver(request, script, envelope, call)

    def _envelope(self, question: Question, script: Script, call: Call) -> Envelope:
        asked = question.body
        prompt, cached = self._cache.charge(asked.messages, asked.tools or (), asked.prompt_cache_key)
        call.charge(prompt)
        wants_usage = question.wants_usage and script.fault != Fault(Kind.NO_USAGE)
        usage = (
            Usage(prompt, cached, completion=len(script.deltas), reasoning=script.reasoning) if wants_usage else None
        )
        model = question.body.model or self.profile.model
        body = question.body
        return Envelope(
            f"chatcmpl-{self.profile.name}-{next(self._numbers)}",
            model,
            usage,
            service_tier="default" if body.service_tier == "auto" else body.service_tier,
            top_logprobs=body.top_logprobs or 0 if body.logprobs else None,
        )

    async def _embeddings(self, request: web.Request) -> web.Response:
        with self.stats.call() as call:
            try:
                document = decode(await request.read())
                if not isinstance(document, dict):
                    raise BadRequestError("the body must be a JSON object")
                self.calls.append(Received(document, "Authorization" in request.headers))
                body, input_tokens = embeddings.answer(document, str(document.get("model", self.profile.model)))
            except BadRequestError as error:
                call.fail()
                return json_response(error.body(), 400)
            call.charge(input_tokens)
            return json_response(body)

    async def _models(self, _request: web.Request) -> web.Response:
        model = {"id": self.profile.model, "object": "model", "created": 0, "owned_by": "millrace-simulator"}
        return json_response(orjson.dumps({"object": "list", "data": [model]}))

    async def _healthz(self, _request: web.Request) -> web.Response:
        return json_response(orjson.dumps({"status": "ok"}))

    async def _stats(self, _request: web.Request) -> web.Response:
        identity = {"profile": self.profile.name, "model": self.profile.model}
        return json_response(orjson.dumps({**identity, **asdict(self.stats)}))

    async def _reset_stats(self, request: web.Request) -> web.Response:
        self.stats.reset()
        return await self._stats(request)

    async def _set_fault(self, request: web.Request) -> web.Response:
        """Set the fault of all calls by its name, as a directive has it; an empty body ends it."""
        try:
            text = (await request.text()).strip()
            self.fault = Fault.parse(text) if text else None
        except BadRequestError as error:
            return json_response(error.body(), 400)
        return await self._stats(request)

    async def _cancel_calls(self, _app: web.Application) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
