"""Rotation by `serve`, with nobody at the machine: how it is asked for over HTTP, what the signals
tell, who acts where two share a database, and that no key is ever written down."""

import json

import pytest
from standardwebhooks import WebhookVerificationError

import broker as under_test
import canary
import webhooks
from rotating import BREAK_GLASS, DAY, MINUTE, opens, wait_until

# More than the broker repeats a reading call.
LISTINGS_LOST = 5
ORDER = {"key": "alternate", "reason": "proof"}
REGENERATED = [(act, "key2", "done") for act in ("regenerate", "prove", "publish")]


@pytest.fixture
def receiver():
    with webhooks.receiver() as running:
        yield running


@pytest.fixture
def start(world, database):
    """Starts brokers on one database, all of which are stopped."""
    started = []

    def start_one(**options):
        broker = world.broker(database, **options)
        if not started:
            broker.apply()
        started.append(broker)
        broker.start()
        return broker

    yield start_one
    for broker in started:
        broker.stop()


def asked(broker, world, **order) -> str:
    """Where to look at the rotation that an operator asked for."""
    answer = broker.request(world.operator(), **order)
    assert (answer.status_code, answer.json()["state"]) == (202, "requested"), answer.text
    return answer.headers["location"]


def over(broker, world, location, state="succeeded") -> dict:
    """The rotation when it is over, which takes the next tick."""
    operator = world.operator()

    def has_ended() -> bool:
        return broker.read(location, operator)["state"] not in ("requested", "running")

    wait_until(has_ended, "the rotation ends")
    rotation = broker.read(location, operator)
    assert rotation["state"] == state, rotation
    return rotation


def test_serve_adopts_rotates_when_asked_and_when_due_and_tells(start, world, azure, receiver):
    before = azure.keys()
    secret = {under_test.WEBHOOK_SECRET_VARIABLE: receiver.secret}
    broker = start(webhook_url=receiver.url, environment=secret)
    # Nobody has asked for anything.
    wait_until(lambda: receiver.received, "the account is adopted")
    assert azure.secret().value == before["key1"]
    stranger = broker.request("not.a.token", **ORDER)
    assert stranger.status_code == 401

    location = asked(broker, world, **ORDER)
    world.pass_time(MINUTE)
    rotation = over(broker, world, location)
    assert [(s["kind"], s["key"], s["outcome"]) for s in rotation["steps"]] == REGENERATED
    published = azure.secret()
    assert published.value == azure.keys()["key2"] != before["key2"]
    assert opens(azure.blobs(published.value))

    wait_until(lambda: len(receiver.received) == 2, "the webhook is told")
    adoption, told = (receiver.verified(place) for place in range(2))
    assert told["type"] == adoption["type"] == "sas-broker.rotation.published.v1"
    assert adoption["data"]["key"] == "key1"
    assert told["data"] == {
        "account": broker.account,
        "rotation": rotation["id"],
        "key": "key2",
        "version": published.properties.version,
    }
    forged = receiver.received[1][1].replace(b"key2", b"key1")
    with pytest.raises(WebhookVerificationError):
        receiver.verified(1, but_with=forged)

    samples = broker.samples()
    assert 0 <= samples["sas_broker_rotation_age_seconds", broker.account] < 2 * MINUTE
    assert samples["sas_broker_rotation_overdue_seconds", broker.account] == 0
    assert samples["sas_broker_rotation_state", broker.account, "fresh"] == 1
    counted = {act: broker.counted(act) for act in ("regenerate", "prove", "publish", "disable")}
    assert counted == {"regenerate": 1, "prove": 2, "publish": 2, "disable": 0}

    # A month later it does so by itself, and switches the version off that holds a dead key now.
    world.pass_time(31 * DAY)
    wait_until(lambda: broker.counted("disable"), "the rotation that was due comes about")
    assert azure.secret().value == azure.keys()["key1"] != before["key1"]
    versions = [(one.tags["CredentialId"], one.enabled) for one in azure.versions()]
    assert versions == [("key1", False), ("key2", True), ("key1", True)]
    wait_until(lambda: len(receiver.received) == 3, "the webhook is told again")
    assert json.loads(receiver.received[2][1])["data"]["key"] == "key1"
    assert broker.stop() == 0
    broker.run("audit", "verify")


