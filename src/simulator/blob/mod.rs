//! The simulated Blob storage and data lake: keys, data, and the full check of every token.
//!
//! | file | holds |
//! |---|---|
//! | `request` | one request, parsed |
//! | `access` | what it may do: SAS or bearer, intersected with the principal's roles, or a key |
//! | `sas` | the user-delegation SAS as the service sees it; independent of `domain::sas` |
//! | `shared_key` | requests signed with an account key; independent of the broker, too |
//! | `delegation_key` | keys issued, looked up, revoked |
//! | `operations`, `conditions`, `listing` | the blob endpoint's work |
//! | `service` | accounts and containers themselves, which take an account key |
//! | `paths` | the dfs endpoint's work |
//! | `container` | the stored state |
//! | `errors`, `xml` | Azure's words |
//!
//! Flow: parse, classify the operation, authorize, demand letters, work, answer. Never here: ARM
//! operations on accounts; management is done by the methods of `Running`.

mod access;
mod conditions;
mod container;
mod delegation_key;
mod errors;
mod listing;
mod operations;
mod paths;
mod request;
mod sas;
mod service;
mod shared_key;
mod xml;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::http::StatusCode;
use actix_web::http::header::{DATE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use self::container::BLOB_BYTES_MAX;
pub(super) use self::container::{Account, Content, Properties};
use self::delegation_key::KeyId;
use self::errors::{BlobError, Code};
use self::request::{Call, Door};
use super::fault::{Endpoint, Strike};
use super::random;
use super::spec::AccountSpec;
use super::world::World;

/// The version answered when a request names none.
const DEFAULT_VERSION: &str = "2026-10-06";

/// The state of the simulated storage.
pub(super) struct Storage {
    /// Base URLs with a trailing slash; an account's name is appended.
    pub(super) blob: Url,
    pub(super) plain_blob: Url,
    pub(super) dfs: Url,
    accounts: Mutex<BTreeMap<String, Account>>,
}

impl Storage {
    pub(super) fn new(
        [blob, plain_blob, dfs]: [Url; 3],
        accounts: Vec<AccountSpec>,
        now: OffsetDateTime,
    ) -> Self {
        let accounts = accounts
            .into_iter()
            .map(|spec| (spec.name.clone(), Account::new(spec, now)));
        Self {
            blob,
            plain_blob,
            dfs,
            accounts: Mutex::new(accounts.collect()),
        }
    }

    /// The accounts. No code path leaves one half-written, so poisoning is ignored.
    pub(super) fn accounts(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant whose tokens the account in the URL accepts; nil without such an account.
    fn trusted_tenant(&self, request: &HttpRequest) -> Uuid {
        let mut segments = request.uri().path().trim_start_matches('/').split('/');
        let account = segments.next().unwrap_or_default();
        let accounts = self.accounts();
        accounts
            .get(account)
            .map_or(Uuid::nil(), |account| account.tenant_id)
    }

    fn door(&self, request: &HttpRequest) -> Door {
        let port = request.app_config().local_addr().port();
        if self.dfs.port() == Some(port) {
            Door::Dfs
        } else {
            Door::Blob
        }
    }
}

/// Registers the one handler that takes every URL.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.app_data(PayloadConfig::new(BLOB_BYTES_MAX))
        .default_service(web::to(serve));
}

async fn serve(
    world: Data<Arc<World>>,
    http: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let door = world.storage.door(&http);
    let request_id = random::guid();
    let stamp = format!(
        "RequestId:{request_id}\nTime:{}",
        xml::http_date(world.now())
    );
    let call = Call::parse(&http, door);
    let endpoint = call.as_ref().map_or(Endpoint::Data, endpoint);
    let strike = world.faults.strike(endpoint).await;
    world.settle();
    let unseen = match strike {
        Strike::Work => None,
        Strike::Answer(answer) => return answer,
        Strike::WorkUnseen(seen) => Some(seen),
        Strike::WorkLater(_, seen) => return seen.answer().await,
        Strike::Throttle(limit) => {
            let mut busy = BlobError::from(Code::ServerBusy).response(door, &stamp);
            if let Some(seconds) = limit.retry_after_seconds {
                busy.headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            return busy;
        }
    };
    let body = body.map_err(|_| BlobError::from(Code::RequestBodyTooLarge));
    let answer = call.and_then(|call| perform(&world, &call, body?));
    let mut answer = answer.unwrap_or_else(|error| error.response(door, &stamp));
    if let Some(seen) = unseen {
        return seen.answer().await;
    }
    stamp_headers(&world, &http, &request_id.to_string(), &mut answer);
    answer
}

/// Which calls this one is counted with.
fn endpoint(call: &Call<'_>) -> Endpoint {
    if Operation::of(call) == Operation::GetUserDelegationKey {
        Endpoint::DelegationKey
    } else if shared_key::credentials(call).is_some() {
        Endpoint::SharedKey
    } else {
        Endpoint::Data
    }
}

/// Headers of every answer. `Date` is the simulated time.
fn stamp_headers(world: &World, http: &HttpRequest, request_id: &str, answer: &mut HttpResponse) {
    let version = http.headers().get("x-ms-version").cloned();
    let challenged = answer.status() == StatusCode::UNAUTHORIZED;
    let mut set = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            answer
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    };
    set("x-ms-request-id", HeaderValue::from_str(request_id).ok());
    set(
        "x-ms-version",
        version.or_else(|| Some(HeaderValue::from_static(DEFAULT_VERSION))),
    );
    set(
        "x-ms-client-request-id",
        http.headers().get("x-ms-client-request-id").cloned(),
    );
    set(
        DATE.as_str(),
        HeaderValue::from_str(&xml::http_date(world.now())).ok(),
    );
    if challenged {
        let challenge = format!(
            "Bearer authorization_uri={}{}/oauth2/authorize resource_id=https://storage.azure.com",
            world.entra.authority,
            world.storage.trusted_tenant(http),
        );
        set(
            WWW_AUTHENTICATE.as_str(),
            HeaderValue::from_str(&challenge).ok(),
        );
    }
}

/// Every operation the simulated storage tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    GetUserDelegationKey,
    /// Anything else on the account, or on a container itself.
    Management,
    ListBlobs,
    Read,
    PutBlob,
    PutBlock,
    PutBlockList,
    DeleteBlob,
    ListPaths,
    CreatePath,
    AppendPath,
    FlushPath,
    DeletePath,
    /// A real operation that the simulator lacks.
    Other,
}

