//! `sas-broker rotate`: one account's keys, by hand.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tokio::time::{Instant, sleep};

use super::{
    ConfigFile, Failure,
    compose::{Ambient, RotationProcess},
    serve::stop_signal,
};
use crate::{
    app::request_rotation::{KeyChoice, Order},
    domain::{
        ids::{AccountName, Reason},
        rotation::{AccountStatus, Next, Plan, Rotation, RotationState, RotationStep},
        time_text::to_text,
    },
};

/// How often the rotation is looked at in the database; Azure is asked when the account is due.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Rotate the keys of one account now.
///
/// Without --key it is an ordinary rotation, which keeps the overlap: inside of it, it is refused. With
/// --key it is a break-glass: that key dies, overlap or not, after the other one is published.
///
/// The request is recorded, and carried out here if no serving broker holds the lease, or else by that
/// one within a minute. The exit code is 0 if it succeeded, and 1 if it was refused or failed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sas-broker rotate --account acct1 --dry-run\n  sas-broker rotate --account acct1\n  sas-broker rotate --account acct1 --key active --reason \"INC-4711: key in a public repository\""
)]
pub struct Rotate {
    /// The account.
    #[arg(long, short, value_name = "NAME")]
    account: AccountName,
    /// The key that must die: active, alternate, key1 or key2.
    #[arg(
        long,
        value_name = "KEY",
        requires = "reason",
        conflicts_with = "dry_run"
    )]
    key: Option<KeyChoice>,
    /// Why; for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
    /// Say what would be done now, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the end, in seconds. The rotation goes on by itself if a broker serves.
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    wait_seconds: u64,
}

impl Rotate {
    /// Runs it.
    ///
    /// # Errors
    /// If the account is not rotated, or the database or the journal does not answer.
    pub async fn run(self, config: &ConfigFile) -> Result<ExitCode, Failure> {
        let config = config.load()?;
        let process = RotationProcess::open(&config, Ambient::system()).await?;
        if self.dry_run {
            let planned = process.preview(&self.account).await;
            process.close().await;
            print_plan(&planned?);
            return Ok(ExitCode::SUCCESS);
        }
        let done = tokio::select! {
            done = self.rotate(&process) => done,
            asked = stop_signal() => {
                process.break_off().await;
                asked?;
                anstream::println!(
                    "interrupted; a serving broker goes on with it, or the next `rotate`"
                );
                return Ok(ExitCode::FAILURE);
            }
        };
        process.close().await;
        done
    }

    async fn rotate(self, process: &RotationProcess) -> Result<ExitCode, Failure> {
        let order = match (self.key, self.reason) {
            (Some(key), Some(reason)) => Order::BreakGlass { key, reason },
            (_, reason) => Order::Next { reason },
        };
        let asked = process.request(&self.account, &order).await?;
        let key = asked
            .key
            .map(|key| format!(" of {key}"))
            .unwrap_or_default();
        anstream::println!("rotation {} ({}{key})", asked.id, asked.trigger);
        let until = Instant::now() + Duration::from_secs(self.wait_seconds);
        let (mut told, mut said) = (0, String::new());
        let mut status: Option<AccountStatus> = None;
        loop {
            // A look before its time finds nothing new, and would count as one more failure.
            if status.as_ref().is_none_or(|status| process.is_due(status)) {
                status = process.advance(&self.account).await?;
            }
            let found = process.rotation(&self.account, asked.id).await?;
            let rotation = found.ok_or("the rotation is not in the database any more")?;
            told += print_steps(&rotation, told);
            if rotation.state.is_over() {
                return Ok(print_end(&rotation));
            }
            let waits_for = waits_for(status.as_ref());
            if waits_for != said {
                anstream::println!("{waits_for}");
                said = waits_for;
            }
            if Instant::now() >= until {
                let state = rotation.state;
                anstream::println!(
                    "it is {state} still; `sas-broker audit list` tells how it ends"
                );
                return Ok(ExitCode::FAILURE);
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn print_plan(plan: &Plan) {
    anstream::println!("{}: {}", plan.state, plan.reasons.join("; "));
    if let Some(published) = &plan.published {
        let (key, version, since) = (published.key, &published.version, to_text(published.at));
        anstream::println!("published: {key} as version {version}, known since {since}");
    }
    if let Some(due) = plan.due_at {
        anstream::println!("the next rotation may start at {}", to_text(due));
    }
    anstream::println!("{}", what(&plan.next));
}

fn what(next: &Next) -> String {
    match next {
        Next::Rest { until } => format!("nothing to do before {}", to_text(*until)),
        Next::Wait { until } => format!("waits until {}", to_text(*until)),
        Next::Resolve { outcome, .. } => format!("a step that was open would be {outcome}"),
        Next::Step { step, .. } => format!("would {step}"),
        Next::End { state, .. } => format!("the open rotation would be {state}"),
    }
}

/// Prints steps from `told` on whose outcome is known; returns how many.
fn print_steps(rotation: &Rotation, told: usize) -> usize {
    let known = |step: &&RotationStep| !step.outcome.is_open();
    let new = rotation.steps.iter().skip(told).take_while(known);
    new.inspect(|step| print_step(step)).count()
}

fn print_step(step: &RotationStep) {
    let key = step.key.map(|key| format!(" {key}")).unwrap_or_default();
    let version = step.version.as_ref();
    let version = version.map(|version| format!(" version {version}"));
    let detail = step.detail.as_ref().map(|detail| format!(": {detail}"));
    anstream::println!(
        "{:>2}. {}{key}{} {}{}",
        step.seq,
        step.kind,
        version.unwrap_or_default(),
        step.outcome,
        detail.unwrap_or_default(),
    );
}

/// Why the rotation is not over yet.
fn waits_for(status: Option<&AccountStatus>) -> String {
    let Some(status) = status else {
        // It goes on there, or soon here.
        return "waits: another broker holds the lease, or did just now".to_owned();
    };
    let (state, again) = (status.state, to_text(status.look_at));
    let why = status.reasons.join("; ");
    format!("waits, {state}: {why}; looks again at {again}")
}

fn print_end(rotation: &Rotation) -> ExitCode {
    let detail = rotation.detail.as_deref().unwrap_or("no reason was given");
    anstream::println!("{}: {detail}", rotation.state);
    if rotation.state == RotationState::Succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
