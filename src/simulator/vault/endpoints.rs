//! The HTTPS face of the simulated vaults, and the order in which a call is refused: who calls,
//! from where, which version, may it, does the request make sense, and last the secret's own state.

use std::sync::Arc;

use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::super::entra::{AzureService, BearerRefusal};
use super::super::fault::Endpoint;
use super::super::rest::{self, BODY_BYTES_MAX, Request, Work};
use super::super::spec::NewSecret;
use super::super::world::World;
use super::call::Call;
use super::content::{self, Changes};
use super::errors::VaultError;
use super::secret::{Secret, SecretVersion};
use super::{Vault, VaultName, json as document};

/// Versions of the data plane that the simulated vaults know.
const API_VERSIONS: [&str; 5] = ["7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"];

/// Most items of one page, and the page size when none is asked for. Source: Key Vault, "Get
/// secret versions", `maxresults`.
const PAGE_MOST: usize = 25;

/// Registers the one handler that takes every URL.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.app_data(PayloadConfig::new(BODY_BYTES_MAX))
        .default_service(web::to(serve));
}

async fn serve(
    world: Data<Arc<World>>,
    vault: Data<VaultName>,
    http: HttpRequest,
    body: Bytes,
) -> HttpResponse {
    let request = Request::new(&http, body);
    let call = Call::of(&request.method, &request.segments);
    let endpoint = match &call {
        _ if request.bearer.is_none() => Endpoint::VaultChallenge,
        Some(call) => call.endpoint(),
        None => Endpoint::VaultList,
    };
    let tenant = {
        let vaults = world.vaults.lock();
        let vault = vaults.get(&vault.0);
        vault.map_or(Uuid::nil(), |vault| vault.spec.tenant_id)
    };
    let authority = world.entra.authority.clone();
    let refused = move |error: VaultError| error.response(&authority, tenant);
    let throttled = |_| refused(VaultError::Throttled);
    let name = vault.0.clone();
    let work = |world: &World| -> Work {
        let prepared = prepare(world, &name, &request, call);
        let refused = refused.clone();
        match prepared {
            Ok(prepared) => Box::new(move |world, at| {
                let mut vaults = world.vaults.lock();
                let vault = vaults.get_mut(&name).expect("a vault is never taken away");
                let done = prepared.perform(vault, at);
                done.unwrap_or_else(refused)
            }),
            Err(error) => Box::new(move |_, _| refused(error)),
        }
    };
    let mut answer = rest::carry_out(&world, endpoint, throttled, work).await;
    rest::stamp(&world, &http, &mut answer);
    answer
}

/// A call that may be carried out, now or later.
enum Prepared {
    Set(String, NewSecret),
    Get(String, Option<String>),
    Update(String, Option<String>, Changes),
    Delete(String),
    GetDeleted(String),
    Recover(String),
    Purge(String),
    List(List, Page),
}

/// What is listed.
enum List {
    Versions(String),
    Secrets,
    Deleted,
}

/// Checks everything about a call that is checked when it arrives.
fn prepare(
    world: &World,
    vault: &str,
    request: &Request,
    call: Option<Call>,
) -> Result<Prepared, VaultError> {
    let mut vaults = world.vaults.lock();
    let vault = vaults.get_mut(vault).expect("a vault is never taken away");
    vault.purge_forgotten(world.now());
    let token = request.bearer.as_deref().ok_or(VaultError::NoToken)?;
    let bearer = world.entra.bearer(token, AzureService::Vault, world.now());
    let bearer = bearer.map_err(|refusal| match refusal {
        BearerRefusal::Expired => VaultError::ExpiredToken,
        BearerRefusal::Invalid => VaultError::InvalidToken,
    })?;
    if bearer.tenant_id != vault.spec.tenant_id {
        return Err(VaultError::InvalidToken);
    }
    if vault.firewall_denies {
        return Err(VaultError::ForbiddenByFirewall);
    }
    let version = request.parameter("api-version").unwrap_or_default();
    if !API_VERSIONS.contains(&version) {
        return Err(VaultError::ApiVersion(version.into()));
    }
    let call = call.ok_or(VaultError::MethodNotAllowed)?;
    if !vault.allows(bearer.object_id, call.action(), call.secret()) {
        return Err(VaultError::ForbiddenByRbac {
            object_id: bearer.object_id,
            action: call.action().name(),
            resource: format!("{}secrets/{}", vault.url, call.secret().unwrap_or_default()),
            vault: vault.spec.name.clone(),
        });
    }
    if !call.secret().is_none_or(content::is_name) {
        let sentence = "The request URI contains an invalid name.";
        return Err(VaultError::BadParameter(sentence));
    }
    with_content(request, call, &vault.url)
}

fn with_content(request: &Request, call: Call, vault: &Url) -> Result<Prepared, VaultError> {
    let body = || {
        let body = request.object();
        body.ok_or(VaultError::BadParameter("The body is not a JSON object."))
    };
    let page = || Page::of(request, vault);
    Ok(match call {
        Call::Set(name) => Prepared::Set(name, content::new_secret(&body()?)?),
        Call::Update(name, id) => Prepared::Update(name, id, content::changes(&body()?)?),
        Call::Get(name, id) => Prepared::Get(name, id),
        Call::Delete(name) => Prepared::Delete(name),
        Call::GetDeleted(name) => Prepared::GetDeleted(name),
        Call::Recover(name) => Prepared::Recover(name),
        Call::Purge(name) => Prepared::Purge(name),
        Call::Versions(name) => Prepared::List(List::Versions(name), page()?),
        Call::Secrets => Prepared::List(List::Secrets, page()?),
        Call::DeletedSecrets => Prepared::List(List::Deleted, page()?),
    })
}

