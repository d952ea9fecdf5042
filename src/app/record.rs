//! No record, no secret: the one place where a signed token becomes releasable.
//!
//! [`Recorded`] has no constructor but [`record`], which needs the journal's receipt; and only
//! [`Recorded`] can be put into a response.

use secrecy::{ExposeSecret, SecretString};

use super::mint::Minted;
use crate::{
    domain::{audit::Issued, validity::Window},
    journal::Receipt,
};
use time::OffsetDateTime;

/// A token whose record is durable.
#[derive(Debug)]
pub struct Recorded {
    minted: Minted,
}

/// Releases tokens whose records the receipt confirms.
pub(super) fn record(minted: Minted, _receipt: &Receipt) -> Recorded {
    Recorded { minted }
}

impl Recorded {
    /// The token itself, a query string without `?`.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        self.minted.sas.expose_token()
    }

    /// The whole URL with the token.
    #[must_use]
    pub fn expose_url(&self) -> &str {
        let url: &SecretString = &self.minted.url;
        url.expose_secret()
    }

    /// What the journal says of it.
    #[must_use]
    pub const fn issued(&self) -> &Issued {
        &self.minted.issued
    }

    /// The signed window.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.minted.window
    }

    /// When to fetch the next one.
    #[must_use]
    pub const fn refresh_after(&self) -> OffsetDateTime {
        self.minted.refresh_after
    }
}
