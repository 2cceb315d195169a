//! Who is calling: keys and tokens from the `Authorization` header, turned into extractors by scope.
//!
//! A credential is read nowhere else, and never from a URL. What a caller may not see is answered as if it were
//! not there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;

use super::HttpState;
use super::error::{Code, Problem};
use super::seats::{Seat, Seats};
use crate::broker::{Actor, Buckets, Limit, Origin, Principal, Registry, Scope, Server};
use crate::credentials::{IN_URL, credential_parameter};
use crate::ids::{KeyId, StoreId};

/// Calls that one store's keys have under way at once; the calls of its servers' plugins not counted.
pub(super) const CALLS_OF_STORE_MAX: u32 = 256;
/// Calls that one server's plugin has under way at once.
pub(super) const CALLS_OF_SERVER_MAX: u32 = 16;
/// When a caller with too many calls should come back, in milliseconds.
const RETRY_AFTER_MS: u32 = 1_000;

/// Refuses a URL that carries a credential, whoever sends it and wherever to.
pub(super) fn refuse_credential_in_query(query: Option<&str>) -> Result<(), Problem> {
    match credential_parameter(query) {
        Some(parameter) => Err(Problem::field(parameter, IN_URL)),
        None => Ok(()),
    }
}

/// The credential of a request; `None` when there is none, several, or not a bearer's.
fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let (scheme, credential) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}

/// Where a request comes from. Without a socket, as in a test of the router alone, everybody is one network.
fn origin(parts: &Parts) -> Origin {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Origin::of(address(parts).unwrap_or(nowhere))
}

async fn principal(parts: &Parts, state: &HttpState) -> Result<Principal, Problem> {
    let key = bearer(parts).ok_or_else(Problem::unauthorized)?;
    Ok(state.broker().registry().check_key(key, origin(parts)).await?)
}

/// A seat for a call. It is taken before the body is read, so that slow bodies fill the caller's own share.
fn seat(state: &HttpState, seats: &Arc<Seats>, owner: u32, limit: (Limit, u32)) -> Result<Seat, Problem> {
    let (limit, max) = limit;
    seats.take(owner).ok_or_else(|| {
        state.broker().on_limit(limit);
        Problem::new(Code::RateLimited, format!("at most {max} calls at once"))
            .range(format!("1 to {max} calls at once"))
            .retry_after(RETRY_AFTER_MS)
    })
}

/// One call more of an owner, if it is within its rate.
fn within_rate(state: &HttpState, buckets: &Buckets, owner: u32, limit: Limit) -> Result<(), Problem> {
    buckets.take(owner, state.broker().now()).map_err(|retry_after_ms| {
        state.broker().on_limit(limit);
        let max = buckets.rate().per_second();
        Problem::new(Code::RateLimited, format!("at most {max} calls a second"))
            .range(format!("1 to {max} calls a second"))
            .retry_after(retry_after_ms)
    })
}

fn forbidden(need: &str) -> Problem {
    Problem::new(Code::Forbidden, format!("this call needs {need}"))
}

/// The other end of the connection, as the listener gave it.
fn address(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address)
}

/// A caller with the admin key, and the name that its actions bear.
pub(super) struct Admin(pub(super) Actor);

impl FromRequestParts<HttpState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Admin, Problem> {
        let principal = principal(parts, state).await?;
        match principal.scope {
            Scope::Admin => Ok(Admin(principal.actor(address(parts)))),
            Scope::Publish | Scope::Read => Err(forbidden("the admin key")),
        }
    }
}

/// A caller who may change things in a store.
pub(super) struct Publisher(pub(super) Caller);

impl FromRequestParts<HttpState> for Publisher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Publisher, Problem> {
        let principal = principal(parts, state).await?;
        match principal.scope {
            Scope::Admin | Scope::Publish => Ok(Publisher(Caller::enter(principal, parts, state)?)),
            Scope::Read => Err(forbidden("a key of scope publish")),
        }
    }
}

