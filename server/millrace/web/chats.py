"""Which response is the latest of each chat, so that a client that comes back finds it by the chat's id."""

from millrace.principal import Principal
from millrace.runs.run import Run
from millrace.runs.runs import Runs

AT_LEAST = 1024  # chats that are remembered before those are forgotten whose responses are


class Chats:
    """The chats of one process. One belongs to the key that it was asked with."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._latest: dict[tuple[str, str, str], str] = {}  # tenant, key, chat -> response
        self._bound = AT_LEAST

    def note(self, principal: Principal, chat: str, run: Run) -> None:
        """Note the latest response of a chat. The one before is cancelled if nobody listens: nobody can ask for it."""
        before = self.latest(principal, chat)
        self._latest[principal.tenant, principal.key_id, chat] = run.request.id
        if before is not None and before is not run and before.listeners == 0:
            before.cancel()
        if len(self._latest) > self._bound:
            self._latest = {place: id_ for place, id_ in self._latest.items() if self._runs.find(place[0], id_)}
            self._bound = max(AT_LEAST, 2 * len(self._latest))

    def latest(self, principal: Principal, chat: str) -> Run | None:
        """Return the latest response of a chat, while it runs and as long as it is kept."""
        response_id = self._latest.get((principal.tenant, principal.key_id, chat))
        return None if response_id is None else self._runs.find(principal.tenant, response_id)
