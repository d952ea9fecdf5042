//! The story's chapter about the account's own keys: adopted, rotated, refused inside the overlap,
//! rotated through a crash; and a token that none of it touches.

use std::{sync::Arc, time::Duration as StdDuration};

use secrecy::ExposeSecret;
use serde_json::json;
use time::Duration;

use super::{
    screen::Screen,
    story::{read_request, set_policy, told},
    world::{ACCOUNT, ADA_NAME, OLGA_NAME, SECRET, VAULT, World},
};
use crate::{
    azure::key_proof::SharedKeyProof,
    cli::{Failure, compose::RotationProcess},
    domain::{
        account::Account,
        rotation::{KeyName, observation::CREDENTIAL_ID},
    },
    ports::{AccountKey, Clock, KeyProof, Proof},
    simulator::{Effect, Endpoint, Fault, KeySlot, SecretVersion, Seen},
    web::{Route, client},
};

/// Longest wait for the simulated ARM to be called.
const CALL_PATIENCE: StdDuration = StdDuration::from_secs(10);

/// Most minutes until a rotation that was cut off has ended: ten until it is certain what became of
/// its last call, and the lease's.
const MINUTES_MAX: usize = 20;

/// Tells it.
pub(super) async fn tell(world: &mut World, screen: &mut Screen) -> Result<(), Failure> {
    let what = "the account's own keys are to be rotated every 30 days";
    set_policy(world, screen, true, what).await?;
    tick(world).await?;
    screen.step(
        "the first tick adopts the account: key1 is published as it is",
        published(world, KeyName::Key1),
        versions(world),
    );
    let first = live(world, KeyName::Key1)?;

    world.clock.advance(Duration::days(30));
    tick(world).await?;
    screen.step(
        "30 days later key2 is regenerated, proved with a Shared Key call, and published",
        published(world, KeyName::Key2),
        versions(world),
    );
    let works = proves(world, &first).await?;
    screen.step(
        "inside the overlap the old key still works",
        works && live(world, KeyName::Key1)?.value.expose_secret() == first.value.expose_secret(),
        "the account accepts key1",
    );
    refused_inside_the_overlap(world, screen).await?;

    world.clock.advance(Duration::days(30));
    world.restart().await?;
    through_a_crash(world, screen).await
}

/// What the scheduler of a serving broker does once a minute.
async fn tick(world: &World) -> Result<(), Failure> {
    let process = RotationProcess::open(&world.config, world.ambient()).await?;
    let ticked = process.tick().await;
    process.close().await;
    Ok(ticked?)
}

async fn refused_inside_the_overlap(world: &World, screen: &mut Screen) -> Result<(), Failure> {
    let olga = world.sign_in(OLGA_NAME).await?;
    let path = format!("/v1/admin/accounts/{ACCOUNT}/rotations");
    let (status, asked) = world.post(&path, &olga, &json!({})).await?;
    tick(world).await?;
    let id = asked["id"].as_str().unwrap_or_default();
    let (_, rotation) = world.get(&format!("{path}/{id}"), &olga).await?;
    let detail = rotation["detail"].as_str().unwrap_or_default();
    screen.step(
        "an operator asks for another rotation at once: it is refused",
        status == 202 && rotation["state"] == "refused" && detail.contains("overlap"),
        format!("{}: {detail}", rotation["state"].as_str().unwrap_or("-")),
    );
    Ok(())
}

