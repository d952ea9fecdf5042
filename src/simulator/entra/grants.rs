//! The token endpoint's decision: a form in, the token's description or Entra's refusal out.
//!
//! Two grants: `client_credentials` with a secret, and `password` (ROPC), so that a demo or a test
//! can sign a user in without a browser. Pure; signing is in `keys`, HTTP in `endpoints`.

use std::collections::HashMap;

use super::super::spec::{ApplicationSpec, TenantSpec, TokenVersion};
use super::directory::{self, Resource};
use super::errors::EntraError;
use super::tokens::{Subject, TokenSpec};

/// Scopes of OpenID Connect itself: asked for by many clients, no API's business.
const OPENID_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// The scope that stands for "everything the client was given on this resource".
const DEFAULT_SCOPE: &str = ".default";

/// The fields of the form, decoded.
pub(super) type Form = HashMap<String, String>;

/// Decides one request to a tenant's token endpoint.
pub(super) fn decide(tenant: &TenantSpec, form: &Form) -> Result<TokenSpec, EntraError> {
    match field(form, "grant_type")? {
        "client_credentials" => client_credentials(tenant, form),
        "password" => password(tenant, form),
        _ => Err(EntraError::UnsupportedGrantType),
    }
}

fn client_credentials(tenant: &TenantSpec, form: &Form) -> Result<TokenSpec, EntraError> {
    let client = authenticated_client(tenant, form)?;
    if client.secrets.is_empty() {
        return Err(EntraError::MissingClientSecret);
    }
    let scope = field(form, "scope")?;
    let identifier = scope
        .strip_suffix(DEFAULT_SCOPE)
        .and_then(|prefix| prefix.strip_suffix('/'))
        .filter(|_| !scope.contains(' '))
        .ok_or_else(|| EntraError::ScopeNotDefault(scope.into()))?;
    let resource = find_resource(tenant, identifier)?;
    let audience = audience(&resource, identifier);
    let mut token = TokenSpec::application(tenant.id, client.object_id, audience);
    token.client_id = client.client_id;
    token.roles = directory::app_roles(&resource.api, client.object_id, &client.groups);
    token.groups = resource.api.emits_groups.then(|| client.groups.clone());
    Ok(shaped_for(token, &resource))
}

fn password(tenant: &TenantSpec, form: &Form) -> Result<TokenSpec, EntraError> {
    let client = authenticated_client(tenant, form)?;
    let (identifier, scopes) = asked_scopes(field(form, "scope")?)?;
    let resource = find_resource(tenant, &identifier)?;
    let user = directory::user(tenant, field(form, "username")?, field(form, "password")?)
        .ok_or(EntraError::WrongPassword)?;
    let scopes = granted_scopes(&resource, scopes)?;
    let audience = audience(&resource, &identifier);
    let mut token = TokenSpec::user(tenant.id, user.object_id, audience);
    token.client_id = client.client_id;
    token.client_authenticated = !client.secrets.is_empty();
    token.subject = Subject::User {
        object_id: user.object_id,
        user_name: user.user_name.clone(),
        scopes,
    };
    token.roles = directory::app_roles(&resource.api, user.object_id, &user.groups);
    token.groups = resource.api.emits_groups.then(|| user.groups.clone());
    Ok(shaped_for(token, &resource))
}

/// The client, its secret checked if it has one.
fn authenticated_client<'a>(
    tenant: &'a TenantSpec,
    form: &Form,
) -> Result<&'a ApplicationSpec, EntraError> {
    let client_id = field(form, "client_id")?;
    let client = directory::application(tenant, client_id)
        .ok_or_else(|| EntraError::UnknownClient(client_id.into()))?;
    if client.secrets.is_empty() {
        return Ok(client);
    }
    let shown = form
        .get("client_secret")
        .ok_or(EntraError::MissingClientSecret)?;
    if directory::has_secret(client, shown) {
        Ok(client)
    } else {
        Err(EntraError::WrongClientSecret)
    }
}

/// Splits `api://x/read api://x/write openid` into the one resource and the scope names.
fn asked_scopes(scope: &str) -> Result<(String, Vec<String>), EntraError> {
    let mut asked: Option<(String, Vec<String>)> = None;
    for one in scope
        .split_whitespace()
        .filter(|one| !OPENID_SCOPES.contains(one))
    {
        let invalid = || EntraError::InvalidScope(one.into());
        let (resource, name) = one.rsplit_once('/').ok_or_else(invalid)?;
        let (known, names) = asked.get_or_insert_with(|| (resource.into(), Vec::new()));
        if known != resource {
            return Err(invalid());
        }
        names.push(name.into());
    }
    asked.ok_or_else(|| EntraError::InvalidScope(scope.into()))
}

fn granted_scopes(resource: &Resource, asked: Vec<String>) -> Result<Vec<String>, EntraError> {
    if asked.iter().any(|name| name == DEFAULT_SCOPE) {
        return Ok(resource.api.scopes.clone());
    }
    match asked
        .iter()
        .find(|name| !resource.api.scopes.contains(name))
    {
        Some(unknown) => Err(EntraError::InvalidScope(unknown.clone())),
        None => Ok(asked),
    }
}

fn find_resource(tenant: &TenantSpec, identifier: &str) -> Result<Resource, EntraError> {
    directory::resource(tenant, identifier)
        .ok_or_else(|| EntraError::UnknownResource(identifier.into()))
}

/// A v1 token repeats the identifier it was asked with; a v2 token always names the client id.
fn audience(resource: &Resource, identifier: &str) -> String {
    match resource.api.accepted_token_version {
        TokenVersion::V1 => identifier.into(),
        TokenVersion::V2 => resource.client_id.to_string(),
    }
}

fn shaped_for(token: TokenSpec, resource: &Resource) -> TokenSpec {
    TokenSpec {
        version: resource.api.accepted_token_version,
        with_idtyp: resource.api.emits_idtyp,
        ..token
    }
}

fn field<'a>(form: &'a Form, name: &'static str) -> Result<&'a str, EntraError> {
    form.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .ok_or(EntraError::MissingParameter(name))
}