/// A caller who may look at things in a store: any key.
pub(super) struct Reader(pub(super) Caller);

impl FromRequestParts<HttpState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Reader, Problem> {
        Ok(Reader(Caller::enter(principal(parts, state).await?, parts, state)?))
    }
}

/// A game server's plugin, by the server's token.
pub(super) struct Plugin {
    pub(super) server: Arc<Server>,
    _seat: Seat,
}

impl FromRequestParts<HttpState> for Plugin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Plugin, Problem> {
        let token = bearer(parts).ok_or_else(Problem::unauthorized)?;
        let server = state.broker().registry().check_token(token, origin(parts)).await?;
        within_rate(state, state.rate_of_servers(), server.id.0, Limit::ServerCalls)?;
        let at_once = (Limit::ServerCallsAtOnce, CALLS_OF_SERVER_MAX);
        let seat = seat(state, state.calls_of_servers(), server.id.0, at_once)?;
        Ok(Plugin { server, _seat: seat })
    }
}

/// What a key's holder sees and acts on, for as long as the call lasts.
#[derive(Debug)]
pub(super) struct Caller {
    principal: Principal,
    address: Option<SocketAddr>,
    _seat: Seat,
}

impl Caller {
    fn enter(principal: Principal, parts: &Parts, state: &HttpState) -> Result<Caller, Problem> {
        // The admin key has no rate: whoever holds it mends what others overload.
        if let Some(key) = principal.key {
            within_rate(state, state.requests_of_keys(), key.0, Limit::KeyRequests)?;
        }
        let at_once = (Limit::StoreCallsAtOnce, CALLS_OF_STORE_MAX);
        let seat = seat(state, state.calls_of_stores(), principal.store.0, at_once)?;
        Ok(Caller { principal, address: address(parts), _seat: seat })
    }

    /// The name that its actions bear.
    pub(super) fn actor(&self) -> Actor {
        self.principal.actor(self.address)
    }

    /// The key that was used; `None` = the admin key.
    pub(super) fn key(&self) -> Option<KeyId> {
        self.principal.key
    }

    /// Whether things of this store are visible.
    pub(super) fn sees(&self, store: StoreId) -> bool {
        self.is_admin() || self.principal.store == store
    }

    /// Whether the admin key was used.
    pub(super) fn is_admin(&self) -> bool {
        self.principal.scope == Scope::Admin
    }

    /// The store of the key (of the admin key: the default store).
    pub(super) fn own_store(&self) -> StoreId {
        self.principal.store
    }

    /// The store to act on: the one that `store` names, else the key's own. Only the admin key may name another.
    pub(super) fn store(&self, named: Option<&str>, registry: &Registry) -> Result<StoreId, Problem> {
        let Some(text) = named else { return Ok(self.own_store()) };
        let found = text.parse().ok().filter(|id| self.sees(*id) && registry.store(*id).is_some());
        found.ok_or_else(|| {
            Problem::field("store", format!("no store {text:?} is visible with this key"))
                .range("omit it for the key's own store; only the admin key may name another")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(values: &[&str]) -> Parts {
        let mut builder = axum::http::Request::builder();
        for value in values {
            builder = builder.header("Authorization", *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_bearer_is_taken_and_nothing_else() {
        assert_eq!(bearer(&parts(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&parts(&["bEARER  abc "])), Some("abc"));
        for values in [&[][..], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer(&parts(values)), None, "{values:?}");
        }
    }

    #[test]
    fn a_credential_in_a_url_is_refused_by_the_name_of_its_parameter() {
        let refused = refuse_credential_in_query(Some("a=1&Access_Token=x")).unwrap_err();
        assert_eq!((refused.parts().0, refused.parts().2), (Code::InvalidField, Some("access_token")));
        assert_eq!(refuse_credential_in_query(Some("limit=3&cursor=token")), Ok(()));
    }
}
