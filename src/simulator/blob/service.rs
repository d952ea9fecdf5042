//! The blob endpoint's operations on an account and on a container itself: what they are, which
//! containers there are, making and removing one. Only an account key opens them here.

use std::fmt::Write as _;

use actix_web::http::header::{ETAG, LAST_MODIFIED};
use actix_web::{HttpResponse, HttpResponseBuilder};
use quick_xml::escape::escape;
use time::OffsetDateTime;
use url::Url;

use super::container::{Account, Container};
use super::errors::{BlobError, Code};
use super::listing::PAGE_MOST;
use super::operations::page_size;
use super::request::{Call, Door};
use super::xml;

/// Carries one of them out. The dfs endpoint has other words for them and is not simulated.
pub(crate) fn manage(
    account: &mut Account,
    call: &Call<'_>,
    endpoint: &Url,
    now: OffsetDateTime,
) -> Result<HttpResponse, BlobError> {
    if call.door == Door::Dfs {
        return Err(Code::NotImplemented.into());
    }
    let method = call.http.method().as_str();
    let (restype, comp) = (call.parameter("restype"), call.parameter("comp"));
    match (method, restype, comp, call.container.is_empty()) {
        ("GET" | "HEAD", "account", "properties", _) => Ok(account_information(account)),
        ("GET", "service", "properties", true) => Ok(document(SERVICE_PROPERTIES.into())),
        ("GET", "", "list", true) => list_containers(account, call, endpoint),
        ("GET" | "HEAD", "container", "", false) => {
            let container = account.container(&call.container)?;
            let mut answer = HttpResponse::Ok();
            container_headers(&mut answer, container);
            Ok(answer.finish())
        }
        ("PUT", "container", "", false) => {
            if account.containers.contains_key(&call.container) {
                return Err(Code::ContainerAlreadyExists.into());
            }
            account.create_container(call.container.clone(), now);
            let mut answer = HttpResponse::Created();
            container_headers(&mut answer, account.container(&call.container)?);
            Ok(answer.finish())
        }
        ("DELETE", "container", "", false) => {
            account.container(&call.container)?;
            account.containers.remove(&call.container);
            Ok(HttpResponse::Accepted().finish())
        }
        _ => Err(Code::NotImplemented.into()),
    }
}

/// Get Blob Service Properties: what an account has whose properties nobody has set.
const SERVICE_PROPERTIES: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <StorageServiceProperties><Logging><Version>1.0</Version><Read>false</Read>\
    <Write>false</Write><Delete>false</Delete><RetentionPolicy><Enabled>false</Enabled>\
    </RetentionPolicy></Logging><HourMetrics><Version>1.0</Version><Enabled>false</Enabled>\
    <RetentionPolicy><Enabled>false</Enabled></RetentionPolicy></HourMetrics><MinuteMetrics>\
    <Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>false</Enabled>\
    </RetentionPolicy></MinuteMetrics><Cors /><DeleteRetentionPolicy><Enabled>false</Enabled>\
    </DeleteRetentionPolicy><StaticWebsite><Enabled>false</Enabled></StaticWebsite>\
    </StorageServiceProperties>";

fn document(xml: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/xml").body(xml)
}

fn account_information(account: &Account) -> HttpResponse {
    let hierarchical = account.hierarchical_namespace.to_string();
    HttpResponse::Ok()
        .insert_header(("x-ms-sku-name", "Standard_LRS"))
        .insert_header(("x-ms-account-kind", "StorageV2"))
        .insert_header(("x-ms-is-hns-enabled", hierarchical))
        .finish()
}

fn container_headers(answer: &mut HttpResponseBuilder, container: &Container) {
    answer
        .insert_header((ETAG, etag(container)))
        .insert_header((LAST_MODIFIED, xml::http_date(container.created)))
        .insert_header(("x-ms-lease-status", "unlocked"))
        .insert_header(("x-ms-lease-state", "available"))
        .insert_header(("x-ms-has-immutability-policy", "false"))
        .insert_header(("x-ms-has-legal-hold", "false"));
}

/// With its quotes. A container here never changes, so its birth tells it from any of its name.
fn etag(container: &Container) -> String {
    format!("\"0x{:016X}\"", container.created.unix_timestamp())
}

/// List Containers: names after the marker, at most a page of them.
fn list_containers(
    account: &Account,
    call: &Call<'_>,
    endpoint: &Url,
) -> Result<HttpResponse, BlobError> {
    let (prefix, marker) = (call.parameter("prefix"), call.parameter("marker"));
    let size = page_size(call, "maxresults")?.min(PAGE_MOST);
    let mut rest = account
        .containers
        .iter()
        .filter(|(name, _)| name.starts_with(prefix) && name.as_str() >= marker);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"{}\">\
         <Prefix>{}</Prefix><MaxResults>{size}</MaxResults><Containers>",
        escape(endpoint.as_str()),
        escape(prefix),
    );
    for (name, container) in rest.by_ref().take(size) {
        write!(
            xml,
            "<Container><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified>\
             <Etag>{}</Etag><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>\
             <HasImmutabilityPolicy>false</HasImmutabilityPolicy><HasLegalHold>false</HasLegalHold>\
             </Properties></Container>",
            escape(name.as_str()),
            xml::http_date(container.created),
            etag(container).trim_matches('"'),
        )
        .expect("writing to a string cannot fail");
    }
    let next = rest.next().map_or("", |(name, _)| name);
    write!(
        xml,
        "</Containers><NextMarker>{}</NextMarker></EnumerationResults>",
        escape(next)
    )
    .expect("writing to a string cannot fail");
    Ok(document(xml))
}
