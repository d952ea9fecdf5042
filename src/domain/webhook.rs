//! The webhook that is told about rotations: its address, the source that its events name, and the
//! secret that signs them. Sending is [`crate::webhook`]'s business.

use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use url::{Host, Url};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Longest source, in bytes: it stands in every event.
const SOURCE_BYTES_MAX: usize = 255;

/// The source of a broker that was given no name.
const SOURCE_DEFAULT: &str = "urn:sas-broker";

/// What a secret's text begins with (Standard Webhooks 1.0, "Signature scheme").
const SECRET_PREFIX: &str = "whsec_";

/// Shortest secret, in bytes (the same).
const SECRET_BYTES_MIN: usize = 24;
/// Longest secret, in bytes (the same).
const SECRET_BYTES_MAX: usize = 64;

/// Why an address is refused. It does not quote the address, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhookUrl {
    /// Not absolute, or not for HTTP.
    #[error("must be an https URL")]
    Malformed,
    /// Events would leave this machine in clear text.
    #[error("must be https; http is for this machine's own addresses only")]
    ClearText,
    /// The signature says who sends, and a fragment is never sent.
    #[error("must hold neither a user name, a password nor a fragment")]
    Superfluous,
}

/// Where events are sent. Some receivers put a secret into the path or the query, so only the
/// origin is ever shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// The whole address; not to be shown.
    #[must_use]
    pub const fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether it is plain HTTP, which never leaves this machine.
    #[must_use]
    pub fn is_clear_text(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhookUrl;

    fn from_str(text: &str) -> Result<Self, InvalidWebhookUrl> {
        let url = Url::parse(text).map_err(|_| InvalidWebhookUrl::Malformed)?;
        let here = match url.host().ok_or(InvalidWebhookUrl::Malformed)? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        match url.scheme() {
            "https" => {}
            "http" if here => {}
            "http" => return Err(InvalidWebhookUrl::ClearText),
            _ => return Err(InvalidWebhookUrl::Malformed),
        }
        let bare = url.username().is_empty() && url.password().is_none();
        if !bare || url.fragment().is_some() {
            return Err(InvalidWebhookUrl::Superfluous);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = InvalidWebhookUrl;

    fn try_from(text: String) -> Result<Self, InvalidWebhookUrl> {
        text.parse()
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self}/…)")
    }
}

/// Why a source is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a URI or a relative reference to one, such as urn:sas-broker:prod, of at most 255 bytes"
)]
pub struct InvalidSource;

/// The `source` of events (`CloudEvents` 1.0.2 §3.1): a URI-reference that tells one broker from
/// another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EventSource(String);

impl EventSource {
    /// The reference.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EventSource {
    fn default() -> Self {
        Self(SOURCE_DEFAULT.to_owned())
    }
}

impl TryFrom<String> for EventSource {
    type Error = InvalidSource;

    fn try_from(text: String) -> Result<Self, InvalidSource> {
        is_uri_reference(&text)
            .then_some(Self(text))
            .ok_or(InvalidSource)
    }
}

/// The characters of RFC 3986, whole escapes, at most one fragment, and a scheme or path before the
/// first colon. Literal addresses of IPv6 are left out: nobody names a broker so.
fn is_uri_reference(text: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-._~:/?#@!$&'()*+,;=%".contains(&c);
    let mut escapes = text.split('%').skip(1);
    let whole = |escape: &str| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    let head = text.split(['/', '?', '#']).next().unwrap_or("");
    let scheme_ok = head.split_once(':').is_none_or(|(scheme, _)| {
        let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(rest)
    });
    (1..=SOURCE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(known)
        && escapes.all(whole)
        && text.matches('#').count() <= 1
        && scheme_ok
}

/// Why a secret is refused. It does not quote the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whsec_ followed by the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes"
)]
pub struct InvalidSigningSecret;

/// A secret that the broker and the receiver share, by the symmetric scheme of Standard Webhooks
/// 1.0 (<https://www.standardwebhooks.com>).
pub struct SigningSecret {
    // In a box, so that moving it leaves no copy of the key behind.
    key: Box<hmac::Key>,
}

impl FromStr for SigningSecret {
    type Err = InvalidSigningSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSigningSecret> {
        let base64 = text.strip_prefix(SECRET_PREFIX);
        let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
        let bytes = Zeroizing::new(bytes.ok_or(InvalidSigningSecret)?);
        let sized = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len());
        let key = || Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        let key = sized.then(key).ok_or(InvalidSigningSecret)?;
        Ok(Self { key })
    }
}

