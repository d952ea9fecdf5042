//! Version 1 of the API: one endpoint, one file.

pub mod access;
pub mod batch;
pub mod explain;
pub mod issue;
pub mod key_vault_events;
pub mod read_rotations;
pub mod request_rotation;
pub mod revoke_delegation_keys;
pub mod rotation;
pub mod sas;
