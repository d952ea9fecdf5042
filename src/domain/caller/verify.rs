//! From a token's text to a [`Caller`]: the only way there. Pure: keys, expectations and the instant
//! come in as arguments.
//!
//! Facts: Entra's access token reference (claims `ver`, `tid`, `oid`, `scp`, `roles`, `groups`,
//! `idtyp`, `azp`, `appid`, `uti`). The signature is `jws`'s business, the reading of claims is
//! `claims`'s; here stands what must hold.

use std::collections::BTreeMap;

use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::{
    super::ids::{ObjectId, TenantId},
    Caller, CallerKind, Groups, GroupsUnknown,
    claims::Claims,
    jws::{self, Compact},
    key::{Fingerprint, IssuerKeys, TokenVersion},
};

/// What we expect of every token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// Accepted `aud` values, letter by letter: the broker's own registration.
    pub audiences: Vec<String>,
    /// Tolerance for `exp`, `nbf` and `iat`, in seconds; the configuration allows 300 at most.
    pub clock_skew_seconds: u32,
    /// Oldest accepted token, in seconds since `iat`.
    pub token_age_seconds_max: u32,
    /// Directories whose tokens count.
    pub tenants: BTreeMap<TenantId, TenantPolicy>,
}

/// What we know of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantPolicy {
    /// Whether the app registration there sends the `groups` claim. If not, the claim is ignored
    /// and group membership is unknown.
    pub groups_claim: bool,
}

/// Why a token is refused. The text never holds anything of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefused {
    /// Over [`super::TOKEN_BYTES_MAX`].
    #[error("the access token is longer than 16 KiB")]
    TooLong,
    /// Not a JSON web token in compact form.
    #[error("the access token is not a signed JSON web token")]
    Malformed,
    /// A member of header or payload stands twice.
    #[error("the access token repeats a member")]
    DuplicateMember,
    /// `alg` is not RS256.
    #[error("the access token is not signed with RS256")]
    Algorithm,
    /// `crit` is there.
    #[error("the access token has a critical header that is not understood")]
    CriticalHeader,
    /// No usable `kid`.
    #[error("the access token does not name its signing key")]
    NoKeyId,
    /// The issuer does not publish this `kid`.
    #[error("the access token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the access token's signature is not valid")]
    Signature,
    /// `tid` is not in the allow-list, or not the issuer's.
    #[error("the access token is of a directory that is not accepted here")]
    Tenant,
    /// `iss` is not the directory's.
    #[error("the access token's issuer is not the one of its directory")]
    Issuer,
    /// `ver` is neither 1.0 nor 2.0, or not the issuer's.
    #[error("the access token's version does not fit its issuer")]
    Version,
    /// `aud` is not ours.
    #[error("the access token is meant for another audience")]
    Audience,
    /// After `exp`.
    #[error("the access token has expired")]
    Expired,
    /// Before `nbf` or `iat`.
    #[error("the access token is not valid yet")]
    NotYetValid,
    /// Issued too long ago.
    #[error("the access token was issued too long ago; get a new one")]
    TooOld,
    /// A claim is not there.
    #[error("the access token lacks the claim {0}")]
    Missing(&'static str),
    /// A claim has the wrong type or form, or is over its bound.
    #[error("the access token's claim {0} is malformed or too long")]
    Claim(&'static str),
    /// Neither a user's scopes nor a client application: an ID token, for example.
    #[error("the token is not an access token")]
    NotAnAccessToken,
}

impl TokenRefused {
    /// A stable word for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::DuplicateMember => "duplicate-member",
            Self::Algorithm => "algorithm",
            Self::CriticalHeader => "critical-header",
            Self::NoKeyId => "no-key-id",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "signature",
            Self::Tenant => "tenant",
            Self::Issuer => "issuer",
            Self::Version => "version",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::TooOld => "too-old",
            Self::Missing(_) => "claim-missing",
            Self::Claim(_) => "claim-malformed",
            Self::NotAnAccessToken => "not-an-access-token",
        }
    }
}

/// Where a token *says* that it comes from, before anything of it was verified. Good for choosing
/// the key set that [`verify`] holds it against, and for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UntrustedOrigin {
    /// The claimed `tid`.
    pub tenant_id: TenantId,
    /// The claimed `ver`.
    pub version: TokenVersion,
}

impl UntrustedOrigin {
    /// Reads the two claims without any check of the signature.
    ///
    /// # Errors
    /// [`TokenRefused`] if it cannot be a token of Entra's.
    pub fn peek(token: &str) -> Result<Self, TokenRefused> {
        #[derive(Deserialize)]
        struct Peeked {
            tid: Option<TenantId>,
            ver: Option<String>,
        }
        let payload = Compact::split(token)?.payload()?;
        let peeked: Peeked =
            serde_json::from_slice(&payload).map_err(|_| TokenRefused::Malformed)?;
        let version = peeked.ver.ok_or(TokenRefused::Missing("ver"))?;
        Ok(Self {
            tenant_id: peeked.tid.ok_or(TokenRefused::Missing("tid"))?,
            version: TokenVersion::from_claim(&version).ok_or(TokenRefused::Version)?,
        })
    }
}

