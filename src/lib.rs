//! sas-broker issues short-lived, least-privilege Azure *user-delegation SAS* tokens to Entra ID
//! callers by a role table, and records every one of them before it leaves the process. It also
//! rotates the accounts' own keys into Key Vault.
//!
//! This page is the map; start here.
//!
//! # The main flow
//!
//! ```text
//! HttpRequest -> Caller          (app::authenticate; domain::caller::verify is its only maker)
//!             -> Permit<Op>      (domain::permit: may this caller use this operation at all?)
//!             -> Authorized      (domain::decide: pure, with its reasons)
//!             -> Minted          (app::mint: signed with a user delegation key)
//!             -> Recorded        (app::record: made only from the journal's receipt)
//!             -> response        (only Recorded can be serialised)
//! ```
//!
//! No record, no secret: there is no other path from a signature to a response.
//!
//! # The other flow
//!
//! ```text
//! tick -> observe               (ports: ARM, vault, database; no key is read to look)
//!      -> plan                  (domain::rotation: pure; a state, its reasons, at most one step)
//!      -> record the intent     (journal::enact: rows and record, guarded by the lease's fence)
//!      -> one step              (app::rotate: regenerate, prove and publish, switch, recover)
//!      -> record the outcome -> observe again
//! ```
//!
//! # The rooms
//!
//! | room | holds | may import |
//! |---|---|---|
//! | [`domain`] | nouns and decisions: no I/O, no clock, no randomness, no logging, no async | nothing of ours |
//! | [`ports`] | traits only, one per aggregate | `domain` |
//! | [`app`] | use cases, one verb per file | `ports`, `domain`, `journal` |
//! | [`http`] | actix-web: extractors, `v1/` handlers, the only status table | `app`, `domain`, `ports`, `journal` |
//! | [`scheduler`] | the lease's ticks: which accounts are due; decides nothing | `app`, `domain`, `ports` |
//! | [`journal`] | the group-commit writer and the search follower | `ports`, `domain` |
//! | [`storage`] | sqlx adapters: SQLite (embedded default) and PostgreSQL (several replicas) | `ports`, `domain` |
//! | [`azure`] | adapters to Entra, ARM, Key Vault and Blob storage; wire types never leave this room | `ports`, `domain`, `web` |
//! | [`webhook`] | the adapter that tells a webhook about rotations | `ports`, `domain`, `web` |
//! | [`metrics`] | Prometheus metrics, and the listener of their own | `ports`, `domain` |
//! | [`web`] | builds every HTTP client | nothing of ours |
//! | [`simulator`] | Entra, ARM, Blob and Key Vault on loopback, keeping real state, for a laptop and the tests | nothing of ours |
//! | [`config`] | typed sections, validated at start | `domain` |
//! | [`cli`] | one file per command; `compose` is the only place that wires adapters together | everything |
//! | [`system`] | the machine's own clock and randomness | `ports` |
//! | [`telemetry`] | tracing set-up | nothing of ours |
//!
//! `http` needs `ports` and `journal` only to name what it was given: errors to translate, and whether
//! the journal records, for readiness.
//!
//! `tests/it/architecture.rs` reads the `use` lines and fails on a forbidden edge.

pub mod app;
pub mod azure;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod ports;
pub mod scheduler;
pub mod simulator;
pub mod storage;
pub mod system;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
pub mod web;
pub mod webhook;