impl Operation {
    fn of(call: &Call<'_>) -> Self {
        let method = call.http.method().as_str();
        let (comp, restype) = (call.parameter("comp"), call.parameter("restype"));
        if call.container.is_empty() {
            return match (method, restype, comp) {
                ("POST", "service", "userdelegationkey") => Self::GetUserDelegationKey,
                _ => Self::Management,
            };
        }
        match (call.door, call.path.is_empty()) {
            (Door::Blob, true) => match (method, restype, comp) {
                ("GET", "container", "list") => Self::ListBlobs,
                _ => Self::Management,
            },
            (Door::Blob, false) => match (method, comp) {
                ("GET" | "HEAD", "") => Self::Read,
                ("PUT", "") => Self::PutBlob,
                ("PUT", "block") => Self::PutBlock,
                ("PUT", "blocklist") => Self::PutBlockList,
                ("DELETE", "") => Self::DeleteBlob,
                _ => Self::Other,
            },
            (Door::Dfs, true) => match (method, call.parameter("resource")) {
                ("GET", "filesystem") => Self::ListPaths,
                _ => Self::Management,
            },
            (Door::Dfs, false) => match (method, call.parameter("action")) {
                ("GET" | "HEAD", "" | "getStatus") => Self::Read,
                ("PUT", "") => Self::CreatePath,
                ("PATCH", "append") => Self::AppendPath,
                ("PATCH", "flush") => Self::FlushPath,
                ("DELETE", "") => Self::DeletePath,
                _ => Self::Other,
            },
        }
    }
}

