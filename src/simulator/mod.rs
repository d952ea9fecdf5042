//! The `simulator` room; see the map in `lib.rs`.
