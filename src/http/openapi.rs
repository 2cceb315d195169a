//! The OpenAPI document, made from the handlers: what is the same for many calls is added here.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response as Answer, ResponseBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    HeaderBuilder, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::ProblemBody;
use super::{HttpState, paths};

/// The name of the schema of every refusal.
const PROBLEM: &str = "Problem";

const DESCRIPTION: &str = "\
fluxrelay gets the commands that a customer has paid for run on the right game server, for the right player, never \
lost and never silently doubled.

Ids are opaque strings. Times are RFC 3339, given in UTC with milliseconds. Names are snake_case. Unknown fields and \
parameters are refused. Every refusal is a problem (RFC 9457, `application/problem+json`) with a stable `code`: 400 when the body is \
not JSON, 422 when a field or parameter is not valid (`field` and `range` say which and why), 401 with one body for a \
missing, unknown and wrong credential, 403 when the key's scope does not allow the call, 404 for what does not exist \
and for what belongs to another store, 429 and 503 with `Retry-After`.

Credentials are sent as `Authorization: Bearer <key>` and never in a URL. A key of scope `read` reads, `publish` does all \
in its store, and the admin key does all in every store: it acts on the default store unless a call names `store`.";

/// The document before any handler is added.
pub(super) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("fluxrelay")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds what the handlers leave out: security schemes, the schema of problems, and the refusals that follow from
/// what a call takes.
pub(super) fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.schemas.insert(PROBLEM.to_owned(), ProblemBody::schema());
    let mut nested = Vec::new();
    ProblemBody::schemas(&mut nested);
    components.schemas.extend(nested);
    for (name, description) in [
        ("admin_key", "The admin key (`admin.key` in the data directory)."),
        ("publish_key", "A key of scope `publish`, or the admin key."),
        ("read_key", "Any key."),
        ("server_token", "The token of a server, `<server id>.<secret>`."),
    ] {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(description.to_owned());
        components.security_schemes.insert(name.to_owned(), SecurityScheme::Http(scheme).into());
    }
    for (path, item) in &mut api.paths.paths {
        let has_parameter = path.contains('{');
        for operation in operations(item) {
            add_refusals(operation, has_parameter);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete, &mut item.put].into_iter().flatten()
}

fn add_refusals(operation: &mut Operation, has_parameter: bool) {
    let secured = operation.security.is_some();
    let has_body = operation.request_body.is_some();
    let common = [
        (has_body, "400", "`invalid_body`: the body is not JSON."),
        (secured, "401", "`invalid_credentials`: the same for a missing, unknown and wrong one."),
        (secured, "403", "`forbidden`: the key's scope does not allow it."),
        (has_parameter, "404", "`not_found`: unknown, or of another store."),
        (has_body, "408", "`invalid_body`: it did not arrive in time."),
        (has_body, "413", "`body_too_large`"),
        (has_body, "415", "`invalid_body`: its type is not `application/json`."),
        (secured, "422", "A field or parameter is not valid; `field` says which."),
        (secured, "429", "A limit is reached; `Retry-After` says when to come back."),
        (
            secured,
            "503",
            "Busy, stopping, too little disk space, or the storage failed; `Retry-After` says when to come back.",
        ),
    ];
    let responses = &mut operation.responses.responses;
    for (applies, status, description) in common {
        if applies {
            let answer = ResponseBuilder::new().description(description).build();
            responses.entry(status.to_owned()).or_insert(RefOr::T(answer));
        }
    }
    for (status, response) in responses {
        if let RefOr::T(answer) = response
            && status.starts_with(['4', '5'])
        {
            make_problem(status, answer);
        }
    }
}

fn make_problem(status: &str, answer: &mut Answer) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(PROBLEM))).build();
    answer.content.insert("application/problem+json".to_owned(), content.into());
    if matches!(status, "429" | "503") {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
        let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds.")).build();
        answer.headers.insert("Retry-After".to_owned(), header.into());
    }
}

/// The document as it is served.
pub(super) fn text(api: &OpenApi) -> Arc<str> {
    api.to_json().expect("the document is plain data").into()
}

/// This document
#[utoipa::path(get, path = paths::OPENAPI, tag = "operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value, content_type = "application/json")))]
pub(super) async fn openapi(State(state): State<HttpState>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], state.openapi().to_string()).into_response()
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
