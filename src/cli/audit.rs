//! `sas-broker audit`: read and verify the journal, straight from the database.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use uuid::Uuid;

use super::{ConfigFile, Failure, compose::open_store};
use crate::{
    app::verify_journal::verify_journal,
    domain::{
        audit::{Action, Actor, Record, Row},
        ids::WriterId,
        time_text,
    },
    ports::{AuditFilter, JournalReader},
};

/// Rows that are read at once.
const PAGE: usize = 1_000;

/// How long to wait while another replica fills the search tables: it needs milliseconds.
const TURN: Duration = Duration::from_millis(20);
/// How often; 10 s in all.
const TURNS_LOST_MAX: u32 = 500;

/// Journal commands.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Recompute every hash and compare every column; exit code 1 if anything was tampered with.
    Verify,
    /// List records, newest first.
    List(List),
}

/// Which records.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sas-broker audit list --account acct1 --kind refused --since 2026-11-01T00:00:00Z"
)]
pub struct List {
    /// Only records from this UTC time on, such as 2026-11-23T10:00:00Z.
    #[arg(long, value_parser = micros)]
    since: Option<i64>,
    /// Only records before this UTC time.
    #[arg(long, value_parser = micros)]
    until: Option<i64>,
    /// Only records of this object id.
    #[arg(long)]
    object_id: Option<Uuid>,
    /// Only records about this storage account.
    #[arg(long)]
    account: Option<String>,
    /// Only records about this container.
    #[arg(long)]
    container: Option<String>,
    /// Only records of this kind: issued, replayed, refused, refusals_folded, policy_changed, ….
    #[arg(long)]
    kind: Option<String>,
    /// Only the record of this issuance.
    #[arg(long)]
    id: Option<Uuid>,
    /// Most records.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// For people, or one JSON record a line for programs.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One short line a record.
    Table,
    /// One JSON record a line.
    Json,
}

fn micros(text: &str) -> Result<i64, String> {
    let at =
        time_text::from_text(text).ok_or("expected a UTC time such as 2026-11-23T10:00:00Z")?;
    Ok(time_text::to_micros(at))
}

impl Audit {
    /// Runs it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run(self, file: &ConfigFile) -> Result<ExitCode, Failure> {
        let store = Arc::new(open_store(&file.load()?).await?);
        match self {
            Self::Verify => verify(store.as_ref()).await,
            Self::List(list) => list.run(store.as_ref()).await,
        }
    }
}

async fn verify(reader: &dyn JournalReader) -> Result<ExitCode, Failure> {
    let report = verify_journal(reader).await?;
    for finding in &report.findings {
        anstream::println!("{finding}");
    }
    anstream::println!(
        "{} record(s) in {} chain(s), {} finding(s)",
        report.records,
        report.chains,
        report.findings_total,
    );
    Ok(if report.findings_total == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl List {
    async fn run(self, reader: &dyn JournalReader) -> Result<ExitCode, Failure> {
        catch_up(reader).await?;
        let filter = AuditFilter {
            from: self.since,
            until: self.until,
            object_id: self.object_id.map(crate::domain::ids::ObjectId),
            account: self.account,
            container: self.container,
            kind: self.kind,
            issuance_id: self.id,
            signature_sha256: None,
        };
        let mut before: Option<(i64, WriterId, i64)> = None;
        let mut left = self.limit;
        while left > 0 {
            let rows = reader.search(&filter, before, left.min(PAGE)).await?;
            let Some(last) = rows.last() else { break };
            before = Some((last.at, last.writer, last.seq));
            left -= rows.len();
            for row in &rows {
                print(row, self.output)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The search of a running broker may be seconds behind; copies what is missing, or waits for the
/// replica that is copying.
async fn catch_up(reader: &dyn JournalReader) -> Result<(), Failure> {
    let mut turns_lost = 0;
    loop {
        match reader.follow(PAGE).await? {
            Some(PAGE) => {}
            Some(_) => return Ok(()),
            None if turns_lost == TURNS_LOST_MAX => {
                return Err("the journal's search is still being filled; try again".into());
            }
            None => {
                turns_lost += 1;
                tokio::time::sleep(TURN).await;
            }
        }
    }
}

fn print(row: &Row, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        let record: Value = serde_json::from_slice(&row.body)?;
        anstream::println!("{record}");
        return Ok(());
    }
    let Ok(record) = Record::from_bytes(&row.body) else {
        anstream::println!(
            "{}#{}: unreadable; run `sas-broker audit verify`",
            row.writer,
            row.seq
        );
        return Ok(());
    };
    let at = time_text::from_micros(row.at).map_or_else(|| row.at.to_string(), time_text::to_text);
    let actor = actor(&record.event.actor);
    anstream::println!(
        "{at}  {:15}  {actor}  {}",
        row.kind,
        summary(&record.event.action)
    );
    Ok(())
}

fn actor(actor: &Actor) -> String {
    match actor {
        Actor::Caller { object_id, .. } => object_id.to_string(),
        Actor::Console { name } => name.clone(),
        Actor::Broker => "broker".to_owned(),
    }
}

fn summary(action: &Action) -> String {
    let place = action.asked().map(|asked| {
        let path = asked
            .path
            .as_ref()
            .map(|path| format!("/{path}"))
            .unwrap_or_default();
        format!(
            "{}/{}{path} {}",
            asked.account, asked.container, asked.permissions
        )
    });
    let place = place.unwrap_or_default();
    match action {
        Action::ChainOpened { heads, build } => {
            format!("sas-broker {build}, {} other chain(s)", heads.len())
        }
        Action::Issued(issued) | Action::Replayed(issued) => {
            format!(
                "{place} until {} ({})",
                time_text::to_text(issued.expires_at),
                issued.id
            )
        }
        Action::Refused(refused) => format!("{place} {}", refused.code),
        Action::RefusalsFolded { refused, count } => {
            format!("{place} {} {count} more time(s)", refused.code)
        }
        Action::PolicyChanged {
            policy_version,
            changes,
        } => {
            format!("version {policy_version}, {} change(s)", changes.len())
        }
        Action::RotationOpened {
            account,
            rotation,
            trigger,
            ..
        } => format!("{account} {trigger} ({rotation})"),
        Action::RotationStep {
            account,
            act,
            outcome,
            key,
            ..
        } => {
            let key = key.map(|key| format!(" {key}")).unwrap_or_default();
            format!("{account} {act}{key}: {outcome}")
        }
        Action::RotationEnded {
            account,
            state,
            detail,
            ..
        } => format!("{account} {state}: {detail}"),
        Action::DelegationKeysRevoked {
            account, outcome, ..
        } => format!("{account} {outcome}"),
    }
}
