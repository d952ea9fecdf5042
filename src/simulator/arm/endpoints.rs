//! The HTTPS face of the simulated ARM, and the order in which it refuses a call: who calls, which
//! version, does it exist, may it, is it locked, and last the storage provider's own reasons.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::entra::{AzureService, Bearer, BearerRefusal};
use super::super::fault::Endpoint;
use super::super::random;
use super::super::rest::{self, BODY_BYTES_MAX, Request, Work};
use super::super::spec::KeySlot;
use super::super::world::World;
use super::errors::ArmError;
use super::keys;
use super::resource::{Action, Resource};
use super::target::Target;

/// Registers the one handler that takes every URL.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.app_data(PayloadConfig::new(BODY_BYTES_MAX))
        .default_service(web::to(serve));
}

async fn serve(world: Data<Arc<World>>, http: HttpRequest, body: Bytes) -> HttpResponse {
    let request = Request::new(&http, body);
    let target = Target::parse(&request.segments);
    let call = target
        .as_ref()
        .and_then(|target| Call::of(&request, target));
    let endpoint = call.map_or(Endpoint::ArmRead, Call::endpoint);
    let tenant = tenant_of(&world, target.as_ref());
    let authority = world.entra.authority.clone();
    let refused = move |error: ArmError| error.response(&authority, tenant);
    let throttled = |limit| refused(ArmError::Throttled(limit));
    let work = |world: &World| -> Work {
        let known = target.clone().zip(call).ok_or_else(|| {
            let path = format!("/{}", request.segments.join("/"));
            ArmError::UnknownPath(path)
        });
        let prepared = known.and_then(|(target, call)| prepare(world, &request, target, call));
        let refused = refused.clone();
        match prepared {
            Ok(prepared) => Box::new(move |world, at| {
                let done = prepared.perform(world, at);
                done.unwrap_or_else(refused)
            }),
            Err(error) => Box::new(move |_, _| refused(error)),
        }
    };
    let mut answer = rest::carry_out(&world, endpoint, throttled, work).await;
    rest::stamp(&world, &http, &mut answer);
    stamp_limits(&http, &mut answer);
    answer
}

/// The tenant that a challenge names: the one of the accounts that the path is about.
fn tenant_of(world: &World, target: Option<&Target>) -> Uuid {
    let accounts = world.storage.accounts();
    let mut found = accounts.values();
    let found = found
        .find(|account| target.is_none_or(|target| account.resource.is_in_subscription(target)));
    found.map_or(Uuid::nil(), |account| account.tenant_id)
}

/// Headers that tell a client how much of ARM's limits is left. The simulated buckets are always
/// full; limits are simulated as faults.
fn stamp_limits(http: &HttpRequest, answer: &mut HttpResponse) {
    let (name, left) = if http.method() == Method::GET {
        ("x-ms-ratelimit-remaining-subscription-reads", "249")
    } else {
        ("x-ms-ratelimit-remaining-subscription-writes", "199")
    };
    let headers = answer.headers_mut();
    let correlation_id = random::guid().to_string();
    let correlation_id = HeaderValue::from_str(&correlation_id).expect("a GUID is plain text");
    headers.insert(
        HeaderName::from_static("x-ms-correlation-request-id"),
        correlation_id,
    );
    headers.insert(
        HeaderName::from_static(name),
        HeaderValue::from_static(left),
    );
}

/// What a method and a path ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// The accounts of a subscription or a resource group.
    List,
    /// Something with one account.
    Account(Action),
}

impl Call {
    fn of(request: &Request, target: &Target) -> Option<Self> {
        let action = target.action.as_deref().map(str::to_ascii_lowercase);
        match (&request.method, &target.account, action.as_deref()) {
            (&Method::GET, None, None) => Some(Self::List),
            (&Method::GET, Some(_), None) => Some(Self::Account(Action::Read)),
            (&Method::POST, Some(_), Some(action)) => match action {
                "listkeys" => Some(Self::Account(Action::ListKeys)),
                "regeneratekey" => Some(Self::Account(Action::RegenerateKey)),
                "revokeuserdelegationkeys" => Some(Self::Account(Action::RevokeDelegationKeys)),
                _ => None,
            },
            _ => None,
        }
    }

    fn endpoint(self) -> Endpoint {
        match self {
            Self::List | Self::Account(Action::Read) => Endpoint::ArmRead,
            Self::Account(Action::ListKeys) => Endpoint::ArmListKeys,
            Self::Account(Action::RegenerateKey) => Endpoint::ArmRegenerateKey,
            Self::Account(Action::RevokeDelegationKeys) => Endpoint::ArmRevokeDelegationKeys,
        }
    }
}

/// A call that may be carried out, now or later.
enum Prepared {
    List(Target, Uuid),
    Account(Target, Task),
}

/// What is to be done with one account.
enum Task {
    Read,
    ListKeys,
    RegenerateKey(KeySlot),
    RevokeDelegationKeys,
}

