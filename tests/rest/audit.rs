//! The audit trail over REST: one record for each action, by whom and from where, and no secret in it.

use serde_json::{Value, json};

use crate::relay::{ADDRESS, Caller, Relay, text};

/// The whole trail, oldest first.
async fn trail(caller: &Caller<'_>) -> Vec<Value> {
    let page = caller.get("/v1/audit?limit=1000").await.expect(200);
    assert_eq!(page["next_cursor"], Value::Null);
    let mut records = page["records"].as_array().expect("a list").clone();
    records.reverse();
    records
}

/// A new record: its fields but id and time, which are checked here, and fields that are null.
fn only(mut record: Value) -> Value {
    let fields = record.as_object_mut().expect("an object");
    assert!(text(&fields["id"]).starts_with("aud_"));
    assert!(text(&fields["at"]).starts_with("20"));
    fields.retain(|name, value| !value.is_null() && !matches!(name.as_str(), "id" | "at"));
    record
}

/// What a record has when it is done over REST with this key.
fn done(action: &str, by: &Value, on: Value) -> Value {
    let mut record = json!({"action": action, "outcome": "done", "address": ADDRESS.to_string()});
    for part in [by, &on] {
        record.as_object_mut().expect("an object").extend(part.as_object().expect("an object").clone());
    }
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_is_one_record_by_whom_on_what() {
    let relay = Relay::start();
    let admin = relay.admin();
    let (store, server, publish, read) = crate::store(&relay, "shop").await;
    let shop = relay.with(&publish);
    let order = json!({"commands": [
        {"server": server, "command": "say a", "delay_seconds": 3600}, {"server": server, "command": "say b"}]});
    let accepted = shop.post("/v1/orders", order).await.expect(201);
    let ids = [0, 1].map(|index| text(&accepted["commands"][index]["id"]));
    shop.patch(&format!("/v1/commands/{}", ids[0]), json!({"command": "say c"})).await.expect(200);
    shop.post(&format!("/v1/commands/{}/cancel", ids[0]), json!({})).await.expect(200);
    shop.patch(&format!("/v1/servers/{server}"), json!({"name": "hub"})).await.expect(200);
    let token = shop.post(&format!("/v1/servers/{server}/token"), json!({})).await.expect(200);
    let plugin = relay.with(&text(&token["token"]));
    plugin.poll(1).await;
    plugin.report(json!({"id": ids[1], "status": "in_doubt"})).await;
    shop.see(&ids[1], "in_doubt").await;
    shop.post(&format!("/v1/commands/{}/resend", ids[1]), json!({})).await.expect(200);
    let span = json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let bulk = shop.post("/v1/commands/resend", span).await.expect(200);
    admin.delete(&format!("/v1/servers/{server}")).await.expect(204);
    admin.delete("/v1/keys/key_2").await.expect(204);
    // What is refused or only read is none.
    shop.post(&format!("/v1/commands/{}/cancel", ids[0]), json!({})).await.refused(409, "wrong_status");
    admin.post("/v1/stores", json!({"name": "shop"})).await.refused(409, "name_taken");
    relay.with(&read).get("/v1/servers").await.refused(401, "invalid_credentials");
    shop.get("/v1/servers").await.expect(200);

    let (root, key) = (json!({"by": "admin"}), json!({"by": "publish", "by_key": "key_1"}));
    let of_server = |name: &str| json!({"store": store, "server": server, "name": name});
    let of_command = |id: &str| json!({"store": store, "server": server, "command": id});
    let of_key = |id: &str, name: &str| json!({"store": store, "key": id, "name": name});
    let many = json!({"store": store, "commands": bulk["resent"], "ids_digest": bulk["ids_digest"]});
    let expected = [
        json!({"action": "admin_key.create", "outcome": "done", "by": "local"}),
        done("store.create", &root, json!({"store": store, "name": "shop"})),
        done("key.create", &root, of_key("key_1", "shop")),
        done("key.create", &root, of_key("key_2", "eyes")),
        done("server.create", &key, of_server("survival")),
        done("command.edit", &key, of_command(&ids[0])),
        done("command.cancel", &key, of_command(&ids[0])),
        done("server.update", &key, of_server("hub")),
        done("token.regenerate", &key, of_server("hub")),
        done("command.resend", &key, of_command(&ids[1])),
        done("commands.resend", &key, many),
        done("server.remove", &root, of_server("hub")),
        done("key.remove", &root, of_key("key_2", "eyes")),
    ];
    let found: Vec<Value> = trail(&admin).await.into_iter().map(only).collect();
    assert_eq!(found, expected);

    let before = trail(&admin).await;
    let admin_key = admin.key();
    let relay = relay.restart().await;
    assert_eq!(trail(&relay.with(&admin_key)).await, before, "a restart keeps it");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_filters_and_bad_parameters() {
    let relay = Relay::start();
    let admin = relay.admin();
    for name in ["a", "b", "c"] {
        relay.server(name).await;
    }
    let (_, _, publish, read) = crate::store(&relay, "shop").await;
    let (mut paged, mut path) = (Vec::new(), "/v1/audit?limit=2".to_owned());
    loop {
        let page = admin.get(&path).await.expect(200);
        paged.extend(page["records"].as_array().expect("a list").clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/audit?limit=2&cursor={cursor}");
    }
    paged.reverse();
    assert_eq!(paged, trail(&admin).await);
    let made = admin.get("/v1/audit?action=server.create").await.expect(200);
    assert_eq!(made["records"].as_array().map(Vec::len), Some(4));
    let future = admin.get("/v1/audit?from=2100-01-01T00:00:00Z").await.expect(200);
    assert_eq!(future, json!({"records": [], "next_cursor": null}));
    let all =
        admin.get("/v1/audit?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00%2B01:00").await.expect(200);
    assert_eq!(all["records"].as_array().map(Vec::len), Some(paged.len()));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=12", "cursor"),
        ("cursor=aud_0", "cursor"),
        ("from=yesterday", "from"),
        ("to=2026-01-31", "to"),
        ("from=2026-01-31T00:00:00Z&to=2026-01-31T00:00:00Z", "to"),
        ("action=server.explode", "action"),
    ] {
        let refused = admin.get(&format!("/v1/audit?{query}")).await.refused(422, "invalid_field");
        assert_eq!(refused["field"], field, "{query}");
    }
    admin.get("/v1/audit?store=sto_1").await.refused(422, "invalid_field");
    for key in [&publish, &read] {
        relay.with(key).get("/v1/audit").await.refused(403, "forbidden");
    }
    relay.stranger().get("/v1/audit").await.refused(401, "invalid_credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_command_is_in_the_trail() {
    let relay = Relay::start();
    let admin = relay.admin();
    let (_, server, publish, read) = crate::store(&relay, "shop").await;
    let shop = relay.with(&publish);
    let token = shop.post(&format!("/v1/servers/{server}/token"), json!({})).await.expect(200);
    let order =
        json!({"commands": [{"server": server, "command": "say first-canary", "delay_seconds": 3600}]});
    let accepted = shop.post("/v1/orders", order).await.expect(201);
    let command = format!("/v1/commands/{}", text(&accepted["commands"][0]["id"]));
    shop.patch(&command, json!({"command": "say second-canary"})).await.expect(200);
    let trail = admin.get("/v1/audit?limit=1000").await;
    for secret in [&publish, &read, &text(&token["token"]), &admin.key()] {
        let (_, secret) = secret.split_once('.').expect("a credential");
        assert!(!trail.text.contains(&secret[..16]));
        let bytes = relay.databases();
        assert!(!bytes.windows(16).any(|window| window == &secret.as_bytes()[..16]));
    }
    assert!(!trail.text.contains("canary"), "{}", trail.text);
}
