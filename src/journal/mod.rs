//! The `journal` room; see the map in `lib.rs`.
