//! Randomness of the simulated world: signing key ids, delegation key values, token ids.
//!
//! The one place of the room that asks the operating system for random bytes. It does not use
//! `ports::Entropy` because that port belongs to the broker under test: a seeded broker must not
//! be able to predict the keys of the Azure it talks to. What needs the time never comes here.

use uuid::Uuid;

/// `N` unpredictable bytes.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0; N];
    aws_lc_rs::rand::fill(&mut buffer).expect("the operating system's random source answers");
    buffer
}

/// A fresh random GUID (version 4).
pub(super) fn guid() -> Uuid {
    uuid::Builder::from_random_bytes(bytes()).into_uuid()
}
