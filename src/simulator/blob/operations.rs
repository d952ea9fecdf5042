//! The blob endpoint's operations on data: read, write, delete and list blobs.
//!
//! Each one demands its letters before it looks at anything a stranger should not learn. The dfs
//! endpoint's operations are in `paths`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, LAST_MODIFIED};
use actix_web::web::Bytes;
use time::OffsetDateTime;
use url::Url;

use super::access::Access;
use super::container::{Account, BLOB_BYTES_MAX, Content, Entry, Properties};
use super::errors::{BlobError, Code};
use super::listing::{Listing, PAGE_MOST};
use super::request::Call;
use super::{conditions, xml};

/// The service version from which the letter `c` also covers uploads in blocks.
const CREATE_COVERS_BLOCKS_SINCE: &str = "2026-04-06";

/// What the blob endpoint puts before the name of a header that describes the blob.
const BLOB_PREFIX: &str = "x-ms-blob-";

/// Content headers kept with a blob, by their plain name.
const KEPT_HEADERS: [&str; 5] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
];

/// Get Blob and Get Blob Properties. The body of a HEAD is dropped by the HTTP layer, which keeps
/// its length.
pub(crate) fn read(
    account: &Account,
    call: &Call<'_>,
    access: &Access,
    missing: Code,
) -> Result<HttpResponse, BlobError> {
    access.demand("r")?;
    // Snapshots and versions are verified in tokens, but the simulator keeps none.
    let historic =
        !call.parameter("snapshot").is_empty() || !call.parameter("versionid").is_empty();
    let entry = account.container(&call.container)?.entries.get(&call.path);
    let entry = entry.filter(|_| !historic).ok_or(missing)?;
    if conditions::is_unchanged(call, entry) {
        return Ok(HttpResponse::NotModified().finish());
    }
    conditions::check_read(call, entry)?;
    let bytes = entry.bytes();
    let mut answer = HttpResponse::Ok();
    entry_headers(&mut answer, account, entry);
    for (name, value) in &access.response_headers {
        answer.insert_header((*name, value.as_str()));
    }
    match conditions::range(call, bytes.len())? {
        None => Ok(answer.body(bytes)),
        Some((first, last)) => {
            let range = format!("bytes {first}-{last}/{}", bytes.len());
            answer
                .status(StatusCode::PARTIAL_CONTENT)
                .insert_header(("content-range", range));
            Ok(answer.body(bytes.slice(first..=last)))
        }
    }
}

fn entry_headers(answer: &mut actix_web::HttpResponseBuilder, account: &Account, entry: &Entry) {
    answer
        .insert_header((ETAG, entry.etag.as_str()))
        .insert_header((LAST_MODIFIED, xml::http_date(entry.modified)))
        .insert_header(("x-ms-creation-time", xml::http_date(entry.created)))
        .insert_header(("accept-ranges", "bytes"))
        .insert_header(("x-ms-blob-type", "BlockBlob"))
        .insert_header(("x-ms-lease-status", "unlocked"))
        .insert_header(("x-ms-lease-state", "available"))
        .insert_header(("x-ms-server-encrypted", "true"));
    if account.hierarchical_namespace {
        let kind = if entry.is_directory() {
            "directory"
        } else {
            "file"
        };
        answer.insert_header(("x-ms-resource-type", kind));
        if entry.is_directory() {
            answer.insert_header(("x-ms-meta-hdi_isfolder", "true"));
        }
    }
    for (name, value) in &entry.properties.headers {
        answer.insert_header((name.as_str(), value.as_str()));
    }
    for (name, value) in &entry.properties.metadata {
        answer.insert_header((format!("x-ms-meta-{name}"), value.as_str()));
    }
}

/// Put Blob, for block blobs.
pub(crate) fn put_blob(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    body: Bytes,
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    demand_write(account, call, access, "cw")?;
    if call.header("x-ms-copy-source").is_some() {
        return Err(Code::NotImplemented.into());
    }
    match call.header("x-ms-blob-type") {
        Some("BlockBlob") => {}
        Some("AppendBlob" | "PageBlob") => return Err(Code::NotImplemented.into()),
        _ => return Err(Code::InvalidHeaderValue.into()),
    }
    let properties = kept_properties(call, &[BLOB_PREFIX, ""]);
    commit(account, call, body, properties, now)
}

/// Put Block: keeps the bytes aside until a block list names them.
pub(crate) fn put_block(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    body: Bytes,
) -> Result<HttpResponse, BlobError> {
    demand_write(account, call, access, block_letters(access))?;
    let id = call.parameter("blockid");
    if id.is_empty() {
        return Err(Code::InvalidQueryParameterValue.into());
    }
    account.demand_room(body.len())?;
    let container = account.container_mut(&call.container)?;
    let staged = container.staged.entry(call.path.clone()).or_default();
    if staged.len() + body.len() > BLOB_BYTES_MAX {
        return Err(Code::RequestBodyTooLarge.into());
    }
    staged.blocks.insert(id.into(), body);
    Ok(HttpResponse::Created().finish())
}

