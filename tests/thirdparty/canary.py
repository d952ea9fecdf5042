"""Looks for secrets where none may be, in each form that they could have been written in."""

import base64
from urllib.parse import quote


def forms(secret: str) -> set[bytes]:
    """The text itself, percent-encoded, inside JSON, and the bytes that base64 text stands for."""
    texts = {secret, quote(secret, safe=""), secret.replace("/", "\\/")}
    found = {text.encode() for text in texts}
    try:
        raw = base64.b64decode(secret, validate=True)
    except ValueError:
        return found
    return found | {raw, raw.hex().encode(), str(list(raw)).encode()}


def leaks(secrets: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """What was found where."""
    return [
        f"{what} is in the {place}"
        for what, secret in secrets.items()
        for place, content in places.items()
        if any(form in content for form in forms(secret))
    ]
