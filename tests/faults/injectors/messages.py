"""Loses, doubles and repeats messages of the broker, directly on the keys that kombu keeps in Redis.

A queue is a list; what a worker got and has not acknowledged stands in a hash for all queues. Each method is one Lua
script, so workers see it happen at one instant. Copies get delivery tags of their own, as a broker that delivers twice
would have it: acknowledging one of them leaves the others.
"""

from __future__ import annotations

import random
import re
import threading
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import cast

import redis

__all__ = ["Messages", "OldMessages"]

UNACKED, UNACKED_INDEX = "unacked", "unacked_index"
#: How kombu writes the tag into a message.
TAG = re.compile(r'"delivery_tag": "[^"]*"')

# KEYS 1 queue, 2 unacked, 3 its index. ARGV 1 seed, 2 share. Calls `each(text)` for the messages of the queue that are
# struck, waiting ones first, which returns whether they stay.
STRIKE = r"""
math.randomseed(tonumber(ARGV[1]))
local struck = 0
local function stays(text)
  if math.random() >= tonumber(ARGV[2]) then
    return true
  end
  struck = struck + 1
  return each(text, struck)
end
local waiting = redis.call('LRANGE', KEYS[1], 0, -1)
local kept = {}
for _, text in ipairs(waiting) do
  if stays(text) then
    kept[#kept + 1] = text
  end
end
if #kept < #waiting then
  redis.call('DEL', KEYS[1])
  for _, text in ipairs(kept) do
    redis.call('RPUSH', KEYS[1], text)
  end
end
local unacked = redis.call('HGETALL', KEYS[2])
for place = 1, #unacked, 2 do
  local text, queue = string.match(unacked[place + 1], '^%[(.*), "[^"]*", "([^"]*)"%]$')
  if queue == KEYS[1] and not stays(text) then
    redis.call('HDEL', KEYS[2], unacked[place])
    redis.call('ZREM', KEYS[3], unacked[place])
  end
end
return struck
"""
DROP = "local function each() return false end" + STRIKE
# ARGV 3: beginning of the copies' tags, 4 most copies.
DOUBLE = (
    """
local function each(text, count)
  if count > tonumber(ARGV[4]) then
    return true
  end
  local tag = '"delivery_tag": "' .. ARGV[3] .. '-' .. count .. '"'
  redis.call('LPUSH', KEYS[1], (string.gsub(text, '"delivery_tag": "[^"]*"', tag)))
  return true
end"""
    + STRIKE
)
# Returns copies of all messages of the queue, waiting and unacknowledged.
COPY = """
local found = redis.call('LRANGE', KEYS[1], 0, -1)
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
  local text, queue = string.match(value, '^%[(.*), "[^"]*", "([^"]*)"%]$')
  if queue == KEYS[1] then
    found[#found + 1] = text
  end
end
return found
"""


class Messages:
    """The messages of a broker, by the names of their queues: a labourer's hints stand under its id.

    Parameters:
        seed: Of the chance by which they are struck.
    """

    def __init__(self, client: redis.Redis, seed: int) -> None:
        self._chance = random.Random(seed)
        self._drop = client.register_script(DROP)
        self._double = client.register_script(DOUBLE)

    def drop(self, queue: str, share: float = 1.0) -> int:
        """Lose a share of a queue's messages, waiting and unacknowledged ones, and return how many."""
        return cast(int, self._drop(keys=_keys(queue), args=[self._chance.getrandbits(31), share]))

    def duplicate(self, queue: str, share: float = 1.0, *, at_most: int = 100) -> int:
        """Put copies of a share of a queue's messages at its end, also of unacknowledged ones; return how many.

        Parameters:
            at_most: Copies of one call. Copies are copied too: without a limit they would grow beyond all bounds.
        """
        arguments = [self._chance.getrandbits(31), share, str(uuid.uuid4()), at_most]
        return min(at_most, cast(int, self._double(keys=_keys(queue), args=arguments)))


class OldMessages:
    """Keeps copies of messages that it sees on queues while the block runs, to deliver them again later.

    It looks every `POLL_S` seconds: it sees all that wait, or are unacknowledged, for that long.
    """

    POLL_S = 0.01

    def __init__(self, client: redis.Redis, queues: Sequence[str], seed: int) -> None:
        self._client = client
        self._copy = client.register_script(COPY)
        self._chance = random.Random(seed)
        self._kept: dict[str, dict[str, str]] = {queue: {} for queue in queues}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="old-messages", daemon=True)

    def __enter__(self) -> OldMessages:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def kept(self, queue: str) -> int:
        """Return how many different messages of a queue it has seen."""
        return len(self._kept[queue])

    def deliver_again(self, queue: str, at_most: int) -> int:
        """Put so many of the messages that it has seen on their queue once more, chosen by chance; return how many."""
        texts = sorted(self._kept[queue].values())
        chosen = self._chance.sample(texts, min(at_most, len(texts)))
        if chosen:
            copies = [TAG.sub(f'"delivery_tag": "{uuid.uuid4()}"', text) for text in chosen]
            self._client.lpush(queue, *copies)
        return len(chosen)

    def _look(self) -> None:
        while not self._ended.wait(self.POLL_S):
            try:
                for queue, kept in self._kept.items():
                    found = cast(list[bytes], self._copy(keys=_keys(queue)))
                    for text in map(bytes.decode, found):
                        kept.setdefault(TAG.search(text)[0], text)  # type: ignore[index]  # kombu writes it
            except (redis.ConnectionError, redis.TimeoutError):  # Redis is down in this run as well
                continue


def _keys(queue: str) -> list[str]:
    return [queue, UNACKED, UNACKED_INDEX]
