//! Server-Sent Events: what happens in a store, followed from now on or resumed after an id.
//!
//! A follower that is too slow loses events and is told so; it never makes anybody wait. Their number is bounded.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Reader;
use super::body::Params;
use super::error::{Code, Problem};
use super::words::{CommandStatus, NoteCode, Time, note_code};
use super::{HttpState, paths};
use crate::broker::{EventId, EventStream, Followed};
use crate::engine::{Event, EventKind};
use crate::ids::{CommandId, StoreId};

/// Silence after which a comment is sent, so that both ends notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Followers of one store (the admin's followers of all stores count as one more store).
const FOLLOWERS_OF_STORE_MAX: usize = 64;
/// Followers in all.
const FOLLOWERS_MAX: usize = 1024;
/// When a follower should come back if there are too many, in milliseconds.
const RETRY_AFTER_MS: u32 = 10_000;

/// What is followed, and from where.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Admin key only: events of this store. Not given: the key's own store; with the admin key, all stores.
    store: Option<String>,
    /// For tools that cannot set the header `Last-Event-ID`, which counts if both are given.
    last_event_id: Option<String>,
}

/// The data of one event. Which fields it has depends on `event`: `server.online` and `server.offline` have the
/// first three, `command.<status>` has all, `events.lost` has none.
#[derive(Serialize, ToSchema)]
#[schema(as = EventData, example = json!({"at": "2026-01-31T12:00:00.020Z", "store": "sto_1", "server": "srv_1", "command": "cmd_1_640",
    "order": "ord_1_640", "status": "completed", "attempt": 1}))]
pub(super) struct EventData {
    at: Time,
    store: String,
    server: String,
    #[serde(flatten)]
    of_command: Option<CommandEventData>,
}

/// What is said of a command.
#[derive(Serialize, ToSchema)]
pub(super) struct CommandEventData {
    command: String,
    order: String,
    status: CommandStatus,
    attempt: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<NoteCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Name and data of an event.
fn describe(event: &Event) -> (String, EventData) {
    let (name, of_command) = match &event.what {
        EventKind::Online => ("server.online".to_owned(), None),
        EventKind::Offline => ("server.offline".to_owned(), None),
        EventKind::Command { seq, order, status, attempt, note, error } => {
            let status = CommandStatus::from(*status);
            let data = CommandEventData {
                command: CommandId { server: event.server, seq: *seq }.to_string(),
                order: order.to_string(),
                status,
                attempt: *attempt,
                note: note_code(*note),
                error: error.as_deref().map(str::to_owned),
            };
            (format!("command.{}", status.text()), Some(data))
        }
    };
    let data = EventData {
        at: Time(event.at),
        store: event.store.to_string(),
        server: event.server.to_string(),
        of_command,
    };
    (name, data)
}

fn frame(followed: &Followed) -> Frame {
    match followed {
        Followed::Event(id, event) => {
            let (name, data) = describe(event);
            let json = serde_json::to_string(&data).expect("an event is plain strings and numbers");
            Frame::default().id(id_text(*id)).event(name).data(json)
        }
        Followed::Lost(id) => Frame::default().id(id_text(*id)).event("events.lost").data("{}"),
    }
}

/// Who follows now, by store; `None` = the admin's followers of all stores.
#[derive(Debug, Default)]
pub(super) struct Followers {
    by_store: Mutex<HashMap<Option<StoreId>, usize>>,
}

impl Followers {
    fn enter(self: &Arc<Followers>, store: Option<StoreId>) -> Result<Seat, Problem> {
        let mut by_store = self.by_store.lock();
        let all: usize = by_store.values().sum();
        let here = by_store.get(&store).copied().unwrap_or(0);
        let max = if here >= FOLLOWERS_OF_STORE_MAX { FOLLOWERS_OF_STORE_MAX } else { FOLLOWERS_MAX };
        if here >= FOLLOWERS_OF_STORE_MAX || all >= FOLLOWERS_MAX {
            return Err(Problem::new(Code::RateLimited, format!("at most {max} follow events at once"))
                .retry_after(RETRY_AFTER_MS));
        }
        by_store.insert(store, here + 1);
        Ok(Seat { followers: Arc::clone(self), store })
    }
}

/// A place among the followers, given back when dropped.
struct Seat {
    followers: Arc<Followers>,
    store: Option<StoreId>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_store = self.followers.by_store.lock();
        if let Some(count) = by_store.get_mut(&self.store) {
            *count -= 1;
            if *count == 0 {
                by_store.remove(&self.store);
            }
        }
    }
}

