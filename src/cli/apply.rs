//! `sas-broker apply`: the role table becomes what a document says, on the machine itself. This is
//! how a first table is made, and the way in when nothing else works; the journal says who did it.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;

use super::{
    ConfigFile, Failure,
    compose::{Ambient, console_actor, open_journal, open_store},
};
use crate::{
    app::apply::{Applier, Plan},
    config::Config,
    domain::document::PolicyDocument,
};

/// Largest policy document, in bytes: 100,000 grants fit.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Make the role table what a policy document says.
///
/// The document is complete: what it does not name is removed. Every edit is made in one transaction
/// together with its journal record, and is in force on every replica from that moment.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sas-broker apply -f policy.yaml --dry-run\n  sas-broker apply -f policy.yaml"
)]
pub struct Apply {
    /// The document, YAML or JSON; `-` reads standard input.
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Show the difference and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Apply {
    /// Runs it.
    ///
    /// # Errors
    /// If the document is wrong, or the table changed meanwhile.
    pub async fn run(self, config: &ConfigFile) -> Result<ExitCode, Failure> {
        let config = config.load()?;
        let document = parse(&read(&self.file)?)?;
        let ambient = Ambient::system();
        let plan = plan(&config, &ambient, document).await?;
        for line in &plan.lines {
            anstream::println!("{line}");
        }
        if plan.changes.is_empty() {
            anstream::println!("nothing to change");
        } else if self.dry_run {
            anstream::println!("{} change(s), none made (--dry-run)", plan.lines.len());
        } else {
            let count = plan.lines.len();
            let version = apply(&config, &ambient, plan).await?;
            anstream::println!("{count} change(s) made; the role table is at version {version}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the document would change in the configured database.
///
/// # Errors
/// If the document is wrong or the database does not answer.
pub async fn plan(
    config: &Config,
    ambient: &Ambient,
    document: PolicyDocument,
) -> Result<Plan, Failure> {
    let applier = applier(config, ambient, Arc::new(open_store(config).await?));
    Ok(applier.plan(document).await?)
}

/// Makes the planned edits as `console:<uid>@<host>`; returns the table's new version.
///
/// # Errors
/// If the table changed since the plan, or the journal cannot record.
pub async fn apply(config: &Config, ambient: &Ambient, plan: Plan) -> Result<i64, Failure> {
    let store = Arc::new(open_store(config).await?);
    let journal = open_journal(Arc::clone(&store), ambient);
    let applied = applier(config, ambient, store)
        .apply(plan, console_actor(), &journal)
        .await;
    journal.close().await;
    Ok(applied?)
}

fn applier(config: &Config, ambient: &Ambient, store: Arc<crate::storage::Store>) -> Applier {
    Applier {
        policy: store,
        cloud: config.cloud.cloud(),
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let open = std::fs::File::open(path);
        Box::new(open.map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let mut text = String::new();
    let read = source
        .take(DOCUMENT_BYTES_MAX + 1)
        .read_to_string(&mut text);
    let bytes = read.map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes as u64 > DOCUMENT_BYTES_MAX {
        return Err(format!("{}: a document is at most 64 MiB", path.display()).into());
    }
    Ok(text)
}

/// JSON is YAML, so one parser reads both.
///
/// # Errors
/// With the place of what is wrong.
pub fn parse(text: &str) -> Result<PolicyDocument, Failure> {
    Ok(serde_saphyr::from_str(text).map_err(|error| format!("policy document: {error}"))?)
}
