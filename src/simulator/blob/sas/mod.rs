//! How the simulated storage reads and verifies a user-delegation SAS.
//!
//! Independent of `domain::sas` on purpose: `domain::sas` signs, this room verifies, and each was
//! written from the protocol reference alone. If they shared code, a wrong idea about the format
//! would be wrong on both sides and every test would stay green. Please leave them apart.

mod check;
mod letters;
mod string_to_sign;
#[cfg(test)]
mod tests;
mod token;

pub(super) use self::check::{Facts, check};
pub(super) use self::letters::Letters;
pub(super) use self::token::{SasToken, is_version, parse_time};
