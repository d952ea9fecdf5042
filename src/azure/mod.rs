//! Adapters to Azure. Wire types never leave this room; secrets and response bodies never enter an
//! error. Every call has a timeout of ours around it, since the SDK obeys any `Retry-After`.
//!
//! What a rotation asks for goes through [`outside`], which says of every failure whether the call
//! may have taken place, and through [`throttle`], which keeps away from Azure's limits.

pub mod arm;
pub mod credential;
pub mod delegation_key;
pub mod entra;
pub mod http;
pub mod key_proof;
pub mod key_vault;
mod outside;
mod sdk;
mod throttle;
