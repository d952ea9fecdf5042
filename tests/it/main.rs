//! Integration tests: one binary, a module for each subject.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod azure;
mod journal;
mod journal_support;
mod journal_verify;
mod sas_properties;
mod sas_vectors;
mod simulator;
mod storage;
mod storage_database;
mod wycheproof;