/// Put Block List. Only blocks staged since the last commit can be named.
pub(crate) fn put_block_list(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
    body: &[u8],
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    demand_write(account, call, access, block_letters(access))?;
    let mut bytes = Vec::new();
    for id in xml::read_block_list(body)? {
        let staged = account.container(&call.container)?.staged.get(&call.path);
        let block = staged.and_then(|staged| staged.blocks.get(&id));
        bytes.extend_from_slice(block.ok_or(Code::InvalidBlockList)?);
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(Code::RequestBodyTooLarge.into());
        }
    }
    // The plain `Content-Type` describes the list here, not the blob.
    let properties = kept_properties(call, &[BLOB_PREFIX]);
    commit(account, call, bytes.into(), properties, now)
}

fn block_letters(access: &Access) -> &'static str {
    // A bearer token has no signed version; its roles hold `w` whenever they hold `c`.
    let version = access.signed_version.as_deref();
    if version >= Some(CREATE_COVERS_BLOCKS_SINCE) {
        "cw"
    } else {
        "w"
    }
}

/// `w` always suffices; other letters only where nothing is overwritten.
fn demand_write(
    account: &Account,
    call: &Call<'_>,
    access: &Access,
    when_new: &str,
) -> Result<(), BlobError> {
    let container = account.containers.get(&call.container);
    let exists = container.is_some_and(|held| held.entries.contains_key(&call.path));
    access.demand(if exists { "w" } else { when_new })
}

fn commit(
    account: &mut Account,
    call: &Call<'_>,
    bytes: Bytes,
    properties: Properties,
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    account.demand_room(bytes.len())?;
    let before = account.container(&call.container)?.entries.get(&call.path);
    conditions::check_write(call, before, Code::BlobAlreadyExists)?;
    let entry = account.entry(Content::File(bytes), properties, now);
    let answer = written(StatusCode::CREATED, &entry);
    account.store(&call.container, &call.path, entry, now)?;
    Ok(answer)
}

/// The answer to a write: what the entry is now.
pub(crate) fn written(status: StatusCode, entry: &Entry) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((ETAG, entry.etag.as_str()))
        .insert_header((LAST_MODIFIED, xml::http_date(entry.modified)))
        .insert_header(("x-ms-request-server-encrypted", "true"))
        .finish()
}

/// The content headers and metadata of a write. A header counts under the first of `prefixes`
/// that the request has it with; the empty prefix is the request's own `Content-Type` and so on.
pub(crate) fn kept_properties(call: &Call<'_>, prefixes: &[&str]) -> Properties {
    let mut properties = Properties::default();
    for name in KEPT_HEADERS {
        let mut values = prefixes
            .iter()
            .filter_map(|prefix| call.header(&format!("{prefix}{name}")));
        if let Some(value) = values.find(|value| !value.is_empty()) {
            properties.headers.push((name.into(), value.into()));
        }
    }
    if properties.header("content-type").is_empty() {
        properties
            .headers
            .push(("content-type".into(), "application/octet-stream".into()));
    }
    for (name, value) in call.http.headers() {
        if let (Some(name), Ok(value)) = (name.as_str().strip_prefix("x-ms-meta-"), value.to_str())
        {
            properties.metadata.push((name.into(), value.into()));
        }
    }
    properties
}

/// Delete Blob.
pub(crate) fn delete(
    account: &mut Account,
    call: &Call<'_>,
    access: &Access,
) -> Result<HttpResponse, BlobError> {
    access.demand("d")?;
    let container = account.container_mut(&call.container)?;
    let entry = container
        .entries
        .get(&call.path)
        .ok_or(Code::BlobNotFound)?;
    conditions::check_read(call, entry)?;
    if entry.is_directory() && container.has_children(&call.path) {
        return Err(Code::DirectoryNotEmpty.into());
    }
    container.entries.remove(&call.path);
    Ok(HttpResponse::Accepted().finish())
}

/// List Blobs.
pub(crate) fn list(
    account: &Account,
    call: &Call<'_>,
    access: &Access,
    endpoint: &Url,
) -> Result<HttpResponse, BlobError> {
    access.demand("l")?;
    let listing = Listing {
        prefix: call.parameter("prefix"),
        delimiter: call.parameter("delimiter"),
        marker: call.parameter("marker"),
        page_size: page_size(call, "maxresults")?,
        directory: access.directory.as_deref(),
    };
    let page = listing.page(account.container(&call.container)?);
    let body = xml::blob_list(endpoint, &call.container, &listing, &page);
    Ok(HttpResponse::Ok()
        .content_type("application/xml")
        .body(body))
}

/// The page size a client asked for, at most [`PAGE_MOST`].
pub(crate) fn page_size(call: &Call<'_>, parameter: &str) -> Result<usize, BlobError> {
    match call.parameter(parameter) {
        "" => Ok(PAGE_MOST),
        text => match text.parse::<usize>() {
            Ok(asked) if asked > 0 => Ok(asked.min(PAGE_MOST)),
            _ => Err(Code::InvalidQueryParameterValue.into()),
        },
    }
}
