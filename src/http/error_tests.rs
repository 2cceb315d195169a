//! Every code has one status, and a problem on the wire says what the table says.

use http_body_util::BodyExt;

use super::*;
use crate::engine::Status;
use crate::ids::ServerId;

async fn sent(problem: impl Into<Problem>) -> (StatusCode, Option<String>, serde_json::Value) {
    let response = problem.into().into_response();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let retry_after =
        response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry_after, serde_json::from_slice(&body).unwrap())
}

#[test]
fn every_retryable_refusal_has_a_status_that_says_so() {
    for &code in Code::ALL {
        let waits = matches!(status(code).as_u16(), 429 | 503);
        let later = code.retry() == crate::protocol::Retry::Later;
        assert!(waits || !later, "{code} may be tried again later, its status does not say so");
    }
}

#[tokio::test]
async fn a_problem_carries_its_table_row_and_its_occurrence() {
    let (status, retry_after, body) =
        sent(Problem::field("commands[3].command", "must not be empty").range("1 to 4096 bytes")).await;
    assert_eq!(status, 422);
    assert_eq!(retry_after, None);
    assert_eq!(
        body,
        serde_json::json!({
            "type": "urn:fluxrelay:problem:invalid_field",
            "title": Code::InvalidField.sentence(),
            "status": 422,
            "detail": "must not be empty",
            "code": "invalid_field",
            "field": "commands[3].command",
            "range": "1 to 4096 bytes",
        })
    );
}

#[tokio::test]
async fn broker_errors_map_to_statuses() {
    let cases: [(BrokerError, u16, &str, Option<&str>); 11] = [
        (BrokerError::Refused(Refusal::KeyConflict), 409, "key_conflict", None),
        (BrokerError::Refused(Refusal::QueueFull(ServerId(1))), 429, "queue_full", Some("5")),
        (BrokerError::Refused(Refusal::Overloaded), 503, "overloaded", Some("5")),
        (BrokerError::Refused(Refusal::UnknownCommand), 404, "not_found", None),
        (BrokerError::Refused(Refusal::WrongStatus(Status::InDoubt)), 409, "wrong_status", None),
        (BrokerError::NoServers, 422, "unknown_server", None),
        (BrokerError::NotFound, 404, "not_found", None),
        (BrokerError::TooManyCommands { max: 3, count: 4 }, 422, "too_many_commands", None),
        (BrokerError::Busy { retry_after_ms: 1001 }, 503, "busy", Some("2")),
        (BrokerError::DiskLow { retry_after_ms: 5_000 }, 503, "storage_unavailable", Some("5")),
        (BrokerError::Stopping, 503, "shutting_down", Some("5")),
    ];
    for (error, status, code, wait) in cases {
        let (found, retry_after, body) = sent(error.clone()).await;
        assert_eq!(found, status, "{error:?}");
        assert_eq!(body["code"], code);
        assert_eq!(retry_after.as_deref(), wait, "{error:?}");
    }
}

#[tokio::test]
async fn a_storage_error_does_not_show_files() {
    let error = RegistryError::Storage(crate::storage::StorageError::Full { file: "/secret/place".into() });
    let (status, retry_after, body) = sent(error).await;
    assert_eq!((status.as_u16(), retry_after.as_deref()), (503, Some("5")));
    assert!(!body.to_string().contains("/secret/place"));
}

#[tokio::test]
async fn a_busy_login_is_told_when_to_come_back() {
    let (status, retry_after, _) = sent(AuthError::Busy { retry_after_ms: 300 }).await;
    assert_eq!((status.as_u16(), retry_after.as_deref()), (503, Some("1")));
}