async fn through_a_crash(world: &World, screen: &mut Screen) -> Result<(), Failure> {
    let bearer = world.sign_in(ADA_NAME).await?;
    let mut request = read_request();
    request["lifetime_seconds"] = json!(3_600);
    let (status, answer) = world.ask(&bearer, &request).await?;
    let url = answer["url"].as_str().unwrap_or_default().to_owned();
    if status != 200 {
        return Err(told(status, &answer).into());
    }

    let before = world.azure.calls(Endpoint::ArmRegenerateKey);
    die_in_regenerate_key(world).await?;
    let current = proves(world, &live(world, KeyName::Key2)?).await?;
    screen.step(
        "the next rotation dies in the middle of regenerateKey; the published key still works",
        current && published(world, KeyName::Key2),
        "nobody heard that key1 was regenerated",
    );

    let mut minutes = 0;
    let process = RotationProcess::open(&world.config, world.ambient()).await?;
    while !published(world, KeyName::Key1) && minutes < MINUTES_MAX {
        world.clock.advance(Duration::minutes(1));
        process.tick().await?;
        minutes += 1;
    }
    process.close().await;
    let calls = world.azure.calls(Endpoint::ArmRegenerateKey) - before;
    screen.step(
        "another process waits until it is certain, sees the new key, and publishes it",
        published(world, KeyName::Key1) && calls == 1,
        format!(
            "{}\nafter {minutes} minutes; regenerateKey was called {calls} time(s)",
            versions(world)
        ),
    );
    let read = world.http.get(&url).send().await?.status();
    screen.step(
        "a SAS that was issued before still works: no account key has signed it",
        read == 200,
        format!("storage says {}", read.as_u16()),
    );
    Ok(())
}

/// A rotation whose process ends while ARM is at work: ARM does what it was told, and nobody hears.
async fn die_in_regenerate_key(world: &World) -> Result<(), Failure> {
    let endpoint = Endpoint::ArmRegenerateKey;
    let (effect, seen) = (Effect::Now, Seen::Silence);
    let fault = Fault::Lost { effect, seen };
    world.azure.fail_calls(endpoint, 0..1, fault);
    let calls = world.azure.calls(endpoint);
    let process = RotationProcess::open(&world.config, world.ambient()).await?;
    let life = tokio::spawn(async move { process.tick().await });
    let sent = async {
        while world.azure.calls(endpoint) == calls {
            tokio::time::sleep(StdDuration::from_millis(5)).await;
        }
    };
    let sent = tokio::time::timeout(CALL_PATIENCE, sent).await;
    life.abort();
    Ok(sent.map_err(|_| "the rotation did not come as far as regenerateKey")?)
}

/// Whether the newest version of the secret is on and holds the live value of this key.
fn published(world: &World, key: KeyName) -> bool {
    let versions = world
        .azure
        .secret_versions(VAULT, SECRET)
        .unwrap_or_default();
    let live = live(world, key).ok();
    versions.last().zip(live).is_some_and(|(newest, live)| {
        newest.enabled
            && newest.tags.get(CREDENTIAL_ID).map(String::as_str) == Some(key.as_str())
            && newest.value.expose_secret() == live.value.expose_secret()
    })
}

/// The vault's versions, oldest first, without their values.
fn versions(world: &World) -> String {
    let versions = world
        .azure
        .secret_versions(VAULT, SECRET)
        .unwrap_or_default();
    let line = |version: &SecretVersion| {
        let key = version.tags.get(CREDENTIAL_ID).map_or("-", String::as_str);
        let on = if version.enabled { "on" } else { "off" };
        format!("{SECRET} {}… {key}, {on}", &version.id[..8])
    };
    let lines: Vec<_> = versions.iter().map(line).collect();
    lines.join("\n")
}

/// A key of the account, as ARM has it.
fn live(world: &World, name: KeyName) -> Result<AccountKey, Failure> {
    let slot = match name {
        KeyName::Key1 => KeySlot::Key1,
        KeyName::Key2 => KeySlot::Key2,
    };
    let value = world.azure.account_key(ACCOUNT, slot)?.value;
    Ok(AccountKey { name, value })
}

/// Whether the Blob service accepts a Shared Key call with the key.
async fn proves(world: &World, key: &AccountKey) -> Result<bool, Failure> {
    let account: Account = serde_json::from_value(world.policy(false)["accounts"][0].clone())?;
    let web = client(Some(&world.ca_file()), Route::Environment)?;
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let proof = SharedKeyProof::new(web, world.config.cloud.cloud(), clock);
    Ok(proof.prove(&account, key).await == Proof::Accepted)
}
