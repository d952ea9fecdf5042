//! The XML documents of the blob endpoint: reading the two small bodies, writing the two answers.
//!
//! Written by hand because the service's element order and spelling are the contract.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use url::Url;
use uuid::Uuid;

use super::container::Entry;
use super::delegation_key::{KeyId, KeyInfo};
use super::errors::{BlobError, Code};
use super::listing::{Listing, Page};
use super::sas::parse_time;

/// Most elements read from one document: a block list may name this many blocks.
const ELEMENTS_MOST: usize = 50_000;

/// Reads the body of Get User Delegation Key.
pub(crate) fn read_key_info(body: &[u8]) -> Result<KeyInfo, BlobError> {
    let elements = leaf_elements(body)?;
    let text = |name: &str| {
        elements
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, text)| text)
    };
    let time = |name: &str| {
        let text = text(name).ok_or(Code::MissingRequiredXmlNode)?;
        let parsed = OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .or_else(|| parse_time(text));
        let time = parsed
            .ok_or(Code::InvalidXmlNodeValue)?
            .to_offset(UtcOffset::UTC);
        // The service hands out whole seconds, and the key is looked up by what it handed out.
        Ok::<_, Code>(
            time.replace_nanosecond(0)
                .expect("zero is a legal nanosecond"),
        )
    };
    let delegated_tenant_id = match text("DelegatedUserTid") {
        None => None,
        Some(text) => Some(Uuid::try_parse(text).map_err(|_| Code::InvalidXmlNodeValue)?),
    };
    Ok(KeyInfo {
        start: time("Start")?,
        expiry: time("Expiry")?,
        delegated_tenant_id,
    })
}

/// Reads the block ids of Put Block List, in order.
pub(crate) fn read_block_list(body: &[u8]) -> Result<Vec<String>, BlobError> {
    let elements = leaf_elements(body)?;
    Ok(elements
        .into_iter()
        .filter(|(name, _)| matches!(name.as_str(), "Latest" | "Uncommitted" | "Committed"))
        .map(|(_, text)| text)
        .collect())
}

/// Name and text of every element without children, in document order.
fn leaf_elements(body: &[u8]) -> Result<Vec<(String, String)>, BlobError> {
    let invalid = || BlobError::from(Code::InvalidXmlDocument);
    let text = std::str::from_utf8(body).map_err(|_| invalid())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let (mut leaves, mut open) = (Vec::new(), None);
    loop {
        match reader.read_event().map_err(|_| invalid())? {
            Event::Start(start) => {
                open = Some((start.local_name().as_ref().to_owned(), String::new()));
            }
            Event::Text(text) => {
                if let Some((_, held)) = &mut open {
                    held.push_str(&text);
                }
            }
            Event::End(_) => leaves.extend(open.take()),
            Event::Eof => return Ok(leaves),
            // No value in these two documents needs an entity; refusing them closes that door.
            Event::GeneralRef(_) | Event::DocType(_) => return Err(invalid()),
            _ => {}
        }
        if leaves.len() > ELEMENTS_MOST {
            return Err(invalid());
        }
    }
}

/// The answer to Get User Delegation Key.
pub(crate) fn user_delegation_key(id: &KeyId, value: &[u8; 32]) -> String {
    let delegated = id
        .delegated_tenant_id
        .map(|tenant| format!("<SignedDelegatedUserTid>{tenant}</SignedDelegatedUserTid>"));
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey><SignedOid>{}</SignedOid>\
         <SignedTid>{}</SignedTid><SignedStart>{}</SignedStart><SignedExpiry>{}</SignedExpiry>\
         <SignedService>b</SignedService><SignedVersion>{}</SignedVersion>{}<Value>{}</Value>\
         </UserDelegationKey>",
        id.object_id,
        id.tenant_id,
        whole_seconds(id.start),
        whole_seconds(id.expiry),
        id.version,
        delegated.unwrap_or_default(),
        STANDARD.encode(value),
    )
}

/// The answer to List Blobs.
pub(crate) fn blob_list(
    endpoint: &Url,
    container: &str,
    listing: &Listing<'_>,
    page: &Page<'_>,
) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"{}\" \
         ContainerName=\"{}\">",
        escape(endpoint.as_str()),
        escape(container)
    );
    element(&mut xml, "Prefix", listing.prefix);
    element(&mut xml, "Marker", listing.marker);
    element(&mut xml, "MaxResults", &listing.page_size.to_string());
    element(&mut xml, "Delimiter", listing.delimiter);
    xml.push_str("<Blobs>");
    for (name, entry) in &page.items {
        match entry {
            Some(entry) => blob(&mut xml, name, entry),
            None => {
                xml.push_str("<BlobPrefix>");
                element(&mut xml, "Name", name);
                xml.push_str("</BlobPrefix>");
            }
        }
    }
    xml.push_str("</Blobs>");
    element(
        &mut xml,
        "NextMarker",
        page.next.as_deref().unwrap_or_default(),
    );
    xml.push_str("</EnumerationResults>");
    xml
}

fn blob(xml: &mut String, name: &str, entry: &Entry) {
    xml.push_str("<Blob>");
    element(xml, "Name", name);
    xml.push_str("<Properties>");
    element(xml, "Creation-Time", &http_date(entry.created));
    element(xml, "Last-Modified", &http_date(entry.modified));
    element(xml, "Etag", entry.etag.trim_matches('"'));
    if entry.is_directory() {
        element(xml, "ResourceType", "directory");
    }
    element(xml, "Content-Length", &entry.bytes().len().to_string());
    for (tag, header) in [
        ("Content-Type", "content-type"),
        ("Content-Encoding", "content-encoding"),
        ("Content-Language", "content-language"),
        ("Cache-Control", "cache-control"),
        ("Content-Disposition", "content-disposition"),
    ] {
        element(xml, tag, entry.properties.header(header));
    }
    element(xml, "BlobType", "BlockBlob");
    element(xml, "AccessTier", "Hot");
    element(xml, "LeaseStatus", "unlocked");
    element(xml, "LeaseState", "available");
    element(xml, "ServerEncrypted", "true");
    xml.push_str("</Properties></Blob>");
}

fn element(xml: &mut String, name: &str, text: &str) {
    if text.is_empty() {
        write!(xml, "<{name} />")
    } else {
        write!(xml, "<{name}>{}</{name}>", escape(text))
    }
    .expect("writing to a string cannot fail");
}

/// `Mon, 23 Nov 2026 10:00:00 GMT`.
pub(crate) fn http_date(time: OffsetDateTime) -> String {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = time.to_offset(UtcOffset::UTC);
    time.format(form)
        .expect("the format needs only what an instant has")
}

/// `2026-11-23T10:00:00Z`.
fn whole_seconds(time: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.format(form)
        .expect("the format needs only what an instant has")
}
