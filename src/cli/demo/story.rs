//! The story itself.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use time::Duration;

use super::{
    rotation,
    screen::Screen,
    world::{ACCOUNT, ADA_NAME, World},
};
use crate::{
    app::verify_journal::verify_journal,
    cli::{
        Failure,
        apply::{apply, parse, plan},
        compose::open_store,
    },
};

/// Tells it; the steps that differ are on the screen.
pub(super) async fn tell(world: &mut World, screen: &mut Screen) -> Result<(), Failure> {
    set_policy(world, screen, true, "the role table is applied").await?;
    let bearer = world.sign_in(ADA_NAME).await?;
    let parts = bearer.split('.').count();
    screen.step(
        "Ada signs in to Entra and gets an access token",
        parts == 3,
        "a JWT for api://sas-broker",
    );

    let url = issue(world, screen, &bearer).await?;
    storage(world, screen, &url).await?;
    refusals(world, screen, &bearer).await?;

    set_policy(world, screen, false, "the grant is revoked").await?;
    let (status, answer) = world.ask(&bearer, &read_request()).await?;
    let code = &answer["code"];
    screen.step(
        "the next request is refused",
        status == 403 && code == "no-grant",
        told(status, &answer),
    );

    world.clock.advance(Duration::minutes(16));
    let response = world.http.get(&url).send().await?;
    let error = error_code(&response);
    screen.step(
        "16 minutes later the token has expired (403)",
        response.status() == 403 && error == "AuthenticationFailed",
        format!("storage says {} {error}", response.status().as_u16()),
    );
    rotation::tell(world, screen).await?;
    journal(world, screen).await
}

pub(super) async fn set_policy(
    world: &World,
    screen: &mut Screen,
    with_grants: bool,
    what: &str,
) -> Result<(), Failure> {
    let document = parse(&world.policy(with_grants).to_string())?;
    let ambient = world.ambient();
    let plan = plan(&world.config, &ambient, document).await?;
    let lines = plan.lines.join("\n");
    let applied = apply(&world.config, &ambient, plan).await;
    screen.step(what, applied.is_ok() && !lines.is_empty(), lines);
    Ok(())
}

pub(super) fn read_request() -> Value {
    json!({ "account": ACCOUNT, "container": "raw", "path": "2026/11/file.csv", "permissions": "r" })
}

async fn issue(world: &World, screen: &mut Screen, bearer: &str) -> Result<String, Failure> {
    let (status, answer) = world.ask(bearer, &read_request()).await?;
    let url = answer["url"].as_str().unwrap_or_default().to_owned();
    let seen = if status == 200 {
        format!(
            "{}\nvalid until {}, bounded by {}",
            without_signature(&url),
            answer["expires_at"].as_str().unwrap_or_default(),
            answer["bounded_by"],
        )
    } else {
        told(status, &answer)
    };
    screen.step(
        "the broker issues a SAS for one blob, read only, 15 minutes",
        status == 200,
        seen,
    );
    if url.is_empty() {
        return Err("without a token the story ends here".into());
    }
    Ok(url)
}

async fn storage(world: &World, screen: &mut Screen, url: &str) -> Result<(), Failure> {
    let response = world.http.get(url).send().await?;
    let status = response.status();
    let text = response.text().await?;
    screen.step(
        "the blob is read with it (200)",
        status == 200 && text.contains("42"),
        text.trim(),
    );

    let write = world
        .http
        .put(url)
        .header("x-ms-blob-type", "BlockBlob")
        .body("x")
        .send()
        .await?;
    let error = error_code(&write);
    screen.step(
        "a write with it is refused (403)",
        write.status() == 403 && error == "AuthorizationPermissionMismatch",
        format!("storage says {} {error}", write.status().as_u16()),
    );
    let elsewhere = url.replace("/raw/2026/11/file.csv", "/private/salaries.csv");
    let other = world.http.get(&elsewhere).send().await?;
    let error = error_code(&other);
    screen.step(
        "another container is refused (403)",
        other.status() == 403 && error == "AuthenticationFailed",
        format!("storage says {} {error}", other.status().as_u16()),
    );
    Ok(())
}

async fn refusals(world: &World, screen: &mut Screen, bearer: &str) -> Result<(), Failure> {
    let mut request = read_request();
    request["permissions"] = json!("rwd");
    let (status, answer) = world.ask(bearer, &request).await?;
    screen.step(
        "asking for more than the grant gives is refused, with reasons",
        status == 403 && answer["code"] == "permission-not-granted",
        told(status, &answer),
    );
    let private = json!({ "account": ACCOUNT, "container": "private", "permissions": "l" });
    let (status, answer) = world.ask(bearer, &private).await?;
    screen.step(
        "asking for a container without a grant is refused",
        status == 403 && answer["code"] == "no-grant",
        told(status, &answer),
    );
    Ok(())
}

async fn journal(world: &World, screen: &mut Screen) -> Result<(), Failure> {
    let store = Arc::new(open_store(&world.config).await?);
    let report = verify_journal(store.as_ref()).await?;
    screen.step(
        "the journal verifies",
        report.findings_total == 0 && report.records >= 7,
        format!("{} records in {} chains", report.records, report.chains),
    );
    // Whoever owns the file can drop the guard rail and edit a row. The chain shows it.
    let mut attacker = SqliteConnectOptions::new()
        .filename(world.database_file())
        .connect()
        .await?;
    sqlx::query("DROP TRIGGER journal_no_update")
        .execute(&mut attacker)
        .await?;
    let edit = "UPDATE journal SET body = CAST(REPLACE(CAST(body AS TEXT), 'file.csv', 'other.csv') AS BLOB) \
                WHERE kind = 'issued'";
    sqlx::query(edit).execute(&mut attacker).await?;
    attacker.close().await?;
    let report = verify_journal(store.as_ref()).await?;
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    screen.step(
        "a record is altered in the database, and caught",
        report.findings_total > 0,
        findings.join("\n"),
    );
    Ok(())
}

pub(super) fn told(status: u16, answer: &Value) -> String {
    let mut text = format!(
        "{status} {}: {}",
        answer["code"].as_str().unwrap_or("-"),
        answer["detail"].as_str().unwrap_or("-"),
    );
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n- {}", reason.as_str().unwrap_or_default()));
    }
    text
}

fn error_code(response: &reqwest::Response) -> String {
    let header = response
        .headers()
        .get("x-ms-error-code")
        .and_then(|code| code.to_str().ok());
    header.unwrap_or("-").to_owned()
}

/// The signature is a secret, even of a token that is about to die.
fn without_signature(url: &str) -> String {
    url.split('&')
        .filter(|part| !part.starts_with("sig="))
        .collect::<Vec<_>>()
        .join("&")
        + "&sig=…"
}
