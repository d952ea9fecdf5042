//! x
pub mod access;
pub mod authenticate;
mod backoff;
pub mod explain;
mod flight;
pub mod issuer_keys;
pub mod key_ring;
pub mod policy;
#[cfg(test)]
pub(crate) mod testing;
