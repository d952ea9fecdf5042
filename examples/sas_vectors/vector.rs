//! One vector: its JSON form, and how it is compared with what our signer makes of it. The example
//! and the integration tests share this file.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use sas_broker::domain::{
    ids::{BlobPath, ObjectId},
    sas::{
        EndUser, FieldText, KeyElements, ResponseHeaders, SIGNED_PROTOCOL, SasSpec, SasTarget,
        ServiceVersion, SignedPair, UserDelegationKey, sign, string_to_sign,
    },
    time_text,
};
use serde::Deserialize;

/// A line of the file. What else it holds (`id`, `sdk`, …) says where it came from.
#[derive(Deserialize)]
pub(crate) struct Vector {
    input: Input,
    expected_params: BTreeMap<String, String>,
    /// Only shown beside ours if the signature differs: the parameters are the contract.
    string_to_sign: Option<String>,
}

/// Null and missing both mean absent. An unknown field is refused, for it would not be signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    account: String,
    container: String,
    path: Option<String>,
    sr: String,
    directory_depth: Option<usize>,
    snapshot_or_version: Option<String>,
    sv: String,
    permissions: String,
    start: Option<String>,
    expiry: String,
    ip: Option<String>,
    protocol: String,
    udk: Key,
    saoid: Option<String>,
    suoid: Option<String>,
    scid: Option<String>,
    sduoid: Option<String>,
    encryption_scope: Option<String>,
    rscc: Option<String>,
    rscd: Option<String>,
    rsce: Option<String>,
    rscl: Option<String>,
    rsct: Option<String>,
    request_headers: Option<Vec<(String, String)>>,
    request_query: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    oid: String,
    tid: String,
    start: String,
    expiry: String,
    service: String,
    version: String,
    delegated_user_tid: Option<String>,
    value: String,
}

impl Vector {
    /// Reads one line.
    pub(crate) fn read(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    /// Signs the input and says how the token differs from the expected one; nothing if it does
    /// not. Parameters are compared decoded and without regard to their order, as the service
    /// reads them, but each as often as it occurs.
    pub(crate) fn differences(&self) -> Vec<String> {
        self.compare()
            .unwrap_or_else(|error| vec![format!("cannot be signed: {error}")])
    }

    fn compare(&self) -> Result<Vec<String>, String> {
        let spec = self.input.spec()?;
        let key = self.input.udk.key()?;
        let version: ServiceVersion = parsed("sv", &self.input.sv)?;
        let signed = sign(&spec, &key, version).map_err(|error| error.to_string())?;
        let mut ours = decoded(signed.expose_token());
        let mut differences = Vec::new();
        for (name, expected) in &self.expected_params {
            let wanted = (name.clone(), expected.clone());
            match ours.iter().position(|parameter| *parameter == wanted) {
                Some(place) => drop(ours.swap_remove(place)),
                None => differences.push(format!("{name}={expected:?} is missing")),
            }
        }
        differences.extend(
            ours.iter()
                .map(|(name, value)| format!("{name}={value:?} is extra")),
        );
        if let (false, Some(expected)) = (differences.is_empty(), &self.string_to_sign) {
            let signed = string_to_sign(&spec, &key, version).map_err(|error| error.to_string())?;
            differences.push(format!("we signed {signed:?}, expected {expected:?}"));
        }
        Ok(differences)
    }
}

impl Input {
    fn spec(&self) -> Result<SasSpec, String> {
        if self.protocol != SIGNED_PROTOCOL {
            return Err(format!(
                "protocol {:?}: only https is signed",
                self.protocol
            ));
        }
        let time = |name: &str, text: &str| {
            time_text::from_text(text).ok_or_else(|| format!("{name}: not a UTC time"))
        };
        let mut spec = SasSpec::new(
            parsed("account", &self.account)?,
            parsed("container", &self.container)?,
            self.target()?,
            parsed("permissions", &self.permissions)?,
            time("expiry", &self.expiry)?,
        );
        spec.start = self
            .start
            .as_deref()
            .map(|text| time("start", text))
            .transpose()?;
        spec.ip = optional("ip", self.ip.as_ref())?;
        spec.end_user = self.end_user()?;
        spec.correlation_id = optional("scid", self.scid.as_ref())?;
        spec.delegated_user_object_id = optional("sduoid", self.sduoid.as_ref())?;
        spec.encryption_scope = optional("encryption_scope", self.encryption_scope.as_ref())?;
        spec.response_headers = ResponseHeaders {
            cache_control: optional("rscc", self.rscc.as_ref())?,
            content_disposition: optional("rscd", self.rscd.as_ref())?,
            content_encoding: optional("rsce", self.rsce.as_ref())?,
            content_language: optional("rscl", self.rscl.as_ref())?,
            content_type: optional("rsct", self.rsct.as_ref())?,
        };
        spec.request_headers = pairs("request_headers", self.request_headers.as_ref())?;
        spec.request_query = pairs("request_query", self.request_query.as_ref())?;
        Ok(spec)
    }

