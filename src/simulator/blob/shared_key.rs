//! Shared Key: a request signed with one of the account's own keys.
//!
//! Written from the protocol reference ("Authorize with Shared Key"), independent of whatever the
//! broker proves its keys with. In path style the account stands in the path as well, so that the
//! canonicalized resource names it twice, as in Microsoft's emulators. Shared Key Lite is not
//! simulated. Headers are sorted by their bytes, which is the service's order for every name that
//! the official clients send.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use super::container::Account;
use super::errors::{BlobError, Code};
use super::request::Call;

/// How far the date of a request may lie from the service's clock. Source: as above.
const SKEW_LONGEST: Duration = Duration::minutes(15);

/// Headers that are signed by their place, in their order. `content-length` and `date` have rules
/// of their own.
const PLACED_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The parts of `Authorization: SharedKey {account}:{signature}`, if that is what a request has.
pub(crate) fn credentials<'c>(call: &'c Call<'_>) -> Option<(&'c str, &'c str)> {
    let (scheme, rest) = call.header("authorization")?.split_once(' ')?;
    if scheme != "SharedKey" {
        return None;
    }
    Some(rest.split_once(':').unwrap_or((rest, "")))
}

/// Accepts a request that a key of the account has signed.
pub(crate) fn check(
    call: &Call<'_>,
    (name, signature): (&str, &str),
    account: &Account,
    now: OffsetDateTime,
) -> Result<(), BlobError> {
    if !account.resource.allows_shared_key() {
        return Err(Code::KeyBasedAuthenticationNotPermitted.into());
    }
    let date = call.header("x-ms-date").or_else(|| call.header("date"));
    let date = date.and_then(parse_date).ok_or_else(|| {
        failed("The Date header in the request is missing or is not in the correct format.")
    })?;
    if (now - date).abs() > SKEW_LONGEST {
        return Err(failed(
            "The Date header in the request is incorrect: it is too far from the server's time.",
        ));
    }
    let text = string_to_sign(call, name);
    let signature = STANDARD.decode(signature).unwrap_or_default();
    let signed_by = |value: &&[u8; 64]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, value.as_slice());
        hmac::verify(&key, text.as_bytes(), &signature).is_ok()
    };
    let known = account.resource.known_keys(now);
    if name == call.account && known.iter().any(signed_by) {
        return Ok(());
    }
    let text = text.replace('\n', "\\n");
    Err(failed(&format!(
        "The MAC signature found in the HTTP request is not the same as any computed signature. \
         Server used following string to sign: '{text}'."
    )))
}

fn failed(detail: &str) -> BlobError {
    BlobError::with_detail(Code::AuthenticationFailed, detail)
}

/// `Mon, 23 Nov 2026 10:00:00 GMT`.
fn parse_date(text: &str) -> Option<OffsetDateTime> {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = PrimitiveDateTime::parse(text, form).ok()?;
    Some(time.assume_utc())
}

fn string_to_sign(call: &Call<'_>, account: &str) -> String {
    let mut lines = vec![call.http.method().as_str().to_owned()];
    let dated = call.header("x-ms-date").is_some();
    lines.extend(PLACED_HEADERS.map(|name| match (name, values(call, name)) {
        ("content-length", value) if value == "0" => String::new(),
        ("date", _) if dated => String::new(),
        (_, value) => value,
    }));
    let mut named: Vec<&str> = call
        .http
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    named.retain(|name| name.starts_with("x-ms-"));
    named.sort_unstable();
    named.dedup();
    lines.extend(
        named
            .iter()
            .map(|name| format!("{name}:{}", values(call, name))),
    );
    lines.push(format!("/{account}{}", call.http.uri().path()));
    lines.extend(parameters(call));
    lines.join("\n")
}

/// Every value of a header, joined; absent is empty.
fn values(call: &Call<'_>, name: &str) -> String {
    let values = call.http.headers().get_all(name);
    let values: Vec<&str> = values
        .map(|value| value.to_str().unwrap_or_default().trim())
        .collect();
    values.join(",")
}

/// `name:value` of every parameter, names in lower case and sorted. A plus sign stays one: unlike
/// a form, the signed text is only percent-decoded.
fn parameters(call: &Call<'_>) -> Vec<String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let query = call.http.uri().query().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(decode(name).to_lowercase())
            .or_default()
            .push(decode(value));
    }
    all.into_iter()
        .map(|(name, mut values)| {
            values.sort_unstable();
            format!("{name}:{}", values.join(","))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::super::request::Door;
    use super::*;

    #[test]
    fn a_request_is_signed_as_the_protocol_reference_says() {
        let http = TestRequest::put()
            .uri("/acct1/raw/gr%C3%B6%C3%9Fe%20a?Timeout=20&comp=block&blockid=YQ%3D%3D&x=b&x=a")
            .insert_header(("content-length", "3"))
            .insert_header(("content-type", "text/plain"))
            .insert_header(("date", "Mon, 23 Nov 2026 10:00:00 GMT"))
            .insert_header(("x-ms-version", "2025-11-05"))
            .insert_header(("x-ms-date", "Mon, 23 Nov 2026 10:00:01 GMT"))
            .insert_header(("x-ms-meta-b", " spaced "))
            .insert_header(("range", "bytes=0-1"))
            .to_http_request();
        let call = Call::parse(&http, Door::Blob).unwrap_or_else(|_| panic!("a good URL"));
        let expected = "PUT\n\n\n3\n\ntext/plain\n\n\n\n\n\nbytes=0-1\n\
                        x-ms-date:Mon, 23 Nov 2026 10:00:01 GMT\n\
                        x-ms-meta-b:spaced\n\
                        x-ms-version:2025-11-05\n\
                        /acct1/acct1/raw/gr%C3%B6%C3%9Fe%20a\n\
                        blockid:YQ==\ncomp:block\ntimeout:20\nx:a,b";
        assert_eq!(string_to_sign(&call, "acct1"), expected);
        let http = TestRequest::get()
            .uri("/acct1?comp=list")
            .insert_header(("content-length", "0"))
            .insert_header(("date", "Mon, 23 Nov 2026 10:00:00 GMT"))
            .to_http_request();
        let call = Call::parse(&http, Door::Blob).unwrap_or_else(|_| panic!("a good URL"));
        let expected = "GET\n\n\n\n\n\nMon, 23 Nov 2026 10:00:00 GMT\n\n\n\n\n\n\
                        /acct1/acct1\ncomp:list";
        assert_eq!(string_to_sign(&call, "acct1"), expected);
    }
}
