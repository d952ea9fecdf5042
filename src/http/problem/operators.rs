//! What operators' use cases answer, as problems.

use super::{Problem, code};
use crate::{
    app::{
        read_rotations::ReadError, receive_events::ReceiveError, request_rotation::RequestError,
        revoke_delegation_keys::RevokeError,
    },
    journal::JournalError,
    ports::{OutsideError, StoreError},
};

/// The database does not answer, and it is not about the role table.
fn database(error: &StoreError) -> Problem {
    tracing::error!(%error, "the database does not answer");
    Problem::new(
        code::DATABASE_UNAVAILABLE,
        "the database does not answer; try again",
    )
}

fn journal(error: JournalError) -> Problem {
    let detail = match error {
        JournalError::Unclear => {
            "the audit journal did not confirm the record: it may have been made; try again, with \
             the same Idempotency-Key if there was one"
        }
        _ => "the audit journal cannot record, so nothing was done; try again",
    };
    Problem::new(code::AUDIT_UNAVAILABLE, detail)
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        match error {
            RequestError::UnknownAccount => Self::new(code::UNKNOWN_ACCOUNT, detail),
            RequestError::NotConfigured => Self::new(code::ROTATION_NOT_CONFIGURED, detail)
                .hint(Some("give the account a rotation policy in the role table")),
            RequestError::NothingPublished => Self::new(code::NOTHING_PUBLISHED, detail)
                .hint(Some("wait for the adoption, or name key1 or key2")),
            RequestError::KeyReused => Self::new(code::IDEMPOTENCY_KEY_REUSED, detail)
                .hint(Some("use a new key for a new request")),
            RequestError::Unsettled => Self::new(code::POLICY_UNSETTLED, detail),
            RequestError::Store(error) => database(&error),
            RequestError::Journal(error) => journal(error),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::UnknownAccount => Self::new(code::UNKNOWN_ACCOUNT, detail),
            ReadError::UnknownRotation => Self::new(code::UNKNOWN_ROTATION, detail),
            ReadError::Store(error) => database(&error),
        }
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Store(error) => database(&error),
            ReceiveError::Journal(error) => journal(error),
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        let detail = error.to_string();
        match error {
            RevokeError::UnknownAccount => Self::new(code::UNKNOWN_ACCOUNT, detail),
            RevokeError::NoResourceId => Self::new(code::RESOURCE_ID_MISSING, detail)
                .hint(Some("give the account its resource_id in the role table")),
            RevokeError::Store(error) => database(&error),
            RevokeError::NotAnnounced(error) => journal(error),
            RevokeError::NotConcluded(_) => Self::new(code::AUDIT_UNAVAILABLE, detail)
                .hint(Some("look at the audit journal; it is safe to repeat")),
            RevokeError::UnderWay => {
                Self::new(code::AZURE_UNCLEAR, detail).hint(Some("it is safe to repeat"))
            }
            RevokeError::Azure(error) => error.into(),
        }
    }
}

impl From<OutsideError> for Problem {
    fn from(error: OutsideError) -> Self {
        let detail = error.to_string();
        match error {
            OutsideError::Throttled { retry_after } => {
                let problem = Self::new(code::AZURE_THROTTLED, "Azure asks to be left alone");
                match retry_after {
                    Some(wait) => problem.retry_after(wait),
                    None => problem,
                }
            }
            OutsideError::Busy(_) | OutsideError::Unavailable(_) => {
                Self::new(code::AZURE_UNAVAILABLE, detail)
            }
            OutsideError::Locked(_)
            | OutsideError::Denied(_)
            | OutsideError::Gone(_)
            | OutsideError::Misconfigured(_) => Self::new(code::AZURE_REFUSED, detail).hint(Some(
                "see docs/rotation.md for the roles that the managing identity needs, and for locks",
            )),
            OutsideError::Unclear(_) => Self::new(code::AZURE_UNCLEAR, detail)
                .hint(Some("it may have taken place; it is safe to repeat")),
        }
    }
}
