//! Version 1 of the API: one endpoint, one file.

pub mod access;
pub mod batch;
pub mod explain;
pub mod issue;
pub mod sas;
