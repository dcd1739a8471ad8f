"""How requests to DynamoDB are sent again, and what becomes of conflicts, failed conditions and lost answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from sosw_celery.errors import ContentRefused, StoreError, StoreUnavailable, TransactionRefused
from sosw_celery.stores.dynamodb.requests import backoff, get_all, pages, patiently, transact, write_batch


def cancelled(*codes: str) -> ClientError:
    """Return the error of a transaction that was cancelled for these reasons, one per item."""
    reasons = [{"Code": code} for code in codes]
    response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")


def refused(code: str) -> ClientError:
    """Return the error of a single write."""
    return ClientError({"Error": {"Code": code}}, "UpdateItem")


class Answers:
    """A client whose every send takes the next answer of a list; it keeps the tokens that it saw."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.tokens: list[str] = []

    def transact_write_items(self, *, TransactItems: Any, ClientRequestToken: str) -> dict[str, Any]:
        """Take the next answer."""
        self.tokens.append(ClientRequestToken)
        self()
        return {}

    def __call__(self) -> str:
        """Take the next answer; the last one is given for ever."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return "done"


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited, without waiting."""
    return []


@pytest.fixture
def sleep(waits: list[float]) -> Callable[[float], None]:
    """A clock's sleep that only takes notes."""
    return waits.append


def test_a_conflict_is_sent_again_with_the_same_token(sleep: Callable[[float], None], waits: list[float]) -> None:
    """A transaction that met another one is repeated until it passes, and all its sends carry one token."""
    client: Any = Answers(cancelled("None", "TransactionConflict"), cancelled("ThrottlingError", "None"), None)
    transact(client, [], "FinishPart", sleep=sleep)
    assert len(client.tokens) == 3
    assert len(set(client.tokens)) == 1
    assert len(waits) == 2


def test_two_calls_have_two_tokens(sleep: Callable[[float], None]) -> None:
    """A second call is a transaction of its own, not a repetition of the first."""
    client: Any = Answers(None)
    transact(client, [], "FinishPart", sleep=sleep)
    transact(client, [], "FinishPart", sleep=sleep)
    assert len(set(client.tokens)) == 2


def test_a_failed_condition_says_which(sleep: Callable[[float], None], waits: list[float]) -> None:
    """A failed condition is not tried again, even beside a conflict, and its place is told."""
    client: Any = Answers(cancelled("None", "ConditionalCheckFailed", "TransactionConflict"))
    with pytest.raises(TransactionRefused) as caught:
        transact(client, [], "FinishPart", sleep=sleep)
    assert caught.value.codes == ("None", "ConditionalCheckFailed", "TransactionConflict")
    assert waits == []


def test_endless_conflicts_end_as_unavailable(sleep: Callable[[float], None], waits: list[float]) -> None:
    """When the conflict does not pass, the caller hears "try again later", after waits that grow but are bounded."""
    with pytest.raises(StoreUnavailable) as caught:
        transact(Answers(cancelled("TransactionConflict")), [], "FinishPart", sleep=sleep)  # type: ignore[arg-type]
    assert caught.value.operation == "FinishPart"
    assert 5 < len(waits) < 20
    assert max(waits) <= 0.8


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (cancelled("None", "ValidationError"), ContentRefused),
        (refused("ValidationException"), ContentRefused),
        (refused("AccessDeniedException"), StoreError),
        (refused("ResourceNotFoundException"), StoreError),
        (refused("ThrottlingException"), StoreUnavailable),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), StoreUnavailable),
    ],
)
def test_other_errors_are_translated(error: Exception, kind: type[StoreError], sleep: Callable[[float], None]) -> None:
    """Errors of the vendor end here: what may pass is unavailable, what never can says so."""
    with pytest.raises(StoreError) as caught:
        transact(Answers(error), [], "FinishPart", sleep=sleep)  # type: ignore[arg-type]
    assert type(caught.value) is kind


def test_a_single_write_waits_for_transactions(sleep: Callable[[float], None], waits: list[float]) -> None:
    """A plain write to an item that a transaction holds is repeated like the transaction itself."""
    call = Answers(refused("TransactionConflictException"), refused("TransactionInProgressException"), None)
    assert patiently("UpdateItem", call, sleep=sleep) == "done"
    assert len(waits) == 2


def test_a_single_write_leaves_its_condition_to_the_caller(sleep: Callable[[float], None]) -> None:
    """A failed condition of a plain write is the caller's ordinary outcome, in botocore's own type."""
    with pytest.raises(ClientError):
        patiently("UpdateItem", Answers(refused("ConditionalCheckFailedException")), sleep=sleep)


