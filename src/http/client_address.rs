//! Where a request comes from. `X-Forwarded-For` counts only as far as it was written by proxies that
//! the configuration trusts: anybody can send the header.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Most hops that are walked back; real chains have two or three.
const HOPS_MAX: usize = 16;

/// The client's address: the connection's peer, or the last address in the forwarded chain that is not
/// a trusted proxy. `None` if a trusted proxy wrote something that is no address: then the client is
/// inside of no network.
#[must_use]
pub fn client_address<'a>(
    peer: Option<IpAddr>,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = peer?.to_canonical();
    let hops = forwarded_for.rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !is_trusted(&client) {
            return Some(client);
        }
        client = parse(hop.trim())?;
    }
    Some(client)
}

/// An address, with or without the port that some gateways append.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| {
            hop.parse::<SocketAddr>()
                .ok()
                .map(|with_port| with_port.ip())
        })
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let rows: [(&str, &[&str], Option<&str>); 10] = [
            ("198.51.100.7", &[], Some("198.51.100.7")),
            ("198.51.100.7", &["203.0.113.1"], Some("198.51.100.7")),
            ("10.0.0.1", &["203.0.113.1"], Some("203.0.113.1")),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.1"], Some("203.0.113.1")),
            ("10.0.0.1", &["203.0.113.1, 10.0.0.2"], Some("203.0.113.1")),
            (
                "10.0.0.1",
                &["203.0.113.1", "10.0.0.2"],
                Some("203.0.113.1"),
            ),
            ("10.0.0.1", &["203.0.113.1:4711"], Some("203.0.113.1")),
            ("::1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", &["unknown"], None),
            ("::ffff:10.0.0.1", &["203.0.113.1"], Some("203.0.113.1")),
        ];
        for (peer, lines, expected) in rows {
            let found =
                client_address(Some(peer.parse().unwrap()), lines.iter().copied(), &trusted);
            assert_eq!(
                found,
                expected.map(|ip| ip.parse().unwrap()),
                "{peer} {lines:?}"
            );
        }
        assert_eq!(client_address(None, std::iter::empty(), &trusted), None);
    }
}
