"""A Databricks workspace on loopback: a server that answers the workspace API the way the SDK and the CLI use it."""

from workspace.connections import Seen
from workspace.faults import (
    Fault,
    Forbidden,
    LostAnswer,
    ResetWhileReading,
    ResetWhileSending,
    ServerError,
    Slow,
    TooManyRequests,
    Truncated,
    Unauthorized,
    Unavailable,
    WrongByte,
)
from workspace.server import Server

__all__ = [
    "Fault",
    "Forbidden",
    "LostAnswer",
    "ResetWhileReading",
    "ResetWhileSending",
    "Seen",
    "Server",
    "ServerError",
    "Slow",
    "TooManyRequests",
    "Truncated",
    "Unauthorized",
    "Unavailable",
    "WrongByte",
]