def test_waits_grow_at_random_up_to_a_limit() -> None:
    """Each wait is below a ceiling that doubles until it is the longest wait, for any number of tries."""
    waits = list(backoff(5000, 0.05, 2))
    assert len(waits) == 5000
    assert all(wait_s <= 0.05 * 2**step for step, wait_s in enumerate(waits[:6]))
    assert 1 < max(waits) <= 2
    assert len(set(waits)) > 4000


class Shelf:
    """A client of a table that takes and gives so many things at a time; keeps the sizes of the requests it got."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.kept: list[Any] = []
        self.asked: list[int] = []

    def batch_write_item(self, *, RequestItems: Any) -> dict[str, Any]:
        """Make some of the writes."""
        done, left = self._split(RequestItems["shelf"])
        self.kept += done
        return {"UnprocessedItems": {"shelf": left} if left else {}}

    def batch_get_item(self, *, RequestItems: Any) -> dict[str, Any]:
        """Give some of the items; there are those with an even number."""
        request = RequestItems["shelf"]
        assert request["ConsistentRead"]
        assert request["ProjectionExpression"] == "id"
        found, left = self._split(request["Keys"])
        return {
            "Responses": {"shelf": [key for key in found if int(key["id"]["N"]) % 2 == 0]},
            "UnprocessedKeys": {"shelf": {**request, "Keys": left}} if left else {},
        }

    def query(self, **query: Any) -> dict[str, Any]:
        """Give a page of one item; there are three."""
        assert query["TableName"] == "shelf"
        place = query.get("ExclusiveStartKey", 0)
        self.asked.append(place)
        return {"Items": [place]} | ({"LastEvaluatedKey": place + 1} if place < 2 else {})

    def _split(self, things: list[Any]) -> tuple[list[Any], list[Any]]:
        self.asked.append(len(things))
        return things[: self.room], things[self.room :]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that batch calls waited, without waiting."""
    slept: list[float] = []
    monkeypatch.setattr("sosw_celery.stores.dynamodb.requests.time.sleep", slept.append)
    return slept


def keys(count: int) -> list[dict[str, Any]]:
    """Return keys of the shelf."""
    return [{"id": {"N": str(number)}} for number in range(count)]


def test_what_a_batch_leaves_over_is_sent_again(slept: list[float]) -> None:
    """All writes are made, each once, whatever part of a batch DynamoDB has capacity for."""
    shelf: Any = Shelf(room=2)
    write_batch(shelf, "shelf", keys(5))
    assert shelf.kept == keys(5)
    assert shelf.asked == [5, 3, 1]
    assert len(slept) == 2


def test_what_a_batch_does_not_read_is_asked_for_again(slept: list[float]) -> None:
    """All items that there are come, a hundred keys to a request, and a request for what one left over."""
    shelf: Any = Shelf(room=40)
    found = get_all(shelf, "shelf", keys(103), ProjectionExpression="id")
    assert next(found) == keys(1)[0]
    assert shelf.asked == [100]
    assert [int(item["id"]["N"]) for item in found] == list(range(2, 103, 2))
    assert shelf.asked == [100, 60, 20, 3]


def test_batches_that_are_never_done_end_as_unavailable(slept: list[float]) -> None:
    """Whoever writes or reads in batches hears "try again later" when nothing passes, after waits that are bounded."""
    shelf: Any = Shelf(room=0)
    with pytest.raises(StoreUnavailable, match="UnprocessedItems"):
        write_batch(shelf, "shelf", keys(1))
    with pytest.raises(StoreUnavailable, match="UnprocessedKeys"):
        list(get_all(shelf, "shelf", keys(1), ProjectionExpression="id"))
    assert 10 < len(slept) < 40
    assert max(slept) <= 5


def test_pages_are_read_when_they_are_asked_for() -> None:
    """Who needs the head of a queue pays for the head; the query itself can be used again."""
    shelf: Any = Shelf(room=1)
    query = {"TableName": "shelf"}
    found = pages(shelf, query)
    assert shelf.asked == []
    assert next(found)["Items"] == [0]
    assert shelf.asked == [0]
    assert [page["Items"] for page in found] == [[1], [2]]
    assert query == {"TableName": "shelf"}


def test_a_page_that_cannot_be_read_is_an_error_of_the_store() -> None:
    """A throttled query says that it may be tried again later."""

    class Throttled:
        def query(self, **_: Any) -> dict[str, Any]:
            raise refused("ThrottlingException")

    client: Any = Throttled()
    with pytest.raises(StoreUnavailable):
        next(pages(client, {}))
