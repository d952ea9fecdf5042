//! The `domain` room; see the map in `lib.rs`.
