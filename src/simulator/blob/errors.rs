//! Azure Storage's errors: the code table, and the XML (blob) or JSON (dfs) around a code.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use quick_xml::escape::escape;
use serde_json::json;

use super::request::Door;

/// Every error the simulated storage answers with; the names are Azure's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    AuthenticationFailed,
    AuthorizationFailure,
    AuthorizationPermissionMismatch,
    AuthorizationProtocolMismatch,
    AuthorizationSourceIpMismatch,
    BlobAlreadyExists,
    BlobNotFound,
    ConditionNotMet,
    ContainerAlreadyExists,
    ContainerNotFound,
    DirectoryNotEmpty,
    FilesystemNotFound,
    InvalidAuthenticationInfo,
    InvalidBlockList,
    InvalidFlushPosition,
    InvalidHeaderValue,
    InvalidQueryParameterValue,
    InvalidRange,
    InvalidUri,
    InvalidXmlDocument,
    InvalidXmlNodeValue,
    KeyBasedAuthenticationNotPermitted,
    MissingRequiredXmlNode,
    NoAuthenticationInformation,
    NotImplemented,
    PathAlreadyExists,
    PathNotFound,
    RequestBodyTooLarge,
    ResourceNotFound,
    ServerBusy,
}

/// Status, name on the wire and sentence of every code, in the order of the enum.
const ROWS: [(Code, u16, &str, &str); 30] = [
    (
        Code::AuthenticationFailed,
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization \
         header is formed correctly including the signature.",
    ),
    (
        Code::AuthorizationFailure,
        403,
        "AuthorizationFailure",
        "This request is not authorized to perform this operation.",
    ),
    (
        Code::AuthorizationPermissionMismatch,
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    ),
    (
        Code::AuthorizationProtocolMismatch,
        403,
        "AuthorizationProtocolMismatch",
        "This request is not authorized to perform this operation using this protocol.",
    ),
    (
        Code::AuthorizationSourceIpMismatch,
        403,
        "AuthorizationSourceIPMismatch",
        "This request is not authorized to perform this operation using this source IP.",
    ),
    (
        Code::BlobAlreadyExists,
        409,
        "BlobAlreadyExists",
        "The specified blob already exists.",
    ),
    (
        Code::BlobNotFound,
        404,
        "BlobNotFound",
        "The specified blob does not exist.",
    ),
    (
        Code::ConditionNotMet,
        412,
        "ConditionNotMet",
        "The condition specified using HTTP conditional header(s) is not met.",
    ),
    (
        Code::ContainerAlreadyExists,
        409,
        "ContainerAlreadyExists",
        "The specified container already exists.",
    ),
    (
        Code::ContainerNotFound,
        404,
        "ContainerNotFound",
        "The specified container does not exist.",
    ),
    (
        Code::DirectoryNotEmpty,
        409,
        "DirectoryNotEmpty",
        "The recursive query parameter value must be true to delete a non-empty directory.",
    ),
    (
        Code::FilesystemNotFound,
        404,
        "FilesystemNotFound",
        "The specified filesystem does not exist.",
    ),
    (
        Code::InvalidAuthenticationInfo,
        401,
        "InvalidAuthenticationInfo",
        "Server failed to authenticate the request. Please refer to the information in the \
         www-authenticate header.",
    ),
    (
        Code::InvalidBlockList,
        400,
        "InvalidBlockList",
        "The specified block list is invalid.",
    ),
    (
        Code::InvalidFlushPosition,
        400,
        "InvalidFlushPosition",
        "The uploaded data is not contiguous or the position query parameter value is not \
         equal to the length of the file after appending the uploaded data.",
    ),
    (
        Code::InvalidHeaderValue,
        400,
        "InvalidHeaderValue",
        "The value for one of the HTTP headers is not in the correct format.",
    ),
    (
        Code::InvalidQueryParameterValue,
        400,
        "InvalidQueryParameterValue",
        "Value for one of the query parameters specified in the request URI is invalid.",
    ),
    (
        Code::InvalidRange,
        416,
        "InvalidRange",
        "The range specified is invalid for the current size of the resource.",
    ),
    (
        Code::InvalidUri,
        400,
        "InvalidUri",
        "The requested URI does not represent any resource on the server.",
    ),
    (
        Code::InvalidXmlDocument,
        400,
        "InvalidXmlDocument",
        "XML specified is not syntactically valid.",
    ),
    (
        Code::InvalidXmlNodeValue,
        400,
        "InvalidXmlNodeValue",
        "The value for one of the XML nodes is not in the correct format.",
    ),
    (
        Code::KeyBasedAuthenticationNotPermitted,
        403,
        "KeyBasedAuthenticationNotPermitted",
        "Key based authentication is not permitted on this storage account.",
    ),
    (
        Code::MissingRequiredXmlNode,
        400,
        "MissingRequiredXmlNode",
        "A required XML node was not specified in the request body.",
    ),
    (
        Code::NoAuthenticationInformation,
        401,
        "NoAuthenticationInformation",
        "Server failed to authenticate the request. Please refer to the information in the \
         www-authenticate header.",
    ),
    (
        Code::NotImplemented,
        501,
        "NotImplemented",
        "The simulator does not implement the requested operation.",
    ),
    (
        Code::PathAlreadyExists,
        409,
        "PathAlreadyExists",
        "The specified path already exists.",
    ),
    (
        Code::PathNotFound,
        404,
        "PathNotFound",
        "The specified path does not exist.",
    ),
    (
        Code::RequestBodyTooLarge,
        413,
        "RequestBodyTooLarge",
        "The request body is too large and exceeds the maximum permissible limit.",
    ),
    (
        Code::ResourceNotFound,
        404,
        "ResourceNotFound",
        "The specified resource does not exist.",
    ),
    (
        Code::ServerBusy,
        503,
        "ServerBusy",
        "The server is currently unable to receive requests. Please retry your request.",
    ),
];

