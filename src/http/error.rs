//! What a refused call is answered: the status of every code, and RFC 9457 problem details.
//!
//! No other file of this folder names a status of a refusal. A problem never holds a secret.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::CommandStatus;
use crate::broker::{AuthError, BrokerError, RegistryError};
use crate::credentials::redacted;
use crate::engine::Refusal;
pub(super) use crate::protocol::Code;

/// The status that goes with a code. Codes that only the binary protocol uses have none of their own.
fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidBody => StatusCode::BAD_REQUEST,
        Code::LoginRequired | Code::InvalidCredentials => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::KeyConflict | Code::WrongStatus | Code::NameTaken | Code::LimitReached => StatusCode::CONFLICT,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::InvalidField | Code::InvalidCommand | Code::UnknownServer | Code::TooManyCommands => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::QueueFull | Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Busy | Code::LoginBusy | Code::Overloaded | Code::ShuttingDown | Code::StorageUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a caller may try again when nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A refusal on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    field: Option<String>,
    range: Option<String>,
    retry_after_seconds: Option<u32>,
}

impl Problem {
    /// A refusal with what is special about this occurrence.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            status: status(code),
            detail: detail.into(),
            field: None,
            range: None,
            retry_after_seconds: None,
        }
    }

    /// A field outside of its range.
    pub(super) fn field(field: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem::new(Code::InvalidField, detail).at(field)
    }

    /// Names the field.
    #[must_use]
    pub(super) fn at(mut self, field: impl Into<String>) -> Problem {
        self.field = Some(field.into());
        self
    }

    /// Names the range that would have been right.
    #[must_use]
    pub(super) fn range(mut self, range: impl Into<String>) -> Problem {
        self.range = Some(range.into());
        self
    }

    /// Gives it a status that says more than the code's own.
    #[must_use]
    pub(super) fn status(mut self, status: StatusCode) -> Problem {
        self.status = status;
        self
    }

    /// Says when to come again.
    #[must_use]
    pub(super) fn retry_after(mut self, milliseconds: u32) -> Problem {
        self.retry_after_seconds = Some(milliseconds.div_ceil(1000).max(1));
        self
    }

    /// Unknown, or of another store: not told apart.
    pub(super) fn not_found(what: &str) -> Problem {
        Problem::new(Code::NotFound, format!("no such {what} is visible with this key"))
    }

    /// The same words for a missing, malformed, unknown and wrong credential.
    pub(super) fn unauthorized() -> Problem {
        Problem::new(
            Code::InvalidCredentials,
            "send a valid one as the header `Authorization: Bearer <key>` (plugin calls: the server's token)",
        )
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (Code, &str, Option<&str>, Option<&str>) {
        (self.code, &self.detail, self.field.as_deref(), self.range.as_deref())
    }
}

