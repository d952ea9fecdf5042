"""Draws signing inputs at random and has the official library sign them, in the vectors' form.

One JSON object a line, as `examples/sas_vectors` reads them and `tests/data` keeps them.
"""

import base64
import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from urllib.parse import parse_qsl

from azure.storage.blob import UserDelegationKey, generate_blob_sas, generate_container_sas

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LETTERS = {"c": "racwdxyltfmeopi", "b": "racwdxytmeopi", "d": "racwdltmeopi", "bs": "rwdxyti"}
# What a URL has to escape, and what looks escaped already.
SEGMENTS = ["a", "b.txt", "dt=2026-11-23", "größe 100%", "50%25", "a+b&c=d#e?f", "日本語", "🚀^'(*)~"]
TEXTS = [None, None, "text/csv; charset=utf-8", 'attachment; filename="a b.csv"', "ä+/="]
OVERRIDES = {
    "rscc": "cache_control",
    "rscd": "content_disposition",
    "rsce": "content_encoding",
    "rscl": "content_language",
    "rsct": "content_type",
}


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _uuid(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def draw(dice: random.Random) -> dict:
    """One signing input: every field that the library can put into a user delegation SAS."""
    sr = dice.choice(list(LETTERS))
    path = None if sr == "c" else "/".join(dice.choices(SEGMENTS, k=dice.randint(1, 5)))
    letters = "".join(letter for letter in LETTERS[sr] if dice.random() < 0.4) or "r"
    start = EPOCH + timedelta(seconds=dice.randrange(10**7))
    other_tenant = dice.random() < 0.3
    sip = dice.choice([None, "203.0.113.7", "203.0.113.0-203.0.113.255"])
    headers = dice.choice([None, [["x-ms-meta-owner", "team one"], ["x-a", "1:2"]]])
    return {
        "account": f"acct{dice.randrange(10**9)}",
        "container": dice.choice(["raw", "$root", "con-1"]),
        "path": path,
        "sr": sr,
        "directory_depth": path.count("/") + 1 if sr == "d" else None,
        "snapshot_or_version": "2026-11-23T10:00:00.1234567Z" if sr == "bs" else None,
        "permissions": letters,
        "start": dice.choice([None, _instant(start)]),
        "expiry": _instant(start + timedelta(seconds=dice.randint(1, 86_400))),
        "ip": sip,
        "protocol": "https",
        "udk": {
            "oid": _uuid(dice),
            "tid": _uuid(dice),
            "start": _instant(start - timedelta(minutes=20)),
            "expiry": _instant(start + timedelta(days=2)),
            "service": "b",
            "version": dice.choice(["2020-12-06", "2026-10-06"]),
            "delegated_user_tid": _uuid(dice) if other_tenant else None,
            "value": base64.b64encode(dice.randbytes(32)).decode(),
        },
        "saoid": _uuid(dice) if sr != "bs" and dice.random() < 0.2 else None,
        "suoid": None,
        "scid": _uuid(dice) if dice.random() < 0.5 else None,
        "sduoid": _uuid(dice) if other_tenant or dice.random() < 0.3 else None,
        "encryption_scope": dice.choice([None, "scope-1"]),
        **{name: dice.choice(TEXTS) for name in OVERRIDES},
        "request_headers": headers,
        "request_query": dice.choice([None, [["a b", "c d"], ["comp", "block"]]]),
    }


def _delegation_key(udk: dict) -> UserDelegationKey:
    key = UserDelegationKey()
    key.signed_oid, key.signed_tid = udk["oid"], udk["tid"]
    key.signed_start, key.signed_expiry = udk["start"], udk["expiry"]
    key.signed_service, key.signed_version = udk["service"], udk["version"]
    key.signed_delegated_user_tid = udk["delegated_user_tid"]
    key.value = udk["value"]
    return key


def sign(given: dict) -> dict:
    """The vector: what the official library makes of `given`."""
    signed_texts: list[str] = []
    options = {
        "user_delegation_key": _delegation_key(given["udk"]),
        "permission": given["permissions"],
        "start": given["start"],
        "expiry": given["expiry"],
        "ip": given["ip"],
        "protocol": given["protocol"],
        "user_delegation_oid": given["sduoid"],
        "preauthorized_agent_object_id": given["saoid"],
        "correlation_id": given["scid"],
        "encryption_scope": given["encryption_scope"],
        "request_headers": given["request_headers"] and dict(given["request_headers"]),
        "request_query_params": given["request_query"] and dict(given["request_query"]),
        "sts_hook": signed_texts.append,
        **{argument: given[name] for name, argument in OVERRIDES.items()},
    }
    if given["path"] is None:
        query = generate_container_sas(given["account"], given["container"], **options)
    else:
        query = generate_blob_sas(
            given["account"],
            given["container"],
            given["path"],
            snapshot=given["snapshot_or_version"],
            is_directory=given["sr"] == "d" or None,
            **options,
        )
    params = dict(parse_qsl(query, strict_parsing=True))
    return {
        "layout": "2026-04",
        "sdk": f"azure-storage-blob=={version('azure-storage-blob')}",
        "input": given | {"sv": params["sv"]},
        "string_to_sign": signed_texts[0],
        "expected_query": query,
        "expected_params": params,
    }


def lines(seed: int, count: int) -> list[str]:
    dice = random.Random(seed)
    made = ({"id": number, **sign(draw(dice))} for number in range(1, count + 1))
    return [json.dumps(vector, ensure_ascii=False) for vector in made]