/// When a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTimes {
    issued_at: OffsetDateTime,
    not_before: Option<OffsetDateTime>,
    expires_at: OffsetDateTime,
}

impl TokenTimes {
    /// Whether the token counts at `now`. Also asked of remembered tokens, on every use.
    ///
    /// # Errors
    /// [`TokenRefused::Expired`], [`TokenRefused::NotYetValid`] or [`TokenRefused::TooOld`].
    pub fn check(&self, policy: &TokenPolicy, now: OffsetDateTime) -> Result<(), TokenRefused> {
        let skew = Duration::seconds(policy.clock_skew_seconds.into());
        let age_max = Duration::seconds(policy.token_age_seconds_max.into());
        // Differences, because an instant at the end of time has no later one.
        if now - self.expires_at >= skew {
            return Err(TokenRefused::Expired);
        }
        let begins_at = self
            .not_before
            .map_or(self.issued_at, |at| at.max(self.issued_at));
        if begins_at - now > skew {
            return Err(TokenRefused::NotYetValid);
        }
        if now - self.issued_at > age_max + skew {
            return Err(TokenRefused::TooOld);
        }
        Ok(())
    }
}

/// Which key signed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// Its id in the issuer's set.
    pub kid: Box<str>,
    /// The key itself: a `kid` may come to stand for another one.
    pub fingerprint: Fingerprint,
}

/// A token that holds, at the instant that it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Who calls.
    pub caller: Caller,
    /// When it counts.
    pub times: TokenTimes,
    /// Who vouches for it.
    pub key: KeyRef,
}

/// Verifies a token against its issuer's keys and our expectations.
///
/// # Errors
/// [`TokenRefused`] names the first rule that was broken.
pub fn verify(
    token: &str,
    keys: &IssuerKeys,
    policy: &TokenPolicy,
    now: OffsetDateTime,
) -> Result<VerifiedToken, TokenRefused> {
    let (payload, key) = jws::verify_rs256(token, keys.keys())?;
    let claims = Claims::new(jws::object(&payload)?);
    if claims.required_text("iss")? != keys.issuer() {
        return Err(TokenRefused::Issuer);
    }
    let tenant_id = TenantId(claims.required_guid("tid")?);
    if tenant_id != keys.tenant_id() {
        return Err(TokenRefused::Tenant);
    }
    let tenant = policy.tenants.get(&tenant_id).ok_or(TokenRefused::Tenant)?;
    if claims.required_text("ver")? != keys.version().as_str() {
        return Err(TokenRefused::Version);
    }
    if !claims.addresses(&policy.audiences)? {
        return Err(TokenRefused::Audience);
    }
    let times = TokenTimes {
        issued_at: claims.required_instant("iat")?,
        not_before: claims.instant("nbf")?,
        expires_at: claims.required_instant("exp")?,
    };
    times.check(policy, now)?;
    let key = KeyRef {
        kid: key.kid().into(),
        fingerprint: key.fingerprint(),
    };
    let caller = caller(&claims, tenant_id, *tenant, keys.version(), &times)?;
    Ok(VerifiedToken { caller, times, key })
}

fn caller(
    claims: &Claims,
    tenant_id: TenantId,
    tenant: TenantPolicy,
    version: TokenVersion,
    times: &TokenTimes,
) -> Result<Caller, TokenRefused> {
    let scopes = claims.scopes()?;
    let app_id = claims.guid(match version {
        TokenVersion::V1 => "appid",
        TokenVersion::V2 => "azp",
    })?;
    // `idtyp` is optional. Without it a token that has `scp` is a person's, and one without is an
    // application's own, which always names that application. An ID token has neither.
    let kind = match (claims.text("idtyp")?, &scopes, app_id) {
        (Some("app"), None, _) | (None, None, Some(_)) => CallerKind::Application,
        (Some("user"), _, _) | (None, Some(_), _) => CallerKind::User,
        (None, None, None) => return Err(TokenRefused::NotAnAccessToken),
        (Some(_), _, _) => return Err(TokenRefused::Claim("idtyp")),
    };
    Ok(Caller {
        tenant_id,
        object_id: ObjectId(claims.required_guid("oid")?),
        kind,
        app_id,
        scopes: scopes.unwrap_or_default(),
        roles: claims.roles()?,
        groups: groups(claims, tenant)?,
        token_id: claims.token_id()?,
        issued_at: times.issued_at,
        expires_at: times.expires_at,
    })
}

fn groups(claims: &Claims, tenant: TenantPolicy) -> Result<Groups, TokenRefused> {
    if !tenant.groups_claim {
        return Ok(Groups::Unknown(GroupsUnknown::Missing));
    }
    if claims.has_group_overage() {
        return Ok(Groups::Unknown(GroupsUnknown::Overage));
    }
    let known = claims.groups()?;
    Ok(known.map_or(Groups::Unknown(GroupsUnknown::Missing), Groups::Known))
}
