//! One request as the data plane sees it: account, container and path out of the URL, the decoded
//! query, and which endpoint it came in by.
//!
//! Path style, as emulators do it: `https://127.0.0.1:PORT/{account}/{container}/{path}`. What the
//! request is allowed to do is decided in `access`.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::errors::{BlobError, Code};

/// The endpoint a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The blob endpoint, over HTTPS or plain HTTP.
    Blob,
    /// The data lake endpoint.
    Dfs,
}

/// One parsed request. Absent names are empty texts.
pub(crate) struct Call<'r> {
    /// The request itself, for its method and headers.
    pub(crate) http: &'r HttpRequest,
    pub(crate) door: Door,
    pub(crate) account: String,
    pub(crate) container: String,
    /// Blob name or path; never ends in a slash on the dfs endpoint.
    pub(crate) path: String,
    /// Decoded parameters in the order of the URL.
    pub(crate) query: Vec<(String, String)>,
}

impl<'r> Call<'r> {
    /// Takes the URL apart. The raw path is split before it is decoded, so that `%2F` in the
    /// container's place cannot move into the path.
    pub(crate) fn parse(http: &'r HttpRequest, door: Door) -> Result<Self, BlobError> {
        let mut parts = http
            .uri()
            .path()
            .trim_start_matches('/')
            .splitn(3, '/')
            .map(decode);
        let mut next = || parts.next().unwrap_or_else(|| Ok(String::new()));
        let (account, container, path) = (next()?, next()?, next()?);
        let path = match door {
            Door::Blob => path,
            Door::Dfs => path.trim_end_matches('/').to_owned(),
        };
        let query = http.uri().query().unwrap_or_default().as_bytes();
        let query = form_urlencoded::parse(query).into_owned().collect();
        Ok(Self {
            http,
            door,
            account,
            container,
            path,
            query,
        })
    }

    /// The first parameter of this name, or the empty text.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A header's value, if it is plain text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.http.headers().get(name)?.to_str().ok()
    }

    /// The token after `Authorization: Bearer`.
    pub(crate) fn bearer_token(&self) -> Option<&str> {
        let (scheme, token) = self.header(AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// Whether the request came over TLS.
    pub(crate) fn https(&self) -> bool {
        self.http.app_config().secure()
    }

    /// The client's address on the socket; forwarding headers do not count.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.http.peer_addr().map(|address| address.ip())
    }
}

fn decode(segment: &str) -> Result<String, BlobError> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into).map_err(|_| Code::InvalidUri.into())
}
