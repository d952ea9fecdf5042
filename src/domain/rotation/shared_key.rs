//! The Shared Key scheme, for a GET: how a request shows that its sender holds an account key. Made
//! here because the official crates sign with tokens and user delegation keys only.
//!
//! Source: Microsoft, "Authorize with Shared Key", the layout of 2015-02-21 and later; the vectors
//! are the official Python SDK's.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use crate::domain::ids::AccountName;

/// Standard headers that have a line of their own, all of them empty in a GET without a body:
/// `Content-Encoding` to `Range`, by way of `Date`, in whose place `x-ms-date` stands.
const EMPTY_LINES: &str = "\n\n\n\n\n\n\n\n\n\n\n";

/// The value of `Authorization` for `GET url` with these `x-ms-…` headers, named in lower case, and
/// no others that are signed. `None` if the key is no base64.
#[must_use]
pub fn authorization(
    account: &AccountName,
    key: &SecretString,
    url: &Url,
    headers: &[(&str, &str)],
) -> Option<String> {
    let key = Zeroizing::new(STANDARD.decode(key.expose_secret()).ok()?);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let text = string_to_sign(account, url, headers);
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    Some(format!("SharedKey {account}:{signature}"))
}

fn string_to_sign(account: &AccountName, url: &Url, headers: &[(&str, &str)]) -> String {
    let mut headers = headers.to_vec();
    headers.sort_unstable();
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect::<String>();
    let mut query: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect();
    query.sort_unstable();
    let query = query
        .iter()
        .map(|(name, value)| format!("\n{name}:{value}"))
        .collect::<String>();
    let path = url.path();
    format!("GET\n{EMPTY_LINES}{headers}/{account}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 bytes, 0 to 63, as long as a real key.
    fn key() -> SecretString {
        STANDARD.encode((0..64).collect::<Vec<u8>>()).into()
    }

    #[test]
    fn signatures_are_those_of_the_official_sdk() {
        // azure-storage-blob 12.31.1 (Python), SharedKeyCredentialPolicy.
        let rows = [
            (
                "acct1",
                "https://acct1.blob.core.windows.net/?restype=account&comp=properties",
                "K7u21ma6QlOZ1AUq1BKlAOVOSLpKauUF1FbzMPmeUOg=",
            ),
            (
                "acct1",
                "https://127.0.0.1:10000/acct1?restype=account&comp=properties",
                "9j6RdaAopR6hXmVcRPxzif7SnTGGqxitkcy3/l74o4o=",
            ),
            (
                "acct1",
                "https://127.0.0.1:10000/acct1/?restype=account&comp=properties",
                "NIk4VTVvBI4Rt/3ml/18rjmshNJaLzXEJ1O/UgwgxE4=",
            ),
            (
                "devstoreaccount1",
                "https://127.0.0.1:10000/devstoreaccount1/?comp=properties&restype=account",
                "xTz3EGeFpHVozEqR/oh6TjqVndvdq2x4KlEkcS+ZVYM=",
            ),
        ];
        let headers = [
            ("x-ms-version", "2025-11-05"),
            ("x-ms-date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ];
        for (account, url, signature) in rows {
            let (name, target) = (account.parse().unwrap(), url.parse().unwrap());
            let found = authorization(&name, &key(), &target, &headers);
            let expected = format!("SharedKey {account}:{signature}");
            assert_eq!(found, Some(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_base64_signs_nothing() {
        let (name, url) = (
            "acct1".parse().unwrap(),
            "https://x.example".parse().unwrap(),
        );
        assert_eq!(authorization(&name, &"not base64!".into(), &url, &[]), None);
    }
}
