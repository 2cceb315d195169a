//! REST: the router, what all calls share, and one file per resource. Speaks to the broker through its `Handle` only.
//!
//! Never imports `transport`, never holds a socket: who accepts connections gives requests to [`router`].

mod audit;
mod auth;
mod backups;
mod body;
mod commands;
mod error;
mod events;
mod fields;
mod health;
mod index;
mod keys;
mod metrics;
mod openapi;
mod orders;
mod paths;
mod plugin;
mod resend;
mod seats;
mod servers;
mod stores;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::broker::{Buckets, Handle, Rate};
use crate::time::UnixMs;
use error::{Code, Problem};
use seats::Seats;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Handle,
    started_at: UnixMs,
    calls_of_stores: Arc<Seats>,
    calls_of_servers: Arc<Seats>,
    followers: Arc<Seats>,
    requests_of_keys: Buckets,
    rate_of_servers: Buckets,
    openapi: Arc<str>,
}

impl HttpState {
    /// The state of a broker that starts now.
    pub fn new(broker: Handle) -> HttpState {
        let (_, mut api) = routes().split_for_parts();
        openapi::complete(&mut api);
        let (started_at, quotas) = (broker.now(), broker.quotas());
        let shared = Shared {
            broker,
            started_at,
            calls_of_stores: Seats::new(auth::CALLS_OF_STORE_MAX, u32::MAX),
            calls_of_servers: Seats::new(auth::CALLS_OF_SERVER_MAX, u32::MAX),
            followers: Seats::new(events::FOLLOWERS_OF_STORE_MAX, events::FOLLOWERS_MAX),
            requests_of_keys: Buckets::new(Rate::new(quotas.key_requests)),
            rate_of_servers: Buckets::new(Rate::new(quotas.server_calls)),
            openapi: openapi::text(&api),
        };
        HttpState { shared: Arc::new(shared) }
    }

    fn broker(&self) -> &Handle {
        &self.shared.broker
    }

    fn started_at(&self) -> UnixMs {
        self.shared.started_at
    }

    fn calls_of_stores(&self) -> &Arc<Seats> {
        &self.shared.calls_of_stores
    }

    fn calls_of_servers(&self) -> &Arc<Seats> {
        &self.shared.calls_of_servers
    }

    fn requests_of_keys(&self) -> &Buckets {
        &self.shared.requests_of_keys
    }

    fn rate_of_servers(&self) -> &Buckets {
        &self.shared.rate_of_servers
    }

    fn followers(&self) -> &Arc<Seats> {
        &self.shared.followers
    }

    fn openapi(&self) -> &str {
        &self.shared.openapi
    }
}

/// Every call of the REST interface, with its part of the OpenAPI document.
fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(stores::create, stores::list))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::remove))
        .routes(routes!(audit::list))
        .routes(routes!(backups::create))
        .routes(routes!(servers::create, servers::list))
        .routes(routes!(servers::show, servers::update, servers::remove))
        .routes(routes!(servers::regenerate_token))
        .routes(routes!(orders::create))
        .routes(routes!(orders::show))
        .routes(routes!(commands::list))
        .routes(routes!(commands::show, commands::edit))
        .routes(routes!(commands::cancel))
        .routes(routes!(commands::resend))
        .routes(routes!(resend::resend_many))
        .routes(routes!(events::follow))
        .routes(routes!(plugin::poll))
        .routes(routes!(plugin::report_results))
        .routes(routes!(plugin::report_players))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::openapi))
        .routes(routes!(index::index))
}

/// Answers every request that is not a WebSocket upgrade.
pub fn router(state: HttpState) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(around_every_call))
        .with_state(state)
}

/// What is done before and after every call, known path or not.
async fn around_every_call(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // The path as it is routed: one as it was sent could hold a secret.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = match auth::refuse_credential_in_query(request.uri().query()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    tracing::debug!(%method, route, status = response.status().as_u16(), "request");
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn unknown_path(uri: Uri) -> Problem {
    let detail = match uri.path() {
        "/v1/plugin/ws" | "/v1/publisher/ws" => "this path speaks WebSocket only",
        _ => "see /openapi.json for every path",
    };
    Problem::new(Code::NotFound, detail)
}

async fn wrong_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the header Allow names the methods of this path")
}
