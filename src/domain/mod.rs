//! Nouns and decisions.
//!
//! Everything here is a value or a pure function: no I/O, no clock, no randomness, no logging, no
//! async. Instants and limits come in as arguments, so that each decision can be replayed. Next to
//! read: [`ids`] for the names, [`grant`] for the role table, then the heart, [`decide`].

pub mod account;
pub mod audit;
pub mod caller;
pub mod change;
pub mod cloud;
pub mod decide;
pub mod document;
pub mod grant;
pub mod ids;
pub mod permission;
pub mod permit;
pub mod request;
pub mod resource_id;
pub mod rotation;
pub mod sas;
pub mod snapshot;
pub mod time_text;
pub mod validity;
pub mod webhook;
