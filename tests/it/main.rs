//! Integration tests: one binary, a module for each subject.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod architecture;
mod azure;
mod journal;
mod journal_support;
mod journal_verify;
mod metrics;
mod rotation;
mod rotation_storage;
mod rotation_storage_lease;
mod rotation_storage_support;
mod rotation_storage_upgrade;
mod rotation_storage_writes;
mod sas_properties;
mod sas_vectors;
mod service_batch;
mod service_errors;
mod service_events;
mod service_idempotency;
mod service_issue;
mod service_life;
mod service_outages;
mod service_reads;
mod service_revocation;
mod service_revoke_keys;
mod service_rotating;
mod service_rotating_answers;
mod service_rotating_orders;
mod service_rotating_secrets;
mod service_rotating_signals;
mod service_rotating_time;
mod service_rotating_troubles;
mod service_rotations;
mod service_secrets;
mod simulator;
mod storage;
mod storage_database;
mod webhook;
mod world;
mod wycheproof;
