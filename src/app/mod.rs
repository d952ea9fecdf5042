//! x
pub mod access;
pub mod explain;
pub mod key_ring;
pub mod policy;
