//! The client addresses that a token is limited to, `sip`. Never which address a caller has: that
//! is for the door to say.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One IPv4 address, or an inclusive range of them (`203.0.113.0-203.0.113.255`). The service knows
/// neither IPv6 nor prefix lengths here ("Create a user delegation SAS", section "Specify an IP
/// address or IP range").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignedIp {
    first: Ipv4Addr,
    /// Absent for a single address. A range of one address stays a range: the text is signed.
    last: Option<Ipv4Addr>,
}

/// Why a text is not a `sip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIp {
    /// Not of the one form or the other.
    #[error("ip must be one IPv4 address or an inclusive range such as 203.0.113.0-203.0.113.255")]
    Form,
    /// It ends before it begins.
    #[error("an ip range must not end before it begins")]
    Backwards,
}

impl SignedIp {
    /// The lowest address.
    #[must_use]
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The highest address; of a single address that one.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        self.last.unwrap_or(self.first)
    }

    /// Whether the token may be used from `address`.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last()).contains(&address)
    }

    /// Whether every one of its addresses lies in one of `networks`; two adjacent networks may hold
    /// a range together.
    #[must_use]
    pub fn is_within(self, networks: &[IpNet]) -> bool {
        let end_of_cover = |address: Ipv4Addr| {
            networks
                .iter()
                .filter_map(|network| match network {
                    IpNet::V4(network) if network.contains(&address) => Some(network.broadcast()),
                    IpNet::V4(_) | IpNet::V6(_) => None,
                })
                .max()
        };
        // Each turn passes the end of at least one network, so there are at most as many turns.
        let mut next = self.first;
        while let Some(end) = end_of_cover(next) {
            if end >= self.last() {
                return true;
            }
            next = Ipv4Addr::from_bits(end.to_bits() + 1);
        }
        false
    }
}

impl FromStr for SignedIp {
    type Err = InvalidIp;
    fn from_str(text: &str) -> Result<Self, InvalidIp> {
        // The standard parser takes exactly four decimal numbers without leading zeros or spaces.
        let address = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| InvalidIp::Form);
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self {
                first: address(text)?,
                last: None,
            });
        };
        let (first, last) = (address(first)?, address(last)?);
        if last < first {
            return Err(InvalidIp::Backwards);
        }
        Ok(Self {
            first,
            last: Some(last),
        })
    }
}

impl fmt::Display for SignedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "{}-{last}", self.first),
            None => write!(f, "{}", self.first),
        }
    }
}

impl TryFrom<String> for SignedIp {
    type Error = InvalidIp;
    fn try_from(text: String) -> Result<Self, InvalidIp> {
        text.parse()
    }
}

impl From<SignedIp> for String {
    fn from(ip: SignedIp) -> Self {
        ip.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> SignedIp {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_or_one_range_and_the_text_survives() {
        for ok in ["203.0.113.7", "10.0.0.0-10.0.0.255", "10.0.0.1-10.0.0.1"] {
            assert_eq!(ip(ok).to_string(), ok);
        }
        for bad in [
            "",
            "10.0.0.0/8",
            "::1",
            "10.0.0.1 ",
            "10.0.0.1 - 10.0.0.2",
            "010.0.0.1",
            "10.0.0",
            "10.0.0.1-",
            "-10.0.0.1",
            "10.0.0.1-10.0.0.2-10.0.0.3",
            "10.0.0.1\n",
        ] {
            assert_eq!(bad.parse::<SignedIp>(), Err(InvalidIp::Form), "{bad:?}");
        }
        assert_eq!(
            "10.0.0.2-10.0.0.1".parse::<SignedIp>(),
            Err(InvalidIp::Backwards)
        );
    }

    #[test]
    fn a_range_holds_both_its_ends() {
        let range = ip("10.0.0.9-10.0.1.2");
        for (address, inside) in [
            ("10.0.0.8", false),
            ("10.0.0.9", true),
            ("10.0.1.2", true),
            ("10.0.1.3", false),
        ] {
            assert_eq!(
                range.contains(address.parse().unwrap()),
                inside,
                "{address}"
            );
        }
        assert!(ip("10.0.0.9").contains(Ipv4Addr::new(10, 0, 0, 9)));
        assert!(!ip("10.0.0.9").contains(Ipv4Addr::new(10, 0, 0, 10)));
    }

    #[test]
    fn a_range_is_within_networks_only_if_no_address_of_it_is_outside() {
        for (asked, networks, within) in [
            ("10.0.0.1", vec!["10.0.0.0/24"], true),
            ("10.0.1.1", vec!["10.0.0.0/24"], false),
            ("10.0.0.0-10.0.0.255", vec!["10.0.0.0/24"], true),
            ("10.0.0.0-10.0.1.0", vec!["10.0.0.0/24"], false),
            (
                "10.0.0.200-10.0.1.9",
                vec!["10.0.1.0/24", "10.0.0.0/24"],
                true,
            ),
            (
                "10.0.0.200-10.0.2.9",
                vec!["10.0.0.0/24", "10.0.2.0/24"],
                false,
            ),
            ("10.0.0.7", vec!["10.0.0.7/32"], true),
            ("0.0.0.0-255.255.255.255", vec!["0.0.0.0/0"], true),
            (
                "255.255.255.0-255.255.255.255",
                vec!["255.255.255.255/32"],
                false,
            ),
            ("10.0.0.1", vec!["::/0"], false),
            ("10.0.0.1", vec![], false),
        ] {
            let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(
                ip(asked).is_within(&networks),
                within,
                "{asked} in {networks:?}"
            );
        }
    }
}
