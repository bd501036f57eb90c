"""One connection as its borrower uses it: statements planned once, several of them sent together.

The driver connects, adapts values, waits and cancels; the statements go through libpq, which it
lends. A statement costs the processor little and a wait for the server much: the program sleeps,
is woken, and finds its caches cold. So what needs no answer of its own (BEGIN, counters at the end)
goes ahead of the next statement that does, and one wait brings the answers to all.

Source: "Pipeline Mode" of libpq's documentation.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from psycopg import AsyncConnection, errors
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import fetch_many, send
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import DictRow

from millrace.store.queries import Query, numbered

PREPARED_FROM = 5  # times that one connection has seen a statement
PREPARED_MAX = 200
SEEN_MAX = 1_000

_GOOD = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})

Params: TypeAlias = Mapping[str, object]


class _Asked(Struct, frozen=True):
    """A statement with its values, as the server reads them."""

    text: bytes
    values: Sequence[Buffer | None]
    types: tuple[int, ...]
    formats: Sequence[int] | None

    @property
    def key(self) -> tuple[bytes, tuple[int, ...]]:
        """Return what a plan is for: a text, and the types of its values."""
        return self.text, self.types


class _Answer(Struct, frozen=True):
    """What came back. planned: whether the statement now has a plan under its new name."""

    planned: bool
    result: PGresult


BEGIN = _Asked(b"begin read write", (), (), None)
COMMIT = _Asked(b"commit", (), (), None)
ROLLBACK = _Asked(b"rollback", (), (), None)


class Behind(Struct):
    """What is asked right behind a commit, in the same round trip, and its row once it is there."""

    query: Query
    line: dict[str, Any] | None = None


class Lane:
    """Runs statements on one connection, one exchange at a time. It raises what the driver raises."""

    def __init__(self, connection: AsyncConnection[DictRow], *, prepares: bool) -> None:
        """Take a connection.

        Args:
            connection: that nobody else uses meanwhile.
            prepares: whether plans may be kept; a pooler between may not know them.
        """
        self.connection = connection
        self.lent = 0
        """How often it was lent."""
        self._prepares = prepares
        self._adapt = Transformer(connection)
        self._ahead: list[_Asked] = []
        self._open = False  # whether a transaction was begun, here at least
        self._behind: Behind | None = None
        self._names: OrderedDict[tuple[bytes, tuple[int, ...]], bytes] = OrderedDict()
        self._seen: Counter[tuple[bytes, tuple[int, ...]]] = Counter()
        self._made = 0
        self._stale: list[bytes] = []  # plans that are not kept any more

    # ------------------------------------------------- statements

    def later(self, query: Query, params: Params) -> None:
        """Have a statement sent ahead of the next one, or of the commit; nobody hears its answer.

        Where it fails, that one fails.
        """
        self._ahead.append(self._asked(query, params))

    async def ask(self, *statements: tuple[Query, Params]) -> list[PGresult]:
        """Send statements together, and return the answer to each."""
        asked = [self._asked(query, params) for query, params in statements]
        return (await self._sent(asked))[-len(asked) :]

    async def flush(self) -> None:
        """Send what was to go ahead; whoever uses the connection itself needs that first."""
        if self._ahead:
            await self._sent([])

    def lines(self, result: PGresult) -> list[dict[str, Any]]:
        """Return the rows of an answer, by the names of their columns."""
        if not result.ntuples:
            return []
        self._adapt.set_pgresult(result)
        names = [(result.fname(place) or b"").decode() for place in range(result.nfields)]

        def line(values: Sequence[Any]) -> dict[str, Any]:
            return dict(zip(names, values, strict=True))

        return self._adapt.load_rows(0, result.ntuples, line)

    def first(self, result: PGresult) -> Any:
        """Return the first column of the first row of an answer, or None where it has no row."""
        if not result.ntuples:
            return None
        self._adapt.set_pgresult(result)
        return self._adapt.load_rows(0, 1, tuple)[0][0]

    # ------------------------------------------------- transactions

    def begin(self, behind: Behind | None = None) -> None:
        """Begin a transaction that may write, with the next statement.

        Args:
            behind: asked right behind the commit.
        """
        self._open, self._behind = True, behind
        self._ahead.append(BEGIN)

    @property
    def failed(self) -> bool:
        """Return whether a statement of the transaction has failed."""
        return self._status is TransactionStatus.INERROR

    @property
    def at_rest(self) -> bool:
        """Return whether the next borrower finds nothing of this one."""
        return not self._ahead and self._status is TransactionStatus.IDLE

    async def commit(self) -> None:
        """End the transaction; one without any statement never was."""
        if self._ahead == [BEGIN]:
            self._ahead.clear()
        elif self._open:
            await self._committed([])
        self._open = False

    async def last(self, query: Query, params: Params) -> PGresult:
        """Send a statement and the commit together; return the answer to the statement."""
        assert self._open, "only a transaction has a last statement"
        (answer,) = await self._committed([self._asked(query, params)])
        self._open = False
        return answer

    async def _committed(self, last: Sequence[_Asked]) -> list[PGresult]:
        """Send the last statements, the commit, and what is asked behind it."""
        behind = self._behind
        after = [] if behind is None else [self._asked(behind.query, {})]
        answers = await self._sent([*last, COMMIT, *after])
        if behind is not None:
            behind.line = self.lines(answers[-1])[0]
        end = len(answers) - 1 - len(after)
        return answers[end - len(last) : end]

    async def rollback(self) -> None:
        """Keep nothing. A connection that does not even do that is closed."""
        self._ahead.clear()
        self._open = False
        if self._status is TransactionStatus.IDLE or self._wire.status != ConnStatus.OK:
            return
        try:
            await self._sent([ROLLBACK])
        except errors.Error:
            await self.connection.close()

    # ------------------------------------------------- the exchange

    @property
    def _wire(self) -> PGconn:
        return self.connection.pgconn

    @property
    def _status(self) -> TransactionStatus:
        return TransactionStatus(self._wire.transaction_status)

    def _asked(self, query: Query, params: Params) -> _Asked:
        """Adapt the values.

        Raises:
            ProgrammingError: one is missing.
        """
        if not params:
            return _Asked(query.text.encode(), (), (), None)
        text, names = numbered(query)
        try:
            ordered = [params[name] for name in names]
        except KeyError as exc:
            raise errors.ProgrammingError(f"{query.name} is given no value for {exc}") from exc
        values = self._adapt.dump_sequence(ordered, [PyFormat.AUTO] * len(ordered))
        return _Asked(text, values, self._adapt.types or (), self._adapt.formats)

    async def _sent(self, asked: Sequence[_Asked]) -> list[PGresult]:
        """Send what waits and what is asked, and return the answers to all of it.

        Of the first statement that failed the error is raised; those behind it were not run.
        """
        together, self._ahead = [*self._forgotten(), *self._ahead, *asked], []
        async with self.connection.lock:
            named = [self._name(one) for one in together]
            answers = await self.connection.wait(_exchange(self._wire, together, named))
        for one, (name, _), answer in zip(together, named, answers, strict=True):
            if answer.planned:
                self._keep(one, name)
        for answer in answers:
            if answer.result.status not in _GOOD:
                failure = errors.error_from_result(answer.result, encoding=self._adapt.encoding)
                raise failure
        return [answer.result for answer in answers]

    def _keep(self, asked: _Asked, name: bytes) -> None:
        self._names[asked.key] = name
        if len(self._names) > PREPARED_MAX:
            self._stale.append(self._names.popitem(last=False)[1])

    def _forgotten(self) -> list[_Asked]:
        """Return what tells the server to forget plans; not where a failure would undo something."""
        if not self._stale or self._status is not TransactionStatus.IDLE:
            return []
        stale, self._stale = self._stale, []
        return [_Asked(b"deallocate " + name, (), (), None) for name in stale]

    def _name(self, asked: _Asked) -> tuple[bytes, bool]:
        """Return under which name a statement is planned, and whether it is to be planned now."""
        if not self._prepares:
            return b"", False
        known = self._names.get(asked.key)
        if known is not None:
            self._names.move_to_end(asked.key)
            return known, False
        self._seen[asked.key] += 1
        if self._seen[asked.key] <= PREPARED_FROM:
            if len(self._seen) > SEEN_MAX:
                self._seen.clear()
            return b"", False
        self._made += 1
        return b"millrace_%d" % self._made, True


def _exchange(
    wire: PGconn, asked: Sequence[_Asked], named: Sequence[tuple[bytes, bool]]
) -> PQGen[list[_Answer]]:
    """Send statements and take an answer for each, in one go."""
    wire.enter_pipeline_mode()
    for one, (name, new) in zip(asked, named, strict=True):
        if new:
            wire.send_prepare(name, one.text, one.types)
        if name:
            wire.send_query_prepared(name, one.values, one.formats)
        else:
            wire.send_query_params(one.text, one.values, one.types, one.formats)
    wire.pipeline_sync()
    yield from send(wire)
    answers: list[_Answer] = []
    for _, new in named:
        plan = (yield from fetch_many(wire))[0] if new else None
        result = (yield from fetch_many(wire))[0]
        planned = plan is not None and plan.status in _GOOD
        answers.append(_Answer(planned, result if planned or plan is None else plan))
    yield from fetch_many(wire)  # the end of the exchange
    wire.exit_pipeline_mode()
    return answers
