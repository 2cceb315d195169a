//! One store's credentials on another store's things, on every call of the OpenAPI document: a call that is not known
//! here fails the test, so that none is left out.

use serde_json::{Value, json};

use crate::relay::{ANY_LOGINS, Relay, number, text};

/// A store with something of everything.
struct Store {
    id: String,
    publish: String,
    read: String,
    read_id: String,
    server: String,
    token: String,
    order: String,
    command: String,
}

impl Store {
    async fn make(relay: &Relay, name: &str) -> Store {
        let admin = &relay.admin;
        let id = text(&relay.post(admin, "/v1/stores", json!({"name": name})).await.expect(201)["id"]);
        let keys = format!("/v1/stores/{id}/keys");
        let publish = relay.post(admin, &keys, json!({"scope": "publish", "name": "shop"})).await.expect(201);
        let read = relay.post(admin, &keys, json!({"scope": "read", "name": "eyes"})).await.expect(201);
        let publish = text(&publish["key"]);
        let server = relay.post(&publish, "/v1/servers", json!({"name": "lobby"})).await.expect(201);
        let mut store = Store {
            id,
            publish,
            read: text(&read["key"]),
            read_id: text(&read["id"]),
            server: text(&server["id"]),
            token: text(&server["token"]),
            order: String::new(),
            command: String::new(),
        };
        let order = json!({"reference": name, "commands": [
            {"server": store.server, "command": format!("say {name}"), "player": {"name": "Steve"}, "require_online": true}]});
        let order = relay.post(&store.publish, "/v1/orders", order).await.expect(201);
        (store.order, store.command) = (text(&order["id"]), text(&order["commands"][0]["id"]));
        store
    }

    /// Everything that identifies one of its things.
    fn marks(&self) -> [&str; 4] {
        [&self.server, &self.order, &self.command, "victim"]
    }

    /// All that the admin sees of it.
    async fn seen(&self, relay: &Relay) -> Vec<Value> {
        let mut seen = Vec::new();
        for path in [
            format!("/v1/servers/{}", self.server),
            format!("/v1/orders/{}", self.order),
            format!("/v1/commands/{}", self.command),
            format!("/v1/servers/{}/commands", self.server),
            format!("/v1/servers?store={}", self.id),
            format!("/v1/stores/{}/keys", self.id),
        ] {
            seen.push(relay.get(&relay.admin, &path).await.expect(200));
        }
        seen
    }
}

/// The path of a call with the victim's ids in it.
fn path_of(template: &str, victim: &Store) -> String {
    let id = match template.split('/').nth(2).unwrap_or_default() {
        "stores" => &victim.id,
        "servers" => &victim.server,
        "orders" => &victim.order,
        "commands" => &victim.command,
        "keys" => &victim.read_id,
        _ => "",
    };
    let path = template.replace("{id}", id);
    assert!(
        !path.contains('{') && (!id.is_empty() || path == template),
        "{template}: say here whose ids it takes"
    );
    path
}

/// Bodies with which a call would do the worst.
fn bodies(operation: &str, victim: &Store) -> Vec<Value> {
    let span = json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let with = |more: Value| {
        let mut body = span.as_object().unwrap().clone();
        body.extend(more.as_object().unwrap().clone());
        Value::Object(body)
    };
    let order = |server: &str| json!({"commands": [{"server": server, "command": "op thief"}]});
    let mut named = order("*");
    named["store"] = json!(victim.id);
    let own = text_id(&victim.command, 1);
    let result = |id: &str, status: &str| json!({"results": [{"id": id, "status": status}]});
    match operation {
        "create_store" => vec![json!({"name": "mine"})],
        "create_backup" => vec![json!({"name": "loot"}), json!({"name": "../loot"})],
        "create_key" => vec![json!({"scope": "publish", "name": "mine"})],
        "create_server" => vec![json!({"name": "mine", "store": victim.id})],
        "update_server" => vec![json!({"name": "taken"}), json!({"address": "evil.example"})],
        "create_order" => vec![order(&victim.server), named],
        "edit_command" => vec![json!({"command": "op thief"})],
        "resend_commands" => {
            vec![with(json!({"server": victim.server})), with(json!({"store": victim.id})), span.clone()]
        }
        "report_results" => vec![
            result(&victim.command, "completed"),
            result(&victim.command, "failed"),
            result(&own, "completed"),
        ],
        "report_players" => vec![json!({"joined": ["Steve"]}), json!({"online": ["Steve"]})],
        "list_stores" | "list_keys" | "remove_key" | "list_audit" | "list_servers" | "show_server"
        | "remove_server" | "regenerate_token" | "show_order" | "list_commands" | "show_command"
        | "cancel_command" | "resend_command" | "follow_events" | "poll_commands" => vec![Value::Null],
        other => panic!("{other} is a new call: say here how one store would attack another with it"),
    }
}