impl Prepared {
    fn perform(self, vault: &mut Vault, now: OffsetDateTime) -> Result<HttpResponse, VaultError> {
        vault.purge_forgotten(now);
        let answer = match self {
            Self::Set(name, version) => {
                vault.set(&name, version, now)?;
                let (secret, version) = found(vault, &name, None);
                document::with_value(vault, secret, version)
            }
            Self::Get(name, id) => {
                let version = vault.active(&name, now)?.version(id.as_deref())?;
                if !version.enabled {
                    return Err(VaultError::SecretDisabled);
                }
                let (secret, version) = found(vault, &name, id.as_deref());
                document::with_value(vault, secret, version)
            }
            Self::Update(name, id, changes) => {
                let secret = vault.active(&name, now)?;
                secret.update(id.as_deref(), changes, now)?;
                let (secret, version) = found(vault, &name, id.as_deref());
                document::properties(vault, secret, version)
            }
            Self::Delete(name) => {
                vault.delete(&name, now)?;
                let (secret, _) = found(vault, &name, None);
                document::deleted(vault, secret, false)
            }
            Self::GetDeleted(name) => {
                vault.deleted(&name, now)?;
                let (secret, _) = found(vault, &name, None);
                document::deleted(vault, secret, false)
            }
            Self::Recover(name) => {
                vault.recover(&name, now)?;
                let (secret, version) = found(vault, &name, None);
                document::properties(vault, secret, version)
            }
            Self::Purge(name) => {
                vault.purge(&name, now)?;
                return Ok(HttpResponse::NoContent().finish());
            }
            Self::List(list, page) => page.cut(list.items(vault, now)),
        };
        Ok(HttpResponse::Ok().json(answer))
    }
}

/// A secret and a version that were just seen to be there.
fn found<'v>(vault: &'v Vault, name: &str, id: Option<&str>) -> (&'v Secret, &'v SecretVersion) {
    let secret = &vault.secrets[&name.to_lowercase()];
    let version = secret.version(id).expect("the caller has found it");
    (secret, version)
}

impl List {
    /// Every item with its place in the list. Versions lie in the order of their ids, which is as
    /// good as none; a secret that is not there has an empty list, not an error.
    fn items(&self, vault: &Vault, now: OffsetDateTime) -> Vec<(String, Value)> {
        let secrets = vault.secrets.iter();
        match self {
            Self::Versions(name) => {
                let secret = vault.secrets.get(&name.to_lowercase());
                let secret = secret.filter(|secret| secret.is_active(now));
                let versions = secret.into_iter().flat_map(|secret| {
                    let item = |version: &SecretVersion| {
                        let properties = document::properties(vault, secret, version);
                        (version.id.clone(), properties)
                    };
                    secret.versions().iter().map(item)
                });
                let mut versions: Vec<_> = versions.collect();
                versions.sort_by(|(one, _), (other, _)| one.cmp(other));
                versions
            }
            Self::Secrets => secrets
                .filter(|(_, secret)| secret.is_active(now))
                .map(|(name, secret)| (name.clone(), document::listed(vault, secret)))
                .collect(),
            Self::Deleted => secrets
                .filter(|(_, secret)| secret.is_deleted(now))
                .map(|(name, secret)| (name.clone(), document::deleted(vault, secret, true)))
                .collect(),
        }
    }
}

/// Which page of a list, and how the next one is asked for.
struct Page {
    size: usize,
    /// Items up to this place were on earlier pages.
    after: Option<String>,
    /// The URL of the list, without a query.
    url: String,
    api_version: String,
}

impl Page {
    fn of(request: &Request, vault: &Url) -> Result<Self, VaultError> {
        let size = match request.parameter("maxresults") {
            None => PAGE_MOST,
            Some(text) => match text.parse() {
                Ok(size) if (1..=PAGE_MOST).contains(&size) => size,
                _ => return Err(VaultError::BadParameter("maxresults must be from 1 to 25.")),
            },
        };
        Ok(Self {
            size,
            after: request.parameter("$skiptoken").map(String::from),
            url: format!("{vault}{}", request.segments.join("/")),
            api_version: request.parameter("api-version").unwrap_or_default().into(),
        })
    }

    fn cut(&self, items: Vec<(String, Value)>) -> Value {
        let after = self.after.as_deref();
        let mut rest = items
            .into_iter()
            .filter(|(place, _)| after.is_none_or(|after| place.as_str() > after))
            .peekable();
        let page: Vec<(String, Value)> = rest.by_ref().take(self.size).collect();
        let last = page.last().filter(|_| rest.peek().is_some());
        let next = last.map(|(place, _)| {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("api-version", &self.api_version)
                .append_pair("$skiptoken", place)
                .append_pair("maxresults", &self.size.to_string())
                .finish();
            format!("{}?{query}", self.url)
        });
        let value: Vec<Value> = page.into_iter().map(|(_, item)| item).collect();
        json!({ "value": value, "nextLink": next })
    }
}