/// Follows events
///
/// Server-Sent Events: `server.online`, `server.offline`, `command.<status>` with the JSON of `EventData`, each with an
/// `id`. Send the last one as `Last-Event-ID` to resume. The event `events.lost` says that some in between are no
/// longer remembered: read the state again. A comment comes every 15 s of silence.
#[utoipa::path(get, path = paths::EVENTS, tag = "events", operation_id = "follow_events",
    security(("read_key" = [])),
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Resume after this id.", example = "3-640")),
    responses((status = 200, description = "A stream without end.", body = EventData, content_type = "text/event-stream"),
              (status = 429, description = "`rate_limited`: too many followers.")))]
pub(super) async fn follow(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Frame, Infallible>>>, Problem> {
    let broker = state.broker();
    let store = match &query.store {
        None if caller.is_admin() => None,
        named => Some(caller.store(named.as_deref(), broker.registry())?),
    };
    let since = since(&headers, query.last_event_id.as_deref())?;
    let seat = state.followers().enter(store)?;
    let following = (broker.events(store, since), seat);
    let frames = stream::unfold(following, |(mut events, seat): (EventStream, Seat)| async move {
        let followed = events.next().await?;
        Some((Ok(frame(&followed)), (events, seat)))
    });
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn id_text(id: EventId) -> String {
    format!("{}-{}", id.boot, id.ordinal)
}

fn read_id(text: &str) -> Option<EventId> {
    let (boot, ordinal) = text.split_once('-')?;
    Some(EventId { boot: boot.parse().ok()?, ordinal: ordinal.parse().ok()? })
}

fn since(headers: &HeaderMap, parameter: Option<&str>) -> Result<Option<EventId>, Problem> {
    let (field, text) = match headers.get("Last-Event-ID") {
        Some(value) => ("Last-Event-ID", value.to_str().unwrap_or_default()),
        None => ("last_event_id", parameter.unwrap_or_default()),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let id = read_id(text).ok_or_else(|| {
        Problem::field(field, "it is not the id of an event").range("<boot>-<ordinal>, for example 3-640")
    })?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Note, Status};
    use crate::ids::{OrderId, Seq, ServerId};
    use crate::time::UnixMs;

    fn event(what: EventKind) -> Event {
        Event { at: UnixMs(0), store: StoreId(1), server: ServerId(2), what }
    }

    #[test]
    fn events_are_named_and_flat() {
        let (name, data) = describe(&event(EventKind::Online));
        assert_eq!(name, "server.online");
        let json = serde_json::to_value(&data).unwrap();
        let expected =
            serde_json::json!({"at": "1970-01-01T00:00:00.000Z", "store": "sto_1", "server": "srv_2"});
        assert_eq!(json, expected);

        let (name, data) = describe(&event(EventKind::Command {
            seq: Seq(9),
            order: OrderId { store: StoreId(1), seq: Seq(8) },
            status: Status::Failed,
            attempt: 4,
            note: Note::RetriesExhausted,
            error: Some("no such player".into()),
        }));
        assert_eq!(name, "command.failed");
        let json = serde_json::to_value(&data).unwrap();
        assert_eq!(json["command"], "cmd_2_9");
        assert_eq!(json["order"], "ord_1_8");
        assert_eq!(json["note"], "retries_exhausted");
        assert_eq!(json["error"], "no such player");
    }

    #[test]
    fn seats_are_bounded_per_store_and_given_back() {
        let followers = Arc::new(Followers::default());
        let store = Some(StoreId(1));
        let mut seats: Vec<Seat> =
            (0..FOLLOWERS_OF_STORE_MAX).map(|_| followers.enter(store).ok().unwrap()).collect();
        assert!(followers.enter(store).is_err());
        assert!(followers.enter(Some(StoreId(2))).is_ok());
        seats.pop();
        assert!(followers.enter(store).is_ok());
        seats.clear();
        assert!(followers.by_store.lock().is_empty());
    }

    #[test]
    fn all_seats_together_are_bounded() {
        let followers = Arc::new(Followers::default());
        let stores = (0..).map(|n| Some(StoreId(1 + n / FOLLOWERS_OF_STORE_MAX as u32)));
        let seats: Vec<Seat> =
            stores.take(FOLLOWERS_MAX).map(|store| followers.enter(store).ok().unwrap()).collect();
        assert!(followers.enter(Some(StoreId(9999))).is_err());
        drop(seats);
        assert!(followers.enter(Some(StoreId(9999))).is_ok());
    }

    #[test]
    fn the_header_counts_before_the_parameter() {
        let mut headers = HeaderMap::new();
        let id = |boot, ordinal| Ok(Some(EventId { boot, ordinal }));
        assert_eq!(since(&headers, None), Ok(None));
        assert_eq!(since(&headers, Some("3-4")), id(3, 4));
        headers.insert("Last-Event-ID", "5-6".parse().unwrap());
        assert_eq!(since(&headers, Some("3-4")), id(5, 6));
        headers.insert("Last-Event-ID", "five".parse().unwrap());
        assert_eq!(since(&headers, None).unwrap_err().parts().2, Some("Last-Event-ID"));
    }
}
