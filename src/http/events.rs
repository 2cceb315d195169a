//! Server-Sent Events: what happens in a store, followed from now on or resumed after an id.
//!
//! A follower that is too slow loses events and is told so; it never makes anybody wait. Their number is bounded.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Reader;
use super::body::Params;
use super::error::{Code, Problem};
use super::seats::Seat;
use super::words::{CommandStatus, NoteCode, Time, note_code};
use super::{HttpState, paths};
use crate::broker::{EventId, EventStream, Followed, KeyWatch, Limit};
use crate::engine::{Event, EventKind};
use crate::ids::CommandId;

/// Silence after which a comment is sent, so that both ends notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Followers of one store (the admin's followers of all stores count as one more store).
pub(super) const FOLLOWERS_OF_STORE_MAX: u32 = 64;
/// Followers in all.
pub(super) const FOLLOWERS_MAX: u32 = 1024;
/// Who follows all stores, among the owners of seats; no store has this number.
const ALL_STORES: u32 = 0;
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
            Frame::default().id(id.to_string()).event(name).data(json)
        }
        Followed::Lost(id) => Frame::default().id(id.to_string()).event("events.lost").data("{}"),
    }
}

/// A stream under way: it ends with the broker, or with the key that it was opened with.
type Following = (EventStream, KeyWatch, Seat);

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
    let owner = store.map_or(ALL_STORES, |store| store.0);
    let seat = state.followers().take(owner).ok_or_else(|| {
        broker.on_limit(Limit::Followers);
        Problem::new(Code::RateLimited, format!("at most {FOLLOWERS_OF_STORE_MAX} follow one store at once"))
            .retry_after(RETRY_AFTER_MS)
    })?;
    let key = broker.registry().watch_key(caller.key());
    let following = (broker.events(store, since), key, seat);
    let frames = stream::unfold(following, |(mut events, mut key, seat): Following| async move {
        let followed = tokio::select! {
            biased;
            () = key.removed() => None,
            followed = events.next() => followed,
        };
        followed.map(|followed| (Ok(frame(&followed)), (events, key, seat)))
    });
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn since(headers: &HeaderMap, parameter: Option<&str>) -> Result<Option<EventId>, Problem> {
    let (field, text) = match headers.get("Last-Event-ID") {
        Some(value) => ("Last-Event-ID", value.to_str().unwrap_or_default()),
        None => ("last_event_id", parameter.unwrap_or_default()),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let id = text.parse().map_err(|_| {
        Problem::field(field, "it is not the id of an event").range("<boot>-<ordinal>, for example 3-640")
    })?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Note, Status};
    use crate::ids::{OrderId, Seq, ServerId, StoreId};
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
