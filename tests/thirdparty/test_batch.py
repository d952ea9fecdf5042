"""A batch of tokens: each opens its own blob, each has its record, in the order of the requests."""

import pytest
import requests

import broker as under_test
import readers
from conftest import AWKWARD_PATH, BLOBS, CONTAINER, PLAIN_PATH

ITEMS_MAX = 1_000


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database) as running:
        yield running


def ask_for(broker: under_test.Broker, items: list[dict]) -> requests.Response:
    return broker.post("/v1/sas/batch", broker.token_for(broker.reader), {"requests": items})


def test_the_largest_batch_is_recorded_whole_and_every_token_of_it_reads_its_blob(azurite, broker):
    paths = [(PLAIN_PATH, AWKWARD_PATH)[number % 2] for number in range(ITEMS_MAX)]
    answer = ask_for(broker, [under_test.wanted(path=path) for path in paths])
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    issued = [result["sas"] for result in answer.json()["results"]]
    assert [one["path"] for one in issued] == paths
    with requests.Session() as session:
        for one in issued:
            client = readers.official(azurite, CONTAINER, one["token"], session=session)
            assert client.download_blob(one["path"]).readall() == BLOBS[one["path"]]

    records = [record for record in broker.audit_list() if record["kind"] == "issued"]
    recorded = {record["id"]: record["path"] for record in records}
    assert recorded == {one["id"]: one["path"] for one in issued}
    assert len(recorded) == ITEMS_MAX
    # One request, and so one transaction.
    assert len({record["request_id"] for record in records}) == 1
    broker.run("audit", "verify")


def test_every_item_is_answered_for_itself_in_its_place(azurite, broker):
    items = [
        under_test.wanted(path=PLAIN_PATH),
        under_test.wanted(path=PLAIN_PATH, permissions="rw"),
        under_test.wanted(path="../up"),
        under_test.wanted(container="other"),
        under_test.wanted(path=AWKWARD_PATH),
    ]
    answer = ask_for(broker, items)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    codes = [result.get("problem", {}).get("code") for result in results]
    assert codes == [None, "permission-not-granted", "invalid-request", "no-grant", None]
    for result, path in ((results[0], PLAIN_PATH), (results[4], AWKWARD_PATH)):
        with readers.official(azurite, CONTAINER, result["sas"]["token"]) as client:
            assert client.download_blob(path).readall() == BLOBS[path]
    kinds = [record["kind"] for record in broker.audit_list()]
    assert (kinds.count("issued"), kinds.count("refused")) == (2, 2)


@pytest.mark.parametrize("count", [0, ITEMS_MAX + 1])
def test_a_batch_of_none_or_too_many_is_refused_as_a_whole(broker, count):
    answer = ask_for(broker, [under_test.wanted()] * count)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_a_batch_without_one_valid_item_is_answered_item_by_item(broker):
    answer = ask_for(broker, [under_test.wanted(path="a//b")] * 2)
    assert answer.status_code == 200, answer.text
    codes = [result["problem"]["code"] for result in answer.json()["results"]]
    assert codes == ["invalid-request"] * 2
