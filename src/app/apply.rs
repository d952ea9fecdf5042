//! Apply a whole policy document: plan it against the table as it stands, then make every edit, or
//! none, together with its record.

use std::sync::Arc;

use crate::{
    domain::{
        audit::{Action, Actor, AuditEvent},
        change::{ChangeSet, PlanError, plan},
        cloud::Cloud,
        document::PolicyDocument,
        ids::GrantId,
        snapshot::PolicyTable,
        time_text,
    },
    journal::{Journal, JournalError, Outcome},
    ports::{Clock, Entropy, PolicyStore, StoreError},
};

/// Why a document was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The document is wrong.
    #[error("{0}")]
    Invalid(#[from] PlanError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change could not be recorded.
    #[error("the change could not be recorded: {0}")]
    Journal(#[from] JournalError),
    /// Somebody else changed the table since the plan.
    #[error(
        "the role table changed since this was planned; look at the new difference and apply again"
    )]
    Moved,
}

/// A plan: the edits and the table that they were planned against.
#[derive(Debug)]
pub struct Plan {
    /// The edits.
    pub changes: ChangeSet,
    /// One line for each.
    pub lines: Vec<String>,
}

/// Plans and applies documents.
pub struct Applier {
    /// The role table.
    pub policy: Arc<dyn PolicyStore>,
    /// The endpoint guard.
    pub cloud: Cloud,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Ids of new grants.
    pub entropy: Arc<dyn Entropy>,
}

impl Applier {
    /// What the document would change.
    ///
    /// # Errors
    /// [`ApplyError::Invalid`] lists every problem of the document.
    pub async fn plan(&self, document: PolicyDocument) -> Result<Plan, ApplyError> {
        let table: PolicyTable = self.policy.load().await?;
        let now = self.clock.now();
        let new_id = || GrantId(self.entropy.uuid_v7(now));
        let changes = plan(&table, document, &self.cloud, new_id)?;
        let lines = changes.lines(&table);
        Ok(Plan { changes, lines })
    }

    /// Makes the planned edits and records them; returns the table's new version.
    ///
    /// # Errors
    /// [`ApplyError::Moved`] if the table is no longer what the plan was made against.
    pub async fn apply(
        &self,
        plan: Plan,
        actor: Actor,
        journal: &Journal,
    ) -> Result<i64, ApplyError> {
        let policy_version = plan.changes.based_on + 1;
        let event = AuditEvent {
            at: time_text::to_micros(self.clock.now()),
            actor,
            client: None,
            request_id: None,
            action: Action::PolicyChanged {
                policy_version,
                changes: plan.lines,
            },
        };
        match journal.change(event, plan.changes).await? {
            Outcome::Recorded(_) => Ok(policy_version),
            Outcome::Stale { .. } | Outcome::KeyTaken => Err(ApplyError::Moved),
        }
    }
}