    fn target(&self) -> Result<SasTarget, String> {
        let path: Option<BlobPath> = optional("path", self.path.as_ref())?;
        let moment: Option<FieldText> =
            optional("snapshot_or_version", self.snapshot_or_version.as_ref())?;
        match (&*self.sr, path, moment, self.directory_depth) {
            ("c", None, None, None) => Ok(SasTarget::Container),
            ("b", Some(path), None, None) => Ok(SasTarget::Blob(path)),
            ("bs", Some(path), Some(snapshot), None) => {
                Ok(SasTarget::BlobSnapshot { path, snapshot })
            }
            ("bv", Some(path), Some(version_id), None) => {
                Ok(SasTarget::BlobVersion { path, version_id })
            }
            ("d", Some(path), None, Some(depth)) if depth == path.depth() => {
                Ok(SasTarget::Directory(path))
            }
            _ => Err("sr, path, snapshot_or_version and directory_depth do not agree".into()),
        }
    }

    fn end_user(&self) -> Result<Option<EndUser>, String> {
        let authorized: Option<ObjectId> = optional("saoid", self.saoid.as_ref())?;
        let unauthorized: Option<ObjectId> = optional("suoid", self.suoid.as_ref())?;
        match (authorized, unauthorized) {
            (None, None) => Ok(None),
            (Some(object_id), None) => Ok(Some(EndUser::Authorized(object_id))),
            (None, Some(object_id)) => Ok(Some(EndUser::Unauthorized(object_id))),
            (Some(_), Some(_)) => Err("saoid and suoid exclude each other".into()),
        }
    }
}

impl Key {
    fn key(&self) -> Result<UserDelegationKey, String> {
        UserDelegationKey::new(&KeyElements {
            signed_oid: &self.oid,
            signed_tid: &self.tid,
            signed_start: &self.start,
            signed_expiry: &self.expiry,
            signed_service: &self.service,
            signed_version: &self.version,
            signed_delegated_user_tid: self.delegated_user_tid.as_deref(),
            value: &self.value,
        })
        .map_err(|error| error.to_string())
    }
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

fn optional<T: FromStr<Err: Display>>(
    name: &str,
    text: Option<&String>,
) -> Result<Option<T>, String> {
    text.map(|text| parsed(name, text)).transpose()
}

fn pairs(name: &str, pairs: Option<&Vec<(String, String)>>) -> Result<Vec<SignedPair>, String> {
    pairs
        .into_iter()
        .flatten()
        .map(|(key, value)| SignedPair::new(key, value).map_err(|error| format!("{name}: {error}")))
        .collect()
}

/// The parameters of a query string, decoded, as often as they occur. No token holds a raw `+`, so
/// reading it as a space, as forms do, changes nothing.
pub(crate) fn decoded(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}