/// The victim's command under the number of another server.
fn text_id(command: &str, server: u64) -> String {
    format!("cmd_{server}_{}", number(command))
}

/// What a call may answer to the key of another store; `None` = it may succeed, on the thief's own things.
fn refusals(operation: &str, has_id: bool) -> Option<&'static [u16]> {
    match operation {
        "create_store" | "create_backup" | "list_stores" | "create_key" | "list_keys" | "remove_key"
        | "list_audit" => Some(&[403]),
        "create_server" | "create_order" => Some(&[403, 422]),
        _ if has_id => Some(&[403, 404]),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_of_the_document_crosses_from_one_store_to_another() {
    let flags =
        [&ANY_LOGINS[..], &["--server-calls-per-second", "0", "--key-requests-per-second", "0"]].concat();
    let relay = Relay::start(&flags);
    let (victim, thief) = (Store::make(&relay, "victim").await, Store::make(&relay, "thief").await);
    let before = victim.seen(&relay).await;
    let document = relay.http("GET", "/openapi.json", &[], "").await.expect(200);
    let (mut secured, mut attacks) = (0, 0);
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(security) = operation["security"][0].as_object() else { continue };
            let name = operation["operationId"].as_str().unwrap();
            secured += 1;
            let path = path_of(template, &victim);
            let of_plugins = security.contains_key("server_token");
            let (method, has_id) = (method.to_uppercase(), template.contains("{id}"));
            let mut asked = vec![path.clone()];
            if operation["parameters"].to_string().contains("\"store\"") {
                asked.push(format!("{path}?store={}", victim.id));
            }
            for (path, body) in
                asked.iter().flat_map(|path| bodies(name, &victim).into_iter().map(move |body| (path, body)))
            {
                if name == "follow_events" && !path.contains('?') {
                    // A stream without an end; tests/rest/events.rs reads it.
                    continue;
                }
                for key in [&thief.publish, &thief.read, &thief.token] {
                    attacks += 1;
                    let answer = relay.call(key, &method, path, &body).await;
                    let what = format!(
                        "{method} {path} {body} with {}: {} {}",
                        &key[..5],
                        answer.status,
                        answer.text
                    );
                    let is_own_kind = of_plugins == (key == &thief.token);
                    let leaks = victim.marks().iter().any(|mark| {
                        !path.contains(mark) && !body.to_string().contains(mark) && answer.text.contains(mark)
                    });
                    assert!(!leaks, "{what}");
                    match refusals(name, has_id) {
                        _ if !is_own_kind => assert_eq!(answer.status, 401, "{what}"),
                        Some(statuses) => assert!(statuses.contains(&answer.status), "{what}"),
                        None if path.contains('?') => assert_eq!(answer.status, 422, "{what}"),
                        None => assert!(matches!(answer.status, 200 | 403 | 404 | 422), "{what}"),
                    }
                    if of_plugins && is_own_kind && method == "POST" && !body.to_string().contains("Steve") {
                        assert_eq!(answer.expect(200), json!({"accepted": 0}), "{what}");
                    }
                }
            }
        }
    }
    assert!(secured >= 20 && attacks >= 90, "{secured} calls, {attacks} attacks: the document was not read");
    assert_eq!(victim.seen(&relay).await, before, "nothing of it has changed");
    relay.get(&victim.token, "/v1/plugin/commands").await.expect(200);
    relay.get(&victim.read, "/v1/servers").await.expect(200);
    relay.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secured_call_refuses_a_stranger_before_anything_else() {
    let relay = Relay::start(&ANY_LOGINS);
    let victim = Store::make(&relay, "victim").await;
    let document = relay.http("GET", "/openapi.json", &[], "").await.expect(200);
    let mut answers = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"].is_array() {
                let (path, method) = (path_of(template, &victim), method.to_uppercase());
                for lines in [
                    vec![],
                    vec!["Authorization: Bearer admin.00000000000000000000000000000000".to_owned()],
                    vec![format!("Authorization: Basic {}", victim.publish)],
                    vec![format!("Cookie: authorization={}", victim.publish)],
                    vec![format!("Authorization: Bearer {}", victim.publish); 2],
                ] {
                    // A body that would be refused too, if anybody looked at it.
                    let answer = relay.http(&method, &path, &lines, "[").await;
                    answer.refused(401, "invalid_credentials");
                    answers.push(answer.text);
                }
            }
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    relay.is_well().await;
}
