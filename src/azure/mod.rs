//! The `azure` room; see the map in `lib.rs`.
