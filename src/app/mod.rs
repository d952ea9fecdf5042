//! The `app` room; see the map in `lib.rs`.
