//! The `config` room; see the map in `lib.rs`.
