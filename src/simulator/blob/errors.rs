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
    MissingRequiredXmlNode,
    NoAuthenticationInformation,
    NotImplemented,
    PathAlreadyExists,
    PathNotFound,
    RequestBodyTooLarge,
    ResourceNotFound,
    ServerBusy,
}

impl Code {
    /// Status, name on the wire, sentence.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::AuthenticationFailed => (
                403,
                "AuthenticationFailed",
                "Server failed to authenticate the request. Make sure the value of Authorization \
                 header is formed correctly including the signature.",
            ),
            Self::AuthorizationFailure => (
                403,
                "AuthorizationFailure",
                "This request is not authorized to perform this operation.",
            ),
            Self::AuthorizationPermissionMismatch => (
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ),
            Self::AuthorizationProtocolMismatch => (
                403,
                "AuthorizationProtocolMismatch",
                "This request is not authorized to perform this operation using this protocol.",
            ),
            Self::AuthorizationSourceIpMismatch => (
                403,
                "AuthorizationSourceIPMismatch",
                "This request is not authorized to perform this operation using this source IP.",
            ),
            Self::BlobAlreadyExists => (
                409,
                "BlobAlreadyExists",
                "The specified blob already exists.",
            ),
            Self::BlobNotFound => (404, "BlobNotFound", "The specified blob does not exist."),
            Self::ConditionNotMet => (
                412,
                "ConditionNotMet",
                "The condition specified using HTTP conditional header(s) is not met.",
            ),
            Self::ContainerNotFound => (
                404,
                "ContainerNotFound",
                "The specified container does not exist.",
            ),
            Self::DirectoryNotEmpty => (
                409,
                "DirectoryNotEmpty",
                "The recursive query parameter value must be true to delete a non-empty directory.",
            ),
            Self::FilesystemNotFound => (
                404,
                "FilesystemNotFound",
                "The specified filesystem does not exist.",
            ),
            Self::InvalidAuthenticationInfo => (
                401,
                "InvalidAuthenticationInfo",
                "Server failed to authenticate the request. Please refer to the information in the \
                 www-authenticate header.",
            ),
            Self::InvalidBlockList => (
                400,
                "InvalidBlockList",
                "The specified block list is invalid.",
            ),
            Self::InvalidFlushPosition => (
                400,
                "InvalidFlushPosition",
                "The uploaded data is not contiguous or the position query parameter value is not \
                 equal to the length of the file after appending the uploaded data.",
            ),
            Self::InvalidHeaderValue => (
                400,
                "InvalidHeaderValue",
                "The value for one of the HTTP headers is not in the correct format.",
            ),
            Self::InvalidQueryParameterValue => (
                400,
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid.",
            ),
            Self::InvalidRange => (
                416,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            ),
            Self::InvalidUri => (
                400,
                "InvalidUri",
                "The requested URI does not represent any resource on the server.",
            ),
            Self::InvalidXmlDocument => (
                400,
                "InvalidXmlDocument",
                "XML specified is not syntactically valid.",
            ),
            Self::InvalidXmlNodeValue => (
                400,
                "InvalidXmlNodeValue",
                "The value for one of the XML nodes is not in the correct format.",
            ),
            Self::MissingRequiredXmlNode => (
                400,
                "MissingRequiredXmlNode",
                "A required XML node was not specified in the request body.",
            ),
            Self::NoAuthenticationInformation => (
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the \
                 www-authenticate header.",
            ),
            Self::NotImplemented => (
                501,
                "NotImplemented",
                "The simulator does not implement the requested operation.",
            ),
            Self::PathAlreadyExists => (
                409,
                "PathAlreadyExists",
                "The specified path already exists.",
            ),
            Self::PathNotFound => (404, "PathNotFound", "The specified path does not exist."),
            Self::RequestBodyTooLarge => (
                413,
                "RequestBodyTooLarge",
                "The request body is too large and exceeds the maximum permissible limit.",
            ),
            Self::ResourceNotFound => (
                404,
                "ResourceNotFound",
                "The specified resource does not exist.",
            ),
            Self::ServerBusy => (
                503,
                "ServerBusy",
                "The server is currently unable to receive \
                                  requests. Please retry your request.",
            ),
        }
    }
}

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
        let (status, name, sentence) = self.code.row();
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
