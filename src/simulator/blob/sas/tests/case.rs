//! The fixture of the table: one request with a token in it, bent from a good one and signed with
//! the room's own string.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::macros::datetime;

use super::super::super::super::entra::Bearer;
use super::super::super::delegation_key::{DelegationKeys, KeyId};
use super::super::super::errors::Code;
use super::super::check::{Facts, check};
use super::super::string_to_sign::{FromRequest, resource, string_to_sign};
use super::super::token::SasToken;
use super::{BROKER, NOW, TENANT};

/// A request and the token in it; tests bend it from a good one.
pub(super) struct Case {
    pub(super) fields: Vec<(String, String)>,
    /// Parameters of the request beside the token.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// The resource that is signed, if not the one of the request.
    pub(super) signed_resource: Option<String>,
    pub(super) container: &'static str,
    pub(super) path: &'static str,
    pub(super) listed: &'static str,
    pub(super) https: bool,
    pub(super) peer: &'static str,
    pub(super) bearer: Option<Bearer>,
    pub(super) hierarchical_namespace: bool,
    pub(super) now: OffsetDateTime,
    pub(super) tampered: Option<(&'static str, &'static str)>,
}

impl Case {
    /// Read of one blob for an hour by a token of the default version.
    pub(super) fn good() -> Self {
        let fields = [
            ("sv", "2025-11-05"),
            ("sr", "b"),
            ("sp", "r"),
            ("st", "2026-11-23T11:45:00Z"),
            ("se", "2026-11-23T13:00:00Z"),
            ("spr", "https"),
            ("skoid", "11111111-1111-1111-1111-111111111111"),
            ("sktid", "22222222-2222-2222-2222-222222222222"),
            ("skt", "2026-11-23T11:00:00Z"),
            ("ske", "2026-11-24T11:00:00Z"),
            ("sks", "b"),
            ("skv", "2025-11-05"),
        ];
        Self {
            fields: fields
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            parameters: Vec::new(),
            headers: HeaderMap::new(),
            signed_resource: None,
            container: "raw",
            path: "a/b/file.csv",
            listed: "",
            https: true,
            peer: "203.0.113.7",
            bearer: None,
            hierarchical_namespace: true,
            now: NOW,
            tampered: None,
        }
    }

    /// The same with a field of the token set (empty: taken out) before it is signed.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.fields.push((name.into(), value.into()));
        }
        self
    }

    pub(super) fn directory(path: &'static str, depth: &str) -> Self {
        let case = Self::good()
            .with("sr", "d")
            .with("sp", "rl")
            .with("sdd", depth);
        Self { path, ..case }
    }

    /// The code of the refusal, or `None` if the token was accepted.
    pub(super) fn outcome(mut self) -> Option<(Code, String)> {
        let mut keys = DelegationKeys::default();
        let delegated = self.fields.iter().find(|(name, _)| name == "skdutid");
        let delegated_tenant_id = delegated.map(|(_, tenant)| tenant.parse().unwrap());
        let id = KeyId {
            delegated_tenant_id,
            ..issued_key()
        };
        let value = *keys.issue(id, NOW).unwrap();
        self.sign(&value);
        if let Some((name, value)) = self.tampered {
            self = self.with(name, value);
        }
        let query: Vec<_> = self
            .parameters
            .iter()
            .chain(&self.fields)
            .cloned()
            .collect();
        let token = SasToken::from_query(&query).unwrap();
        let facts = Facts {
            account: "acct1",
            hierarchical_namespace: self.hierarchical_namespace,
            container: self.container,
            path: self.path,
            listed: self.listed,
            https: self.https,
            peer: self.peer.parse().ok(),
            query: &query,
            headers: &self.headers,
            bearer: self.bearer,
            now: self.now,
        };
        let error = check(&token, &facts, &keys).err()?;
        Some((error.code, error.detail.unwrap_or_default()))
    }

    fn sign(&mut self, key: &[u8]) {
        self.fields.push(("sig".into(), "placeholder".into()));
        let token = SasToken::from_query(&self.fields).unwrap();
        let path = match token.get("sr") {
            "c" => String::new(),
            "d" => {
                let full = if self.path.is_empty() {
                    self.listed
                } else {
                    self.path
                };
                let depth = token.directory_depth().unwrap_or_default();
                full.split('/').take(depth).collect::<Vec<_>>().join("/")
            }
            _ => self.path.into(),
        };
        let whole = resource("acct1", self.container, &path);
        let of = |pairs: &[(String, String)], names: Vec<&str>| {
            let wanted = |(name, _): &&(String, String)| names.contains(&name.as_str());
            pairs.iter().filter(wanted).cloned().collect()
        };
        let headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
            .collect();
        let snapshot = self.parameters.iter().find(|(name, _)| name == "snapshot");
        let request = FromRequest {
            resource: self.signed_resource.clone().unwrap_or(whole),
            snapshot: snapshot.map_or("", |(_, value)| value),
            headers: of(&headers, token.names("srh")),
            query: of(&self.parameters, token.names("srq")),
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, string_to_sign(&token, &request).as_bytes());
        self.fields.pop();
        self.fields.push(("sig".into(), STANDARD.encode(tag)));
    }
}

pub(super) fn issued_key() -> KeyId {
    KeyId {
        object_id: BROKER,
        tenant_id: TENANT,
        start: datetime!(2026-11-23 11:00 UTC),
        expiry: datetime!(2026-11-24 11:00 UTC),
        version: "2025-11-05".into(),
        delegated_tenant_id: None,
    }
}