// The table is read by position, so its order is proven when it is compiled.
const _: () = {
    let mut at = 0;
    while at < ROWS.len() {
        assert!(ROWS[at].0 as usize == at);
        at += 1;
    }
};

/// A code, and what Azure adds in `AuthenticationErrorDetail` for some of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BlobError {
    pub(crate) code: Code,
    pub(crate) detail: Option<String>,
}

impl From<Code> for BlobError {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

impl BlobError {
    /// An error that explains itself.
    pub(crate) fn with_detail(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: Some(detail.into()),
        }
    }

    /// The answer: XML on the blob endpoint, JSON on the dfs endpoint. `stamp` is the
    /// `RequestId:…\nTime:…` tail of the message.
    pub(crate) fn response(&self, door: Door, stamp: &str) -> HttpResponse {
        let (_, status, name, sentence) = ROWS[self.code as usize];
        let status = StatusCode::from_u16(status).expect("the table holds HTTP statuses");
        let message = format!("{sentence}\n{stamp}");
        let mut answer = HttpResponse::build(status);
        answer.insert_header(("x-ms-error-code", name));
        match door {
            Door::Blob => {
                let tag = "AuthenticationErrorDetail";
                let detail = self
                    .detail
                    .as_deref()
                    .map(|detail| format!("<{tag}>{}</{tag}>", escape(detail)));
                answer.content_type("application/xml").body(format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{name}</Code>\
                     <Message>{}</Message>{}</Error>",
                    escape(&message),
                    detail.unwrap_or_default(),
                ))
            }
            Door::Dfs => {
                let mut error = json!({ "code": name, "message": message });
                if let Some(detail) = &self.detail {
                    error["detail"] = json!({ "AuthenticationErrorDetail": detail });
                }
                answer.json(json!({ "error": error }))
            }
        }
    }
}
