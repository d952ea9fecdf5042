//! The commented example that `sas-broker config example` prints. A test keeps it valid.

/// A complete configuration with every key, its default and what it means.
pub const EXAMPLE: &str = include_str!("example.toml");
