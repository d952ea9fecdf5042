//! The `http` room; see the map in `lib.rs`.
