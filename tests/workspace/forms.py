"""A form with a file in it, as ``requests`` sends one (RFC 7578)."""

from __future__ import annotations

from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workspace.messages import Request


def form(request: Request) -> tuple[dict[str, str], bytes]:
    """The fields of a form, and the content of the one file in it."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(EmailMessage, policy=HTTP).parsebytes(head + request.body.read())
    fields: dict[str, str] = {}
    content = b""
    for part in message.iter_parts():
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        if part.get_filename() is not None:
            content = value
        else:
            fields[str(part.get_param("name", header="content-disposition"))] = value.decode()
    return fields, content