impl SigningSecret {
    /// The signature of one message: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`;
    /// the timestamp is in Unix seconds.
    #[must_use]
    pub fn sign(&self, id: Uuid, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{}.{timestamp}.", id.as_hyphenated()).as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_this_machine_s_own_and_is_never_shown_whole() {
        for ok in [
            "https://hooks.example/sas-broker",
            "https://hooks.example:8443/x?sig=canary-3fa1",
            "http://127.0.0.1:8081/hook",
            "http://[::1]:8081/hook",
            "http://localhost/hook",
        ] {
            let url: WebhookUrl = ok.parse().unwrap();
            assert_eq!(url.expose().as_str(), ok);
            assert_eq!(url.is_clear_text(), ok.starts_with("http:"));
            let shown = format!("{url} {url:?}");
            assert!(
                !shown.contains("canary") && !shown.contains("hook/"),
                "{shown}"
            );
        }
        for (bad, why) in [
            ("", InvalidWebhookUrl::Malformed),
            ("/hook", InvalidWebhookUrl::Malformed),
            ("file:///hook", InvalidWebhookUrl::Malformed),
            ("ftp://127.0.0.1/hook", InvalidWebhookUrl::Malformed),
            ("http://hooks.example/", InvalidWebhookUrl::ClearText),
            ("http://10.0.0.1/", InvalidWebhookUrl::ClearText),
            ("http://localhost.example/", InvalidWebhookUrl::ClearText),
            (
                "https://ada:canary@hooks.example/",
                InvalidWebhookUrl::Superfluous,
            ),
            (
                "https://hooks.example/#canary",
                InvalidWebhookUrl::Superfluous,
            ),
        ] {
            assert_eq!(bad.parse::<WebhookUrl>(), Err(why), "{bad}");
            assert!(!why.to_string().contains("canary"));
        }
    }

    #[test]
    fn a_source_is_a_uri_reference() {
        for ok in [
            "urn:sas-broker",
            "https://broker.example/prod",
            "/brokers/prod",
            "broker-1",
            "a%20b?c=d#e",
        ] {
            assert!(EventSource::try_from(ok.to_owned()).is_ok(), "{ok}");
        }
        for bad in [
            "", "a b", "ü", "50%", "%2", "%zz", "a#b#c", "1a:b", ":a", "<a>",
        ] {
            assert!(EventSource::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let long = "a".repeat(SOURCE_BYTES_MAX);
        assert!(EventSource::try_from(long.clone()).is_ok());
        assert!(EventSource::try_from(long + "a").is_err());
        assert!(is_uri_reference(EventSource::default().as_str()));
    }

    #[test]
    fn a_secret_has_the_prefix_and_24_to_64_bytes_and_is_quoted_nowhere() {
        let text = |bytes: usize| format!("{SECRET_PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        for ok in [24, 25, 32, 63, 64] {
            assert!(text(ok).parse::<SigningSecret>().is_ok(), "{ok}");
        }
        let unprefixed = text(32).replace(SECRET_PREFIX, "");
        let unpadded = text(25).trim_end_matches('=').to_owned();
        for bad in [
            String::new(),
            SECRET_PREFIX.to_owned(),
            text(23),
            text(65),
            unprefixed,
            unpadded,
            format!("{} ", text(32)),
            "whsec_not base64, which is a canary".to_owned(),
        ] {
            let error = bad.parse::<SigningSecret>().unwrap_err();
            assert_eq!(error, InvalidSigningSecret, "{bad}");
            assert!(!error.to_string().contains("canary"));
        }
        let shown = format!("{:?}", text(32).parse::<SigningSecret>().unwrap());
        assert_eq!(shown, "SigningSecret([redacted])");
    }

    /// Computed by the reference library, `standardwebhooks` 1.1.0 of `PyPI`:
    /// `Webhook(secret).sign(id, datetime.fromtimestamp(timestamp, timezone.utc), body)`.
    #[test]
    fn signatures_are_those_of_the_reference_library() {
        let rows = [
            (
                "whsec_GB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5",
                "0199d1a0-0000-7000-8000-000000000001",
                1_795_428_000,
                "{\"specversion\":\"1.0\"}",
                "v1,Xxc03EpuI/T3AMv81PW4vV9WyD2VzWDvk2bIeenGIws=",
            ),
            (
                "whsec_ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vk=",
                "0199d1a0-0000-7000-8000-0000000000ff",
                1,
                "{}",
                "v1,Fyrg0IvgjJK/oaYkTBir4ex1SLqdWfIdJ1Lis5RI/xE=",
            ),
            (
                "whsec_QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKUVhfZm10e4KJkJeepayzusHIz9bd5Ovy+Q==",
                "ffffffff-ffff-4fff-bfff-ffffffffffff",
                4_102_444_800,
                "{\"reason\":\"ümläut \\\" and . dots\"}",
                "v1,W7g2l2zQ6PP4Wgp/zxS84atGgVbpO9oxKHyCvI5/xLI=",
            ),
            (
                "whsec_ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vk=",
                "0199d1a0-0000-7000-8000-000000000002",
                1_795_428_000,
                "",
                "v1,8OSkN2DTYH3pymx1jGlpppHvi29+ji4KBsIgBDShWVo=",
            ),
        ];
        for (secret, id, timestamp, body, expected) in rows {
            let secret: SigningSecret = secret.parse().unwrap();
            let id = id.parse().unwrap();
            assert_eq!(secret.sign(id, timestamp, body.as_bytes()), expected);
        }
    }
}
