"""What the one door to DynamoDB does with conflicts, failed conditions and answers that never came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from sosw_celery.errors import ContentRefused, StoreError, StoreUnavailable, TransactionRefused, TransitionRefused
from sosw_celery.stores.dynamodb.client import connect, patiently, sent_only_if, transact, translated


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


def test_a_request_can_be_stopped_when_it_is_sent() -> None:
    """A check that fails right before the sending keeps the request back, in this thread and inside the block only."""

    def too_late() -> None:
        raise TransitionRefused("j1#part#00000", "write")

    def put() -> None:
        with translated("PutItem"):
            client.put_item(TableName="kept", Item={"id": {"S": "1"}})

    with mock_aws():
        client = connect(endpoint_url=None, region_name="eu-west-1")
        client.create_table(
            TableName="kept",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        with sent_only_if(too_late), pytest.raises(TransitionRefused):
            put()
        assert client.scan(TableName="kept")["Count"] == 0
        with sent_only_if(lambda: None):
            put()
        assert client.scan(TableName="kept")["Count"] == 1
        with sent_only_if(too_late):
            thread = threading.Thread(target=put)
            thread.start()
            thread.join()
        put()
