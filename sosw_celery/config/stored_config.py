"""The settings of the part of labourers' configuration that can be changed while they run: `stored_config`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sosw_celery.config.base import Section

__all__ = ["StoredConfig"]


class StoredConfig(Section):
    """Where labourers find the part of their configuration that can be changed while they run.

    The entry of a labourer is called `LABOURER_ID_config` and holds the JSON text of an object.
    """

    #: `dynamo`: a table as sosw's `config`; `ssm`: the parameter store. None: there is no such part.
    source: Literal["dynamo", "ssm"] | None = None
    #: The table, with the keys `env` and `config_name` and the field `config_value`.
    table_name: str = Field("config", min_length=3, max_length=255)
    #: Value of the key `env` in that table.
    env: str = Field("production", min_length=1)
    #: Beginning of the name of each parameter: `/sosw/`.
    ssm_prefix: str = ""
    #: Seconds after which a process reads its entry again, before its next run.
    refresh_s: float = Field(300, ge=0)
