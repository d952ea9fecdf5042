//! The database: SQLite, embedded, for one process and its command line; PostgreSQL for several
//! replicas. One type, [`Store`], implements the ports [`PolicyStore`](crate::ports::PolicyStore),
//! [`JournalStore`](crate::ports::JournalStore), [`JournalReader`](crate::ports::JournalReader) and
//! [`Rotations`](crate::ports::Rotations).
//!
//! The SQL is shared and stands in constants beside its use; only what really differs (locks, bulk
//! inserts) is written per engine. Nothing here decides: which entry is stale, what is altered and
//! who may do what is the business of `journal` and `domain`.
//!
//! Next to read: `session` (the two engines behind one small surface), then `writing`, then
//! `rotation`.

mod connect;
mod follow;
mod policy;
mod reading;
mod rotation;
mod session;
mod writing;

use std::{fmt, time::Duration};

use sqlx::error::BoxDynError;

pub use connect::{ConnectError, Store, StoreOptions};

use crate::ports::StoreError;

/// Longest that one read may take, in seconds: a person waits for an answer, and the server's own
/// statement timeout is shorter.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest that loading the whole role table may take: a million grants take about a second.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `work` for at most `limit`, and speaks of what went wrong in the port's words.
async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(classified),
        Err(_) => Err(StoreError::Unavailable("it did not answer in time".into())),
    }
}

/// sqlx's errors quote the server's message, never a connection string.
fn classified(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            StoreError::Corrupt(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// An unreadable stored value, as the error that [`classified`] calls corrupt.
fn corrupt(what: impl fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(BoxDynError::from(what.to_string()))
}