/// A refused call (RFC 9457). `code` is stable; texts are for people and may change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:fluxrelay:problem:invalid_command", "title": "A command is empty, too long, or holds CR, LF or NUL.", "status": 422,
    "detail": "it holds CR, LF or NUL", "code": "invalid_command", "field": "commands[0].command",
    "range": "1 to 4096 bytes"
}))]
pub(super) struct ProblemBody {
    /// `urn:fluxrelay:problem:<code>`.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every occurrence of the code.
    title: &'static str,
    /// The HTTP status, repeated.
    status: u16,
    /// What was wrong this time, and what to do.
    detail: String,
    /// Stable, snake_case: branch on this.
    #[schema(value_type = String)]
    code: &'static str,
    /// The path of the field in the body (`commands[0].command`), the query parameter or the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What the field accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let body = ProblemBody {
            kind: format!("urn:fluxrelay:problem:{}", self.code.name()),
            title: self.code.sentence(),
            status: status.as_u16(),
            detail: redacted(&self.detail).into_owned(),
            code: self.code.name(),
            field: self.field.map(|field| redacted(&field).into_owned()),
            range: self.range,
        };
        let text = serde_json::to_string(&body).expect("a problem is plain strings and numbers");
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fluxrelay\""));
        }
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Problem {
        match error {
            AuthError::Invalid => Problem::unauthorized(),
            AuthError::Busy { retry_after_ms } => {
                Problem::new(Code::LoginBusy, "too many logins at once").retry_after(retry_after_ms)
            }
            AuthError::Limited { retry_after_ms } => {
                Problem::new(Code::RateLimited, "too many failed logins from this network")
                    .retry_after(retry_after_ms)
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let seconds = RETRY_AFTER_SECONDS * 1000;
        match refusal {
            Refusal::KeyConflict => Problem::new(
                Code::KeyConflict,
                "use a new key for a new order, or repeat the first order without a change",
            )
            .at("Idempotency-Key"),
            Refusal::QueueFull(server) => {
                Problem::new(Code::QueueFull, format!("{server} has as many commands as it may"))
                    .retry_after(seconds)
            }
            Refusal::Overloaded => Problem::new(Code::Overloaded, "try again later").retry_after(seconds),
            Refusal::UnknownCommand => Problem::not_found("command"),
            Refusal::WrongStatus(status) => Problem::new(
                Code::WrongStatus,
                format!("the command is {}", CommandStatus::from(status).text()),
            ),
            Refusal::UnknownServer(server) => {
                Problem::new(Code::UnknownServer, format!("no server {server}"))
            }
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Problem {
        match error {
            BrokerError::Refused(refusal) => refusal.into(),
            BrokerError::UnknownServer(server) => {
                Problem::new(Code::UnknownServer, format!("no server {server}"))
            }
            BrokerError::NoServers => {
                Problem::new(Code::UnknownServer, "\"*\" means every server, and the store has none yet")
            }
            BrokerError::NotFound => Problem::not_found("thing"),
            BrokerError::TooManyCommands { max, count } => Problem::new(
                Code::TooManyCommands,
                format!("with \"*\" expanded the order has {count} commands; split it"),
            )
            .at("commands")
            .range(format!("1 to {max} commands")),
            BrokerError::Busy { retry_after_ms } => {
                Problem::new(Code::Busy, "a queue inside the broker is full").retry_after(retry_after_ms)
            }
            BrokerError::RateLimited { retry_after_ms } => {
                Problem::new(Code::RateLimited, "the store publishes too many commands a second")
                    .retry_after(retry_after_ms)
            }
            BrokerError::StoreFull { max, retry_after_ms } => Problem::new(
                Code::QueueFull,
                format!("the store has as many unfinished commands as it may, {max}"),
            )
            .retry_after(retry_after_ms),
            BrokerError::DiskLow { retry_after_ms } => Problem::new(
                Code::StorageUnavailable,
                "the broker's disk has too little free space for new orders; results are still taken",
            )
            .retry_after(retry_after_ms),
            BrokerError::Stopping => Problem::new(
                Code::ShuttingDown,
                "whether it was done is not known; an order with an Idempotency-Key can be repeated safely",
            )
            .retry_after(RETRY_AFTER_SECONDS * 1000),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Problem {
        match error {
            RegistryError::NotFound => Problem::not_found("store or server"),
            RegistryError::NameTaken(name) => {
                Problem::new(Code::NameTaken, format!("{name:?} is taken")).at("name")
            }
            RegistryError::Full(max) => {
                Problem::new(Code::LimitReached, format!("there may be at most {max}"))
            }
            RegistryError::Invalid { field, must } => Problem::field(field, format!("it must {must}")),
            // The words of the storage name files of the broker's machine: for its log, not for a caller.
            RegistryError::Storage(_) => Problem::new(
                Code::StorageUnavailable,
                "whether it was done is not known until the broker runs again",
            )
            .retry_after(RETRY_AFTER_SECONDS * 1000),
        }
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
