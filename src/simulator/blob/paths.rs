//! The dfs endpoint's operations, as far as a directory SAS needs them: create, append, flush,
//! list and delete paths. Reading is `operations::read`, the same as on the blob endpoint.
//!
//! Not here: rename, ACLs, leases.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::access::Access;
use super::container::{Account, BLOB_BYTES_MAX, Container, Content, Entry};
use super::errors::{BlobError, Code};
use super::listing::Listing;
use super::operations::{kept_properties, page_size, written};
use super::request::Call;
use super::{conditions, xml};

/// Path Create: an empty file or a directory.
pub(crate) fn create(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    let before = account
        .containers
        .get(&call.container)
        .and_then(|c| c.entries.get(&call.path));
    access.demand(if before.is_some() { "w" } else { "cw" })?;
    if call.header("x-ms-rename-source").is_some() {
        return Err(Code::NotImplemented.into());
    }
    let content = match call.parameter("resource") {
        "file" => Content::File(actix_web::web::Bytes::new()),
        "directory" => Content::Directory,
        _ => return Err(Code::InvalidQueryParameterValue.into()),
    };
    let container = account.container(&call.container).map_err(as_filesystem)?;
    let before = container.entries.get(&call.path);
    conditions::check_write(call, before, Code::PathAlreadyExists)?;
    if before.is_some_and(Entry::is_directory) && matches!(content, Content::File(_)) {
        return Err(Code::PathAlreadyExists.into());
    }
    let entry = account.entry(content, kept_properties(call, &["x-ms-"]), now);
    let answer = written(StatusCode::CREATED, &entry);
    account.store(&call.container, &call.path, entry, now)?;
    Ok(answer)
}

/// Path Update, action append: bytes that wait for a flush.
pub(crate) fn append(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    body: &[u8],
) -> Result<HttpResponse, BlobError> {
    access.demand("aw")?;
    account.demand_room(body.len())?;
    let container = account
        .container_mut(&call.container)
        .map_err(as_filesystem)?;
    let length = file(container, &call.path)?.bytes().len();
    let staged = container.staged.entry(call.path.clone()).or_default();
    if position(call)? != length + staged.appended.len() {
        return Err(Code::InvalidFlushPosition.into());
    }
    if length + staged.len() + body.len() > BLOB_BYTES_MAX {
        return Err(Code::RequestBodyTooLarge.into());
    }
    staged.appended.extend_from_slice(body);
    Ok(HttpResponse::Accepted().finish())
}

/// Path Update, action flush: the appended bytes become part of the file.
pub(crate) fn flush(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    access.demand("aw")?;
    let container = account.container(&call.container).map_err(as_filesystem)?;
    let before = file(container, &call.path)?;
    let mut bytes = before.bytes().to_vec();
    if let Some(staged) = container.staged.get(&call.path) {
        bytes.extend_from_slice(&staged.appended);
    }
    if position(call)? != bytes.len() {
        return Err(Code::InvalidFlushPosition.into());
    }
    let properties = before.properties.clone();
    let entry = account.entry(Content::File(bytes.into()), properties, now);
    let answer = written(StatusCode::OK, &entry);
    account.store(&call.container, &call.path, entry, now)?;
    Ok(answer)
}

/// Path Delete; `recursive=true` takes what lies below along.
pub(crate) fn delete(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
) -> Result<HttpResponse, BlobError> {
    access.demand("d")?;
    let container = account
        .container_mut(&call.container)
        .map_err(as_filesystem)?;
    let entry = container
        .entries
        .get(&call.path)
        .ok_or(Code::PathNotFound)?;
    conditions::check_read(call, entry)?;
    if call.parameter("recursive") != "true" && container.has_children(&call.path) {
        return Err(Code::DirectoryNotEmpty.into());
    }
    container.remove_tree(&call.path);
    Ok(HttpResponse::Ok().finish())
}

/// Path List: everything below a directory, or only its direct children.
pub(crate) fn list(
    account: &Account,
    call: &Call<'_>,
    access: &Access,
    directory: &str,
) -> Result<HttpResponse, BlobError> {
    access.demand("l")?;
    let container = account.container(&call.container).map_err(as_filesystem)?;
    if !directory.is_empty() && !container.entries.contains_key(directory) {
        return Err(Code::PathNotFound.into());
    }
    let below = if directory.is_empty() {
        String::new()
    } else {
        format!("{directory}/")
    };
    let listing = Listing {
        prefix: &below,
        delimiter: if call.parameter("recursive") == "true" {
            ""
        } else {
            "/"
        },
        marker: call.parameter("continuation"),
        page_size: page_size(call, "maxResults")?,
        directory: access.directory.as_deref(),
    };
    let page = listing.page(container);
    let paths: Vec<Value> = page
        .items
        .iter()
        .filter_map(|(name, entry)| {
            // A name cut at the delimiter is a direct child that is a directory.
            let name = name.trim_end_matches('/');
            entry
                .or_else(|| container.entries.get(name))
                .map(|entry| path(name, entry))
        })
        .collect();
    let mut answer = HttpResponse::Ok();
    if let Some(next) = page.next {
        answer.insert_header(("x-ms-continuation", next));
    }
    Ok(answer.json(json!({ "paths": paths })))
}

fn path(name: &str, entry: &Entry) -> Value {
    let mut path = json!({
        "name": name,
        "contentLength": entry.bytes().len().to_string(),
        "etag": entry.etag.trim_matches('"'),
        "lastModified": xml::http_date(entry.modified),
        "owner": "$superuser",
        "group": "$superuser",
        "permissions": "rw-r-----",
    });
    if entry.is_directory() {
        path["isDirectory"] = json!("true");
        path["permissions"] = json!("rwxr-x---");
    }
    path
}

fn file<'c>(container: &'c Container, path: &str) -> Result<&'c Entry, BlobError> {
    let entry = container
        .entries
        .get(path)
        .filter(|entry| !entry.is_directory());
    entry.ok_or_else(|| Code::PathNotFound.into())
}

fn position(call: &Call<'_>) -> Result<usize, BlobError> {
    call.parameter("position")
        .parse()
        .map_err(|_| Code::InvalidQueryParameterValue.into())
}

/// The dfs endpoint has its own word for a missing container.
fn as_filesystem(error: BlobError) -> BlobError {
    match error.code {
        Code::ContainerNotFound => Code::FilesystemNotFound.into(),
        _ => error,
    }
}
