//! From the JSON of an order to the request that the broker gets, and the refusals on the way.

use super::*;
use crate::engine::OnDoubt;
use crate::limits::ORDER_COMMANDS_MAX;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn read(json: serde_json::Value) -> Result<OrderRequest, Problem> {
    let body: OrderBody = serde_json::from_value(json).unwrap();
    order_request(&body, None, NOW)
}

/// The field that is refused in an order with this one command beside a good one.
fn refused(command: serde_json::Value) -> String {
    let good = serde_json::json!({"server": "srv_1", "command": "say hello"});
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().extend(command.as_object().unwrap().clone());
    let problem = read(serde_json::json!({"commands": [good, bad]})).unwrap_err();
    problem.parts().2.unwrap().to_owned()
}

#[test]
fn everything_of_an_order_arrives() {
    let request = read(serde_json::json!({
    "reference": "invoice 1042",
    "player": {"name": "Steve", "uuid": "8667ba71-b85a-4004-af54-457a9734eed7"},
    "ordered": true,
    "commands": [
        {"server": "srv_7", "command": "give Steve diamond 64", "require_online": true, "delay_seconds": 60,
         "not_before": "2027-01-15T08:00:01+00:00", "expires_at": "2027-01-16T08:00:00Z", "on_doubt": "rerun",
         "stage": "initial", "metadata": {"pay": 1.50}},
        {"server": "*", "command": "say hello", "player": {"name": "Alex"}},
    ]}))
    .unwrap();
    assert_eq!(request.reference.as_deref(), Some("invoice 1042"));
    assert!(request.ordered);
    let [first, second] = &request.commands[..] else { panic!("two commands") };
    assert_eq!(first.target, Target::One(ServerId(7)));
    assert_eq!(first.delay, Some(Millis::seconds(60)));
    assert_eq!(first.command.not_before, Some(UnixMs(NOW.0 + 1000)));
    assert_eq!(first.command.expires_at, Some(UnixMs(NOW.0 + 24 * 3600 * 1000)));
    assert_eq!(first.command.on_doubt, OnDoubt::Rerun);
    assert_eq!(first.command.player, request.player);
    let labels = first.command.labels.as_deref().unwrap();
    assert_eq!(labels.metadata.as_deref(), Some("{\"pay\":1.5}"));
    assert_eq!(second.target, Target::All);
    assert_eq!(second.command.player.as_ref().unwrap().name.as_ref(), "Alex");
    assert_eq!((second.delay, second.command.not_before, second.command.expires_at), (None, None, None));
    assert_eq!(second.command.labels, None);
}

#[test]
fn refusals_name_the_command_and_the_field() {
    let json = |value: serde_json::Value| refused(value);
    assert_eq!(json(serde_json::json!({"server": "survival"})), "commands[1].server");
    assert_eq!(json(serde_json::json!({"command": ""})), "commands[1].command");
    assert_eq!(json(serde_json::json!({"command": "say a\nop Steve"})), "commands[1].command");
    assert_eq!(json(serde_json::json!({"player": {"name": ""}})), "commands[1].player.name");
    assert_eq!(json(serde_json::json!({"require_online": true})), "commands[1].require_online");
    assert_eq!(json(serde_json::json!({"delay_seconds": 31_622_401})), "commands[1].delay_seconds");
    assert_eq!(json(serde_json::json!({"not_before": "2029-01-01T00:00:00Z"})), "commands[1].not_before");
    assert_eq!(json(serde_json::json!({"expires_at": "2029-01-01T00:00:00Z"})), "commands[1].expires_at");
    let backwards =
        serde_json::json!({"not_before": "2027-02-01T00:00:00Z", "expires_at": "2027-02-01T00:00:00Z"});
    assert_eq!(json(backwards), "commands[1].expires_at");
    assert_eq!(json(serde_json::json!({"stage": "x".repeat(65)})), "commands[1].stage");
    assert_eq!(json(serde_json::json!({"metadata": []})), "commands[1].metadata");
}

#[test]
fn an_order_has_at_least_one_command_and_not_too_many() {
    let one = serde_json::json!({"server": "srv_1", "command": "say hello"});
    for count in [0, ORDER_COMMANDS_MAX + 1] {
        let problem = read(serde_json::json!({"commands": vec![one.clone(); count]})).unwrap_err();
        assert_eq!(problem.parts().2, Some("commands"));
    }
    assert!(read(serde_json::json!({"commands": vec![one; ORDER_COMMANDS_MAX]})).is_ok());
}

#[test]
fn a_request_does_not_depend_on_when_it_is_read() {
    let json = serde_json::json!({"commands": [{"server": "srv_1", "command": "say hello", "delay_seconds": 5,
        "not_before": "2027-01-15T08:00:01Z", "expires_at": "2027-01-15T09:00:00Z"}]});
    let body: OrderBody = serde_json::from_value(json).unwrap();
    let early = order_request(&body, None, NOW).unwrap();
    let late = order_request(&body, None, UnixMs(NOW.0 + 7 * 24 * 3600 * 1000)).unwrap();
    assert_eq!(format!("{early:?}"), format!("{late:?}"));
}

#[test]
fn an_unknown_server_is_named_by_its_place() {
    let body: OrderBody = serde_json::from_value(serde_json::json!({"commands": [
        {"server": "srv_1", "command": "a"}, {"server": "srv_9", "command": "b"}]}))
    .unwrap();
    let problem = super::refused(BrokerError::UnknownServer("srv_9".into()), &body);
    assert_eq!((problem.parts().0, problem.parts().2), (Code::UnknownServer, Some("commands[1].server")));
}

#[test]
fn the_idempotency_key_is_sent_once() {
    let mut headers = HeaderMap::new();
    assert_eq!(key(&headers), Ok(None));
    headers.append("Idempotency-Key", "a".parse().unwrap());
    assert_eq!(key(&headers).unwrap().as_deref(), Some("a"));
    headers.append("Idempotency-Key", "a".parse().unwrap());
    assert!(key(&headers).is_err());
}
