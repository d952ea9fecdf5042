//! Rotation in a simulated world: the real scheduler, executor, journal and database, and an Azure of
//! the test's own that keeps two key slots and a vault, and that fails on demand.
//!
//! [`azure`] keeps the state and watches for what must never happen; [`faults`] strikes at the nth
//! outside call; [`process`] is a broker that can die; then the proofs: [`sweep`], [`two`].

mod azure;
mod faults;
mod faulty_store;
mod process;
mod sweep;
mod two;
