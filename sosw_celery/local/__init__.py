"""The stack for a laptop: a real Redis and a DynamoDB engine on free loopback ports.

    with LocalStack(data_dir=".sosw") as stack:
        subprocess.run([...], env={**os.environ, **stack.environment()})

The servers end with the process that started them, whatever ends it. What they keep in `data_dir` survives a kill of
everything. Where the programs come from is told in `engines`, how they are kept on a leash in `supervise`.
"""

from __future__ import annotations

from sosw_celery.local.engines import EngineMissing
from sosw_celery.local.servers import DynamoServer, RedisServer, ServerFailed
from sosw_celery.local.stack import LocalStack, environment_of

__all__ = ["DynamoServer", "EngineMissing", "LocalStack", "RedisServer", "ServerFailed", "environment_of"]