fn perform(world: &World, call: &Call<'_>, body: Bytes) -> Result<HttpResponse, BlobError> {
    let now = world.now();
    let operation = Operation::of(call);
    let mut accounts = world.storage.accounts();
    let account = accounts
        .get_mut(&call.account)
        .ok_or(Code::ResourceNotFound)?;
    if account.resource.network_denies() {
        return Err(Code::AuthorizationFailure.into());
    }
    if operation == Operation::GetUserDelegationKey {
        return get_user_delegation_key(world, call, account, &body);
    }
    let listed = match operation {
        Operation::ListBlobs => call.parameter("prefix"),
        Operation::ListPaths => call.parameter("directory").trim_matches('/'),
        _ => "",
    };
    let access = access::authorize(world, call, listed, account)?;
    if call.door == Door::Dfs && !account.hierarchical_namespace {
        return Err(Code::NotImplemented.into());
    }
    match operation {
        Operation::Read => match call.door {
            Door::Blob => operations::read(account, call, &access, Code::BlobNotFound),
            Door::Dfs => operations::read(account, call, &access, Code::PathNotFound),
        },
        Operation::ListBlobs => operations::list(account, call, &access, &world.storage.blob),
        Operation::PutBlob => operations::put_blob(account, call, &access, body, now),
        Operation::PutBlock => operations::put_block(account, call, &access, body),
        Operation::PutBlockList => operations::put_block_list(account, call, &access, &body, now),
        Operation::DeleteBlob => operations::delete(account, call, &access),
        Operation::ListPaths => paths::list(account, call, &access, listed),
        Operation::CreatePath => paths::create(account, call, &access, now),
        Operation::AppendPath => paths::append(account, call, &access, &body),
        Operation::FlushPath => paths::flush(account, call, &access, now),
        Operation::DeletePath => paths::delete(account, call, &access),
        Operation::Management if access.by_account_key => {
            service::manage(account, call, &world.storage.blob, now)
        }
        // Accounts and containers themselves take a key, never a user-delegation SAS.
        Operation::Management if access.signed_version.is_some() => {
            Err(Code::AuthorizationFailure.into())
        }
        Operation::Management | Operation::Other | Operation::GetUserDelegationKey => {
            Err(Code::NotImplemented.into())
        }
    }
}

fn get_user_delegation_key(
    world: &World,
    call: &Call<'_>,
    account: &mut Account,
    body: &[u8],
) -> Result<HttpResponse, BlobError> {
    let now = world.now();
    if !call.parameter("sig").is_empty() {
        return Err(Code::AuthorizationFailure.into());
    }
    let bearer = access::require_bearer(world, call, account)?;
    if !account.may_fetch_key(bearer.object_id) {
        return Err(Code::AuthorizationPermissionMismatch.into());
    }
    let version = call
        .header("x-ms-version")
        .ok_or(Code::InvalidHeaderValue)?;
    let info = xml::read_key_info(body)?;
    info.check(version, now)?;
    let foreign = info
        .delegated_tenant_id
        .is_some_and(|tenant| tenant != account.tenant_id);
    if foreign && !account.allow_cross_tenant_delegation_sas {
        return Err(Code::AuthorizationFailure.into());
    }
    let id = KeyId {
        object_id: bearer.object_id,
        tenant_id: bearer.tenant_id,
        start: info.start,
        expiry: info.expiry,
        version: version.into(),
        delegated_tenant_id: info.delegated_tenant_id,
    };
    let value = account.delegation_keys.issue(id.clone(), now)?;
    let body = xml::user_delegation_key(&id, value);
    Ok(HttpResponse::Ok()
        .content_type("application/xml")
        .body(body))
}
