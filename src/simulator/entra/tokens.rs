//! What an Entra access token says: the claims of a v1 and a v2 token for a user or an
//! application.
//!
//! Pure: a [`TokenSpec`] and the instant go in, claims come out. Who is entitled to which token is
//! decided in `grants`; the signature is in `keys`.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

use super::super::random;
use super::super::spec::TokenVersion;
use super::keys::{TokenSignature, override_members};

/// How long a token lives from now. Entra draws 60 to 90 minutes; a fixed value keeps stories
/// repeatable.
const LIFETIME: Duration = Duration::seconds(3_599);

/// How far Entra dates `iat` and `nbf` back, so that clocks that run late accept a fresh token.
const BACK_DATING: Duration = Duration::minutes(5);

/// Most groups Entra writes into a JWT; above, it points to the directory instead (overage).
const GROUPS_MOST: usize = 200;

/// Everything that shapes one access token. Build it with [`TokenSpec::user`] or
/// [`TokenSpec::application`] and bend it from there.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// The issuing tenant, `tid`.
    pub tenant_id: Uuid,
    /// The shape of the token.
    pub version: TokenVersion,
    /// `aud`, as it stands.
    pub audience: String,
    /// The client that asked: `appid` or `azp`.
    pub client_id: Uuid,
    /// The client showed a secret: `appidacr` or `azpacr` is 1, else 0.
    pub client_authenticated: bool,
    /// Who the token speaks for.
    pub subject: Subject,
    /// `roles`; left out when empty.
    pub roles: Vec<String>,
    /// `groups`, if the API wants them: more than 200 become an overage pointer.
    pub groups: Option<Vec<Uuid>>,
    /// Adds the optional claim `idtyp`.
    pub with_idtyp: bool,
    /// Written over the claims at the end; a `null` takes a claim out.
    pub claim_overrides: Map<String, Value>,
    /// Written over the JOSE header at the end; a `null` takes a member out.
    pub header_overrides: Map<String, Value>,
    /// Who signs.
    pub signature: TokenSignature,
}

/// Who a token speaks for.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A signed-in user.
    User {
        /// `oid`.
        object_id: Uuid,
        /// `upn` (v1) or `preferred_username` (v2).
        user_name: String,
        /// `scp`.
        scopes: Vec<String>,
    },
    /// An application for itself.
    Application {
        /// `oid` of its service principal.
        object_id: Uuid,
    },
}

impl TokenSpec {
    /// A v2 token of a user with the scope `user_impersonation`, asked for by a public client.
    pub fn user(tenant_id: Uuid, object_id: Uuid, audience: impl Into<String>) -> Self {
        let subject = Subject::User {
            object_id,
            user_name: format!("{}@simulator.example", object_id.simple()),
            scopes: vec!["user_impersonation".into()],
        };
        Self::new(tenant_id, subject, audience.into())
    }

    /// A v2 token of an application that authenticated with a secret.
    pub fn application(tenant_id: Uuid, object_id: Uuid, audience: impl Into<String>) -> Self {
        let subject = Subject::Application { object_id };
        Self {
            client_authenticated: true,
            ..Self::new(tenant_id, subject, audience.into())
        }
    }

    fn new(tenant_id: Uuid, subject: Subject, audience: String) -> Self {
        Self {
            tenant_id,
            version: TokenVersion::V2,
            audience,
            client_id: Uuid::nil(),
            client_authenticated: false,
            subject,
            roles: Vec::new(),
            groups: None,
            with_idtyp: false,
            claim_overrides: Map::new(),
            header_overrides: Map::new(),
            signature: TokenSignature::Current,
        }
    }

    /// Overrides one claim; `Value::Null` takes it out.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claim_overrides.insert(name.into(), value.into());
        self
    }

    /// Overrides one member of the JOSE header; `Value::Null` takes it out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header_overrides.insert(name.into(), value.into());
        self
    }

    /// The claims at `now`, overrides applied.
    pub(super) fn claims(&self, authority: &Url, now: OffsetDateTime) -> Map<String, Value> {
        let issued = (now - BACK_DATING).unix_timestamp();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.into(), value);
        set("aud", json!(self.audience));
        set(
            "iss",
            json!(issuer(authority, self.tenant_id, self.version)),
        );
        set("iat", json!(issued));
        set("nbf", json!(issued));
        set("exp", json!((now + LIFETIME).unix_timestamp()));
        set("tid", json!(self.tenant_id));
        set("oid", json!(self.object_id()));
        set("sub", json!(self.pairwise_subject()));
        set("uti", json!(URL_SAFE_NO_PAD.encode(random::bytes::<16>())));
        let client_authentication = if self.client_authenticated { "1" } else { "0" };
        let (version, client, strength, name) = match self.version {
            TokenVersion::V1 => ("1.0", "appid", "appidacr", "upn"),
            TokenVersion::V2 => ("2.0", "azp", "azpacr", "preferred_username"),
        };
        set("ver", json!(version));
        set(client, json!(self.client_id));
        set(strength, json!(client_authentication));
        if let Subject::User {
            user_name, scopes, ..
        } = &self.subject
        {
            set(name, json!(user_name));
            set("scp", json!(scopes.join(" ")));
        }
        if !self.roles.is_empty() {
            set("roles", json!(self.roles));
        }
        if self.with_idtyp {
            set("idtyp", json!(self.kind()));
        }
        self.add_groups(&mut claims);
        override_members(&mut claims, &self.claim_overrides);
        claims
    }

    fn object_id(&self) -> Uuid {
        match self.subject {
            Subject::User { object_id, .. } | Subject::Application { object_id } => object_id,
        }
    }

    fn kind(&self) -> &'static str {
        match self.subject {
            Subject::User { .. } => "user",
            Subject::Application { .. } => "app",
        }
    }

    /// `sub` is the object id for an application; for a user it differs per API, so that nobody
    /// can use it as the user's key.
    fn pairwise_subject(&self) -> String {
        match self.subject {
            Subject::Application { object_id } => object_id.to_string(),
            Subject::User { object_id, .. } => {
                let both = format!("{object_id} {}", self.audience);
                URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, both.as_bytes()))
            }
        }
    }

    fn add_groups(&self, claims: &mut Map<String, Value>) {
        let Some(groups) = self.groups.as_ref().filter(|groups| !groups.is_empty()) else {
            return;
        };
        if groups.len() <= GROUPS_MOST {
            claims.insert("groups".into(), json!(groups));
            return;
        }
        let collection = match self.subject {
            Subject::User { .. } => "users",
            Subject::Application { .. } => "servicePrincipals",
        };
        let endpoint = format!(
            "https://graph.windows.net/{}/{collection}/{}/getMemberObjects",
            self.tenant_id,
            self.object_id()
        );
        claims.insert("_claim_names".into(), json!({ "groups": "src1" }));
        claims.insert(
            "_claim_sources".into(),
            json!({ "src1": { "endpoint": endpoint } }),
        );
    }
}

/// Whole seconds until a token minted now expires: `expires_in` of the token endpoint.
pub(super) fn expires_in_seconds() -> i64 {
    LIFETIME.whole_seconds()
}

/// The `iss` of a tenant. The v1 issuer does not name the authority: Entra's is the same whatever
/// host answered.
pub(super) fn issuer(authority: &Url, tenant_id: Uuid, version: TokenVersion) -> String {
    match version {
        TokenVersion::V1 => format!("https://sts.windows.net/{tenant_id}/"),
        TokenVersion::V2 => format!("{authority}{tenant_id}/v2.0"),
    }
}