def test_of_two_processes_on_one_database_one_acts_and_the_other_takes_over(start, world, azure):
    both = start(), start()
    wait_until(lambda: any(one.counted("publish") for one in both), "one of them adopts")
    (holder,) = (one for one in both if one.counted("publish"))
    (other,) = (one for one in both if one is not holder)
    location = asked(other, world, **ORDER)
    world.pass_time(MINUTE)
    over(other, world, location)
    # Minute by minute: whichever is asked, the same one looks.
    for one in (*both, *both):
        location = asked(one, world)
        world.pass_time(MINUTE)
        over(one, world, location, "refused")
    assert azure.calls("arm_regenerate_key") == holder.counted("regenerate") == 1
    assert len(azure.versions()) == 2
    assert {other.counted(act) for act in ("regenerate", "prove", "publish")} == {0}
    acts = ("rotation_step", "rotation_ended")
    writers = {one["writer"] for one in holder.audit_list() if one["kind"] in acts}
    assert len(writers) == 1

    # The lease of a process that is gone ends by itself; who takes it over first waits for what
    # that process may have sent.
    holder.service.kill()
    location = asked(other, world, **ORDER)
    world.pass_time(3 * MINUTE)
    wait_until(lambda: "former holder" in other.log.read_text(), "the other takes the lease over")
    assert azure.calls("arm_regenerate_key") == 1
    world.pass_time(MINUTE)
    over(other, world, location)
    assert azure.calls("arm_regenerate_key") == 2
    assert azure.secret().value == azure.keys()["key1"]
    holder.run("audit", "verify")


def test_no_key_is_in_any_log_in_the_database_or_in_what_is_printed(start, world, azure, receiver):
    before = azure.keys()
    secret = {under_test.WEBHOOK_SECRET_VARIABLE: receiver.secret}
    options = {"webhook_url": receiver.url, "environment": secret, "log_filter": "trace"}
    broker = start(**options)
    broker.apply(value="connection_string")
    wait_until(lambda: receiver.received, "the account is adopted")
    # On paths that succeed and on paths that fail: a key is not accepted, an answer with keys gets
    # lost, and it stays unclear whether a version was made.
    azure.command("network_denies", on=True)
    location = asked(broker, world, **ORDER)
    world.pass_time(MINUTE)
    wait_until(lambda: broker.steps().count(("prove", "key2", "refused")) == 1, "no proof")
    azure.command("network_denies", on=False)
    azure.fail("arm_list_keys", "cut_after", calls=LISTINGS_LOST)
    world.pass_time(MINUTE)
    wait_until(lambda: broker.steps().count(("prove", "key2", "refused")) == 2, "no list of keys")
    azure.fail("vault_set", "gateway_timeout_after")
    world.pass_time(MINUTE)
    wait_until(lambda: ("publish", "key2", "unclear") in broker.steps(), "no clear answer")
    world.pass_time(MINUTE)
    over(broker, world, location)
    between, in_use = azure.keys(), broker.database.contents()
    assert broker.stop() == 0
    again = broker.rotate(*BREAK_GLASS)
    assert again.returncode == 0, again.stderr
    listed = broker.run("audit", "list", "--limit", "100000")
    records = "\n".join(json.dumps(record) for record in broker.audit_list())
    places = {
        "log": broker.log.read_bytes(),
        "database in use": in_use,
        "database": broker.database.contents(),
        "output of rotate": "".join(broker.printed).encode(),
        "output of audit list": (listed.stdout + listed.stderr + records).encode(),
        "events": b"".join(body for _, body in receiver.received),
    }
    # The search itself can find something: what is meant to be there is there.
    assert b'"level":"TRACE"' in places["log"]
    assert all(b"key1" in content for content in places.values())
    secrets = {
        f"{name} {when}": value
        for when, keys in (("before", before), ("between", between), ("after", azure.keys()))
        for name, value in keys.items()
    }
    assert len(set(secrets.values())) == 4
    secrets |= {
        "the broker's client secret": azure.place["client_secret"],
        "the webhook's secret": receiver.secret.removeprefix("whsec_"),
    }
    assert not canary.leaks(secrets, places)
