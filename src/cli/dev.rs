//! `sas-broker dev`: the demo's world, kept running, with lines to paste.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    apply::{apply, parse, plan},
    compose::start_log,
    demo::world::{ACCOUNT, ADA_NAME, OLGA_NAME, World},
    serve::stop_signal,
};
use crate::config::sections::{Log, LogFormat};

/// Keep the demo's world running until interrupted, and print curl lines with live tokens.
#[derive(Debug, Args)]
pub struct Dev {
    /// The broker's port on loopback.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

impl Dev {
    /// Runs it.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn run(self) -> Result<ExitCode, Failure> {
        start_log(&Log {
            format: LogFormat::Text,
            filter: "warn".to_owned(),
        })?;
        let world = World::start(self.port, true).await?;
        let ambient = world.ambient();
        let plan = plan(
            &world.config,
            &ambient,
            parse(&world.policy(true).to_string())?,
        )
        .await?;
        apply(&world.config, &ambient, plan).await?;
        print_lines(&world).await?;
        stop_signal().await?;
        world.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}

async fn print_lines(world: &World) -> Result<(), Failure> {
    let bearer = world.sign_in(ADA_NAME).await?;
    let request = json!({
        "account": ACCOUNT, "container": "raw", "path": "2026/11/file.csv", "permissions": "r",
    });
    let (status, answer) = world.ask(&bearer, &request).await?;
    let operator = world.sign_in(OLGA_NAME).await?;
    let url = answer["url"]
        .as_str()
        .ok_or_else(|| format!("no token was issued: {status} {answer}"))?;
    let base = &world.base;
    let ca = world.ca_file();
    let ca = ca.display();
    anstream::println!(
        "The simulated world is up; its tokens open nothing outside of it. Stop it with Ctrl-C.\n\n\
         # Ada's access token lives an hour\n\
         TOKEN={bearer}\n\n\
         # Issue a token, explain a decision, list what Ada may reach\n\
         curl -sw '\\n' {base}/v1/sas -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n  \
           -d '{request}'\n\
         curl -sw '\\n' {base}/v1/sas/explain -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n  \
           -d '{{\"account\":\"{ACCOUNT}\",\"container\":\"raw\",\"permissions\":\"rw\"}}'\n\
         curl -sw '\\n' {base}/v1/access -H \"Authorization: Bearer $TOKEN\"\n\n\
         # Read the blob with a token that was issued just now\n\
         curl -sw '\\n' --cacert {ca} '{url}'\n\n\
         # Olga, an operator, sees how the account's keys are rotated, and asks for a rotation\n\
         OPERATOR={operator}\n\
         curl -sw '\\n' {base}/v1/admin/accounts/{ACCOUNT}/rotations -H \"Authorization: Bearer $OPERATOR\"\n\
         curl -sw '\\n' {base}/v1/admin/accounts/{ACCOUNT}/rotations -H \"Authorization: Bearer $OPERATOR\" -H 'Content-Type: application/json' \\\n  \
           -d '{{}}'\n"
    );
    Ok(())
}