/// Checks everything about a call that is checked when it arrives.
fn prepare(
    world: &World,
    request: &Request,
    target: Target,
    call: Call,
) -> Result<Prepared, ArmError> {
    let bearer = bearer(world, request)?;
    demand_api_version(world, request, call)?;
    let accounts = world.storage.accounts();
    let mut resources = accounts.values().map(|account| &account.resource);
    let tenant = accounts
        .values()
        .find(|account| account.resource.is_in_subscription(&target))
        .map(|account| account.tenant_id)
        .ok_or_else(|| ArmError::SubscriptionNotFound(target.subscription.clone()))?;
    if bearer.tenant_id != tenant {
        return Err(ArmError::WrongTenant);
    }
    if !resources.any(|resource| resource.is_in_group(&target)) {
        let group = target.group.clone().unwrap_or_default();
        return Err(ArmError::ResourceGroupNotFound(group));
    }
    let Call::Account(action) = call else {
        return Ok(Prepared::List(target, bearer.object_id));
    };
    let account = accounts.get(&target.account_key());
    let resource = account
        .map(|account| &account.resource)
        .filter(|resource| resource.is_in_group(&target))
        .ok_or_else(|| not_found(&target))?;
    demand(resource, &bearer, action)?;
    let task = match action {
        Action::Read => Task::Read,
        Action::ListKeys => Task::ListKeys,
        Action::RegenerateKey => Task::RegenerateKey(asked_slot(request)?),
        Action::RevokeDelegationKeys => Task::RevokeDelegationKeys,
    };
    Ok(Prepared::Account(target, task))
}

fn not_found(target: &Target) -> ArmError {
    ArmError::ResourceNotFound {
        account: target.account.clone().unwrap_or_default(),
        group: target.group.clone().unwrap_or_default(),
    }
}

fn bearer(world: &World, request: &Request) -> Result<Bearer, ArmError> {
    let token = request.bearer.as_deref().ok_or(ArmError::NoToken)?;
    world
        .entra
        .bearer(token, AzureService::Arm, world.now())
        .map_err(|refusal| match refusal {
            BearerRefusal::Expired => ArmError::ExpiredToken,
            BearerRefusal::Invalid => ArmError::InvalidToken,
        })
}

fn demand_api_version(world: &World, request: &Request, call: Call) -> Result<(), ArmError> {
    let asked = request.parameter("api-version");
    let version = asked.filter(|version| !version.is_empty());
    let version = version.ok_or(ArmError::NoApiVersion)?;
    let known = world.arm.api_versions();
    if known.iter().any(|known| known == version) {
        return Ok(());
    }
    Err(ArmError::UnknownApiVersion {
        version: version.into(),
        known,
        of_account: call != Call::List,
    })
}

/// The role, the lock and the other operation, in the order in which Azure minds them.
fn demand(resource: &Resource, bearer: &Bearer, action: Action) -> Result<(), ArmError> {
    if !resource.allows(bearer.object_id, action) {
        return Err(ArmError::AuthorizationFailed {
            object_id: bearer.object_id,
            action: action.name(),
            scope: resource.id(),
        });
    }
    if action == Action::Read {
        return Ok(());
    }
    if resource.is_read_only() {
        return Err(ArmError::ScopeLocked(resource.id()));
    }
    if resource.is_in_progress() {
        return Err(ArmError::InProgress);
    }
    Ok(())
}

fn asked_slot(request: &Request) -> Result<KeySlot, ArmError> {
    let body = request.object().ok_or(ArmError::InvalidRequestContent)?;
    let name = body.get("keyName").and_then(Value::as_str);
    name.and_then(keys::slot)
        .ok_or(ArmError::InvalidParameter("keyName"))
}

impl Prepared {
    fn perform(self, world: &World, at: OffsetDateTime) -> Result<HttpResponse, ArmError> {
        let (blob, dfs) = (&world.storage.blob, &world.storage.dfs);
        let mut accounts = world.storage.accounts();
        let (target, task) = match self {
            Self::Account(target, task) => (target, task),
            Self::List(target, principal) => {
                let seen = accounts.values().map(|account| &account.resource);
                let seen = seen.filter(|resource| {
                    resource.is_in_group(&target) && resource.allows(principal, Action::Read)
                });
                let value: Vec<Value> = seen.map(|resource| resource.json(blob, dfs)).collect();
                return Ok(HttpResponse::Ok().json(json!({ "value": value })));
            }
        };
        // Since the call arrived the account may have gone, if its work was put off.
        let account = accounts.get_mut(&target.account_key());
        let account = account.ok_or_else(|| not_found(&target))?;
        let answer = match task {
            Task::Read => account.resource.json(blob, dfs),
            Task::ListKeys => account.resource.listed_keys(),
            Task::RegenerateKey(slot) => {
                account.resource.regenerate(slot, at);
                account.resource.regenerated_keys()
            }
            Task::RevokeDelegationKeys => {
                account.delegation_keys.revoke_all();
                return Ok(HttpResponse::Ok().finish());
            }
        };
        Ok(HttpResponse::Ok().json(answer))
    }
}
