//! The `storage` room; see the map in `lib.rs`.
