//! What one request may do: its SAS or its bearer token, intersected with the rights that the
//! principal behind it has on the account and the container; or anything, with an account key.

use super::super::entra::{AzureService, Bearer};
use super::super::world::World;
use super::container::Account;
use super::errors::{BlobError, Code};
use super::request::Call;
use super::sas::{self, Facts, Letters, SasToken};
use super::shared_key;

/// The rights of one request on one container.
pub(crate) struct Access {
    letters: Letters,
    /// The request is signed with an account key.
    pub(crate) by_account_key: bool,
    /// Set by a directory token: nothing outside is listed.
    pub(crate) directory: Option<String>,
    /// `sv` of the SAS; `None` for a bearer token.
    pub(crate) signed_version: Option<String>,
    /// Response headers the token overrides: name and value.
    pub(crate) response_headers: Vec<(&'static str, String)>,
}

/// Fields of a SAS that replace a header of the answer to a read.
const OVERRIDES: [(&str, &str); 5] = [
    ("rscc", "cache-control"),
    ("rscd", "content-disposition"),
    ("rsce", "content-encoding"),
    ("rscl", "content-language"),
    ("rsct", "content-type"),
];

impl Access {
    /// Demands any one of `letters`.
    pub(crate) fn demand(&self, letters: &str) -> Result<(), BlobError> {
        if self.letters.has_any(letters) {
            Ok(())
        } else {
            Err(Code::AuthorizationPermissionMismatch.into())
        }
    }
}

/// Authorizes a request on the data. With a SAS in the URL the SAS alone counts; a bearer token
/// beside it only proves the user that the SAS may be bound to.
pub(crate) fn authorize(
    world: &World,
    call: &Call<'_>,
    listed: &str,
    account: &Account,
) -> Result<Access, BlobError> {
    let Some(token) = SasToken::from_query(&call.query) else {
        let credentials = shared_key::credentials(call);
        let letters = match credentials {
            Some(credentials) => {
                shared_key::check(call, credentials, account, world.now())?;
                Letters::ALL
            }
            None => {
                let bearer = require_bearer(world, call, account)?;
                account.rights(bearer.object_id, &call.container)
            }
        };
        return Ok(Access {
            letters,
            by_account_key: credentials.is_some(),
            directory: None,
            signed_version: None,
            response_headers: Vec::new(),
        });
    };
    let facts = Facts {
        account: &call.account,
        hierarchical_namespace: account.hierarchical_namespace,
        container: &call.container,
        path: &call.path,
        listed,
        https: call.https(),
        peer: call.peer(),
        query: &call.query,
        headers: call.http.headers(),
        bearer: accepted_bearer(world, call),
        now: world.now(),
    };
    let granted = sas::check(&token, &facts, &account.delegation_keys)?;
    let own = account.rights(granted.delegator, &call.container);
    Ok(Access {
        letters: granted.letters.intersection(own),
        by_account_key: false,
        directory: granted.directory,
        signed_version: Some(token.get("sv").into()),
        response_headers: OVERRIDES
            .iter()
            .filter(|(field, _)| !token.get(field).is_empty())
            .map(|(field, header)| (*header, token.get(field).into()))
            .collect(),
    })
}

/// The principal of a bearer token that the account trusts: over TLS, for storage, and from the
/// account's own tenant.
pub(crate) fn require_bearer(
    world: &World,
    call: &Call<'_>,
    account: &Account,
) -> Result<Bearer, BlobError> {
    if call.bearer_token().is_none() {
        return Err(Code::NoAuthenticationInformation.into());
    }
    accepted_bearer(world, call)
        .filter(|bearer| bearer.tenant_id == account.tenant_id && call.https())
        .ok_or_else(|| Code::InvalidAuthenticationInfo.into())
}

fn accepted_bearer(world: &World, call: &Call<'_>) -> Option<Bearer> {
    let (token, service) = (call.bearer_token()?, AzureService::Storage);
    world.entra.bearer(token, service, world.now()).ok()
}
