//! Typed reading of a payload's members, each with its bound. A claim of the wrong type is never
//! taken for a missing one. Never what values are acceptable; that is `verify`.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::ids::{AppRole, ObjectId},
    verify::TokenRefused,
};

/// Longest text claim, in bytes: longer than any issuer URL, audience or list of scopes in use.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Most scopes and most roles of one token; far more than an app registration sensibly defines.
const NAMES_MAX: usize = 256;

/// Most groups: Entra replaces more than 200 by an overage marker.
const GROUPS_MAX: usize = 200;

/// Most audiences of one token; Entra writes one.
const AUDIENCES_MAX: usize = 16;

/// Longest `uti`, in bytes; Entra's have 22.
const TOKEN_ID_BYTES_MAX: usize = 128;

/// A payload.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) const fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// A text claim; JSON null counts as malformed, not as missing.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, TokenRefused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text)),
            Some(_) => Err(TokenRefused::Claim(name)),
        }
    }

    pub(super) fn required_text(&self, name: &'static str) -> Result<&str, TokenRefused> {
        self.text(name)?.ok_or(TokenRefused::Missing(name))
    }

    /// A GUID in its hyphenated form.
    pub(super) fn guid(&self, name: &'static str) -> Result<Option<Uuid>, TokenRefused> {
        self.text(name)?.map(|text| guid(name, text)).transpose()
    }

    pub(super) fn required_guid(&self, name: &'static str) -> Result<Uuid, TokenRefused> {
        self.guid(name)?.ok_or(TokenRefused::Missing(name))
    }

    /// A `NumericDate` of whole seconds.
    pub(super) fn instant(
        &self,
        name: &'static str,
    ) -> Result<Option<OffsetDateTime>, TokenRefused> {
        let malformed = TokenRefused::Claim(name);
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_i64().ok_or(malformed)?;
        OffsetDateTime::from_unix_timestamp(seconds)
            .map(Some)
            .map_err(|_| malformed)
    }

    pub(super) fn required_instant(
        &self,
        name: &'static str,
    ) -> Result<OffsetDateTime, TokenRefused> {
        self.instant(name)?.ok_or(TokenRefused::Missing(name))
    }

    /// Whether `aud`, a text or a list of texts, holds one of `accepted`, letter by letter.
    pub(super) fn addresses(&self, accepted: &[String]) -> Result<bool, TokenRefused> {
        let one_of_ours = |audience: &str| accepted.iter().any(|ours| ours == audience);
        match self.0.get("aud") {
            None => Err(TokenRefused::Missing("aud")),
            Some(Value::String(audience)) => Ok(one_of_ours(audience)),
            Some(_) => {
                let audiences = self.texts("aud", AUDIENCES_MAX)?.unwrap_or_default();
                Ok(audiences.into_iter().any(one_of_ours))
            }
        }
    }

    /// `scp`, split at spaces.
    pub(super) fn scopes(&self) -> Result<Option<Vec<String>>, TokenRefused> {
        let Some(text) = self.text("scp")? else {
            return Ok(None);
        };
        let scopes: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        (scopes.len() <= NAMES_MAX)
            .then_some(Some(scopes))
            .ok_or(TokenRefused::Claim("scp"))
    }

    /// `roles`; none if absent.
    pub(super) fn roles(&self) -> Result<Vec<AppRole>, TokenRefused> {
        let names = self.texts("roles", NAMES_MAX)?.unwrap_or_default();
        let role = |name: &str| name.parse().map_err(|_| TokenRefused::Claim("roles"));
        names.into_iter().map(role).collect()
    }

    /// `groups`, as GUIDs.
    pub(super) fn groups(&self) -> Result<Option<Vec<ObjectId>>, TokenRefused> {
        let Some(names) = self.texts("groups", GROUPS_MAX)? else {
            return Ok(None);
        };
        let group = |name| guid("groups", name).map(ObjectId);
        names
            .into_iter()
            .map(group)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Whether Entra says that there are more groups than fit: `_claim_names.groups`, or
    /// `hasgroups`. The address in `_claim_sources` is never followed.
    pub(super) fn has_group_overage(&self) -> bool {
        let named = self
            .0
            .get("_claim_names")
            .and_then(|names| names.get("groups"))
            .is_some();
        let flagged = match self.0.get("hasgroups") {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(flag)) => flag == "true",
            _ => false,
        };
        named || flagged
    }

    /// `uti`, which goes into the journal as it stands.
    pub(super) fn token_id(&self) -> Result<Option<String>, TokenRefused> {
        let Some(text) = self.text("uti")? else {
            return Ok(None);
        };
        let plain = text.len() <= TOKEN_ID_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        plain
            .then(|| Some(text.to_owned()))
            .ok_or(TokenRefused::Claim("uti"))
    }

    fn texts(&self, name: &'static str, most: usize) -> Result<Option<Vec<&str>>, TokenRefused> {
        let malformed = TokenRefused::Claim(name);
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let items = value
            .as_array()
            .filter(|items| items.len() <= most)
            .ok_or(malformed)?;
        let text = |item: &'_ Value| {
            item.as_str()
                .map(str::len)
                .is_some_and(|l| l <= TEXT_BYTES_MAX)
        };
        if !items.iter().all(text) {
            return Err(malformed);
        }
        Ok(Some(items.iter().filter_map(Value::as_str).collect()))
    }
}

/// Only the hyphenated form, as everywhere: a second spelling would be a second identity.
fn guid(name: &'static str, text: &str) -> Result<Uuid, TokenRefused> {
    text.parse::<ObjectId>()
        .map(|id| id.0)
        .map_err(|_| TokenRefused::Claim(name))
}
