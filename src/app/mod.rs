//! Use cases, one verb per file. They see the outside through ports and decide nothing themselves:
//! decisions are made in [`crate::domain`].
//!
//! Read [`issue`] first: it is the product's main path.

pub mod access;
pub mod apply;
pub mod authenticate;
mod backoff;
pub mod deliver;
pub mod explain;
mod flight;
pub mod idempotency;
pub mod issue;
pub mod issuer_keys;
pub mod key_ring;
pub mod mint;
pub mod policy;
pub mod read_rotations;
pub mod receive_events;
pub mod record;
pub mod request_rotation;
pub mod revoke_delegation_keys;
pub mod rotate;
pub mod tenure;
pub mod verify_journal;
