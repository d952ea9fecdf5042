//! What a query costs does not grow with the history: how SQLite means to run each. PostgreSQL has
//! the same indexes, and chooses by what it knows of the tables.

use sqlx::AssertSqlSafe;

use super::{outbox, status, stories};
use crate::storage::{Store, StoreOptions, session::Fields};

#[tokio::test]
async fn every_query_finds_what_it_needs_by_an_index() {
    let dir = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite:{}", dir.path().join("broker.db").display());
    let store = Store::connect(&url, StoreOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    // The one scan is of an index that holds open rotations alone.
    for (sql, index) in [
        (
            stories::ONE,
            "SEARCH rotations USING INDEX sqlite_autoindex_rotations_1",
        ),
        (
            stories::OPEN,
            "SEARCH rotations USING INDEX rotations_at_work",
        ),
        (
            stories::PAGE,
            "SEARCH rotations USING INDEX rotations_account",
        ),
        (
            stories::AT_WORK,
            "SCAN rotations USING INDEX rotations_at_work",
        ),
        (
            stories::IN_FLIGHT,
            "SEARCH rotation_steps USING INDEX rotation_steps_in_flight",
        ),
        (
            stories::REGENERATED,
            "SEARCH rotation_steps USING INDEX rotation_steps_regenerated",
        ),
        (status::ONE, "SEARCH rotation_status USING PRIMARY KEY"),
        (status::PAGE, "SEARCH rotation_status USING PRIMARY KEY"),
        (
            outbox::DUE,
            "SEARCH notifications USING INDEX notifications_due",
        ),
    ] {
        let mut reader = store.reader().await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let mut session = reader.session();
        let detail = |row: &Fields| Ok(row.text(3)?.to_owned());
        let plan = session.fetch(explain, &[], detail).await.unwrap();
        let found = plan.iter().any(|step| step.starts_with(index));
        assert!(found, "{sql}\n{plan:#?}");
        let whole_table = |step: &&String| {
            let of_ours = ["SCAN rotation", "SCAN notification", "SCAN s"];
            of_ours.iter().any(|scan| step.starts_with(scan)) && !step.starts_with(index)
        };
        assert_eq!(plan.iter().find(whole_table), None, "{sql}");
    }
}
