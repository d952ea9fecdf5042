//! Conditional and range headers of a data request.

use super::container::Entry;
use super::errors::{BlobError, Code};
use super::request::Call;

/// `If-Match` of a read or a delete.
pub(crate) fn check_read(call: &Call<'_>, entry: &Entry) -> Result<(), BlobError> {
    match call.header("if-match") {
        Some(tag) if !names(tag, entry) => Err(Code::ConditionNotMet.into()),
        _ => Ok(()),
    }
}

/// Whether `If-None-Match` of a read names the entry: the client has it already.
pub(crate) fn is_unchanged(call: &Call<'_>, entry: &Entry) -> bool {
    call.header("if-none-match")
        .is_some_and(|tag| names(tag, entry))
}

/// `If-Match` and `If-None-Match` of a write over `before`. `exists` is the endpoint's word for
/// "there is one already" when the client asked to create only.
pub(crate) fn check_write(
    call: &Call<'_>,
    before: Option<&Entry>,
    exists: Code,
) -> Result<(), BlobError> {
    let names_before = |tag: &str| before.is_some_and(|entry| names(tag, entry));
    match call.header("if-none-match") {
        Some("*") if before.is_some() => return Err(exists.into()),
        Some(tag) if names_before(tag) => return Err(Code::ConditionNotMet.into()),
        _ => {}
    }
    match call.header("if-match") {
        Some(tag) if !names_before(tag) => Err(Code::ConditionNotMet.into()),
        _ => Ok(()),
    }
}

fn names(tag: &str, entry: &Entry) -> bool {
    tag == "*" || tag.trim_matches('"') == entry.etag.trim_matches('"')
}

/// The bytes asked for, first and last included, of a blob of `length` bytes; `None` is all of
/// it. `x-ms-range` wins over `Range`; a form other than `bytes=first-[last]` is ignored, as HTTP
/// demands.
pub(crate) fn range(call: &Call<'_>, length: usize) -> Result<Option<(usize, usize)>, BlobError> {
    let header = call.header("x-ms-range").or_else(|| call.header("range"));
    let Some((first, last)) = header.and_then(parse_range) else {
        return Ok(None);
    };
    if first >= length || last.is_some_and(|last| last < first) {
        return Err(Code::InvalidRange.into());
    }
    Ok(Some((
        first,
        last.map_or(length - 1, |last| last.min(length - 1)),
    )))
}

fn parse_range(header: &str) -> Option<(usize, Option<usize>)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    Some((first.parse().ok()?, last))
}
