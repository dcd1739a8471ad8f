"""What keeps a request to DynamoDB from being sent."""

from __future__ import annotations

import threading

import pytest
from moto import mock_aws

from sosw_celery.errors import TransitionRefused
from sosw_celery.stores.dynamodb.client import connect, sent_only_if
from sosw_celery.stores.dynamodb.requests import translated


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
