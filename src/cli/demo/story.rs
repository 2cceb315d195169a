//! What happens in the demo, chapter by chapter, over the same REST calls and connections that anybody may use.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::plugin::GameServer;
use super::teller::Teller;
use crate::cli::clock;
use crate::cli::exit::CliError;
use crate::cli::rest::{Rest, items};
use crate::cli::server::text;
use crate::client::{Player, PluginClient};

/// How long anything may take before the demo says that it did not happen.
const WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at a command.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The stage: a broker, two registered servers, and who tells.
pub(super) struct Story<'a> {
    pub(super) rest: Rest,
    pub(super) url: &'a str,
    pub(super) runtime: Handle,
    pub(super) teller: Teller,
}

/// A registered server and its simulated game.
struct Registered {
    id: String,
    token: String,
    game: GameServer,
}

impl Story<'_> {
    /// The whole story; returns the counts of commands by status.
    pub(super) fn tell(&mut self) -> Result<Value, CliError> {
        let survival = self.add_servers("survival", &["Alex"])?;
        let lobby = self.register("lobby", &[])?;
        let plugin = self.connect(&survival)?;
        self.order_runs(&survival)?;
        self.failures_are_retried(&survival)?;
        self.players_are_waited_for(&survival, &plugin)?;
        self.offline_servers_are_waited_for(&survival, &lobby)?;
        self.refunds_withdraw(&survival)?;
        self.tokens_die(&survival, plugin)?;
        self.counts()
    }

    fn add_servers(&mut self, name: &str, players: &[&str]) -> Result<Registered, CliError> {
        self.teller.chapter("Two game servers are added")?;
        let server = self.register(name, players)?;
        let shown = server.token.split_once('.').map_or("", |(id, _)| id);
        self.teller
            .detail(format!("token of {name}: {shown}.******** (shown once, only its hash is stored)"))?;
        Ok(server)
    }

    fn register(&mut self, name: &str, players: &[&str]) -> Result<Registered, CliError> {
        let made = self.rest.post("/v1/servers", &json!({"name": name, "address": "demo.example:25565"}))?;
        let (id, token) = (text(&made, "id").to_owned(), text(&made, "token").to_owned());
        self.teller
            .check(format!("{name} is registered as {id} and offline"), text(&made, "status") == "offline")?;
        Ok(Registered { id, game: GameServer::new(self.url, &token, players), token })
    }

    fn connect(&mut self, server: &Registered) -> Result<PluginClient, CliError> {
        let client = self.runtime.block_on(server.game.connect())?;
        let path = format!("/v1/servers/{}", server.id);
        let online = self.wait(|rest| Ok(text(&rest.get(&path)?, "status") == "online"))?;
        self.teller.check(format!("the plugin of {} is connected", server.id), online.is_some())?;
        Ok(client)
    }

    fn order_runs(&mut self, server: &Registered) -> Result<(), CliError> {
        self.teller.chapter("Alex buys a rank: an order is published and runs")?;
        let body = order(&server.id, "Alex", "lp user Alex parent add vip", json!({}));
        let started = clock::now();
        let key = [("Idempotency-Key", "invoice-1042")];
        let accepted = self.rest.call("POST", "/v1/orders", Some(&body), &key)?;
        let id = first_command(&accepted);
        self.teller
            .say(format!("published: {id} is accepted and durable {} after it was sent", ms(started)))?;
        let done = self.becomes(&id, "completed")?;
        self.teller.detail(format!("seen as completed {} after it was sent", ms(started)))?;
        self.show_history(&done)?;
        let again = self.rest.call("POST", "/v1/orders", Some(&body), &key)?;
        let same = again == accepted && server.game.runs("lp user Alex parent add vip") == 1;
        self.teller.check("the same order sent again gives the same ids and runs nothing twice", same)
    }

    fn failures_are_retried(&mut self, server: &Registered) -> Result<(), CliError> {
        self.teller.chapter("A command fails and is retried")?;
        let (lucky, unlucky) = ("eco give Alex 500", "eco give Alex 9999");
        server.game.fail(lucky, 2);
        server.game.fail(unlucky, 4);
        let first = self.publish(order(&server.id, "Alex", lucky, json!({})))?;
        let second = self.publish(order(&server.id, "Alex", unlucky, json!({})))?;
        let done = self.becomes(&first, "completed")?;
        self.show_history(&done)?;
        let attempts = done["attempts"].as_u64() == Some(3) && server.game.runs(lucky) == 3;
        self.teller.check("it failed twice, the third try completed it, under one id", attempts)?;
        let failed = self.becomes(&second, "failed")?;
        let kept = text(&failed, "error").contains("locked") && server.game.runs(unlucky) == 4;
        self.teller.check("another failed four times: it is kept as failed, with its error", kept)?;
        self.rest.post(&format!("/v1/commands/{second}/resend"), &json!({}))?;
        self.becomes(&second, "completed")?;
        self.teller.check("an operator resends it, and now it completes", server.game.runs(unlucky) == 5)
    }

    fn players_are_waited_for(&mut self, server: &Registered, plugin: &PluginClient) -> Result<(), CliError> {
        self.teller.chapter("Steve bought diamonds and is not online")?;
        let command = "give Steve diamond 64";
        let id = self.publish(order(&server.id, "Steve", command, json!({"require_online": true})))?;
        self.becomes(&id, "awaiting_player")?;
        self.teller.check("the command waits for Steve and was not run", server.game.runs(command) == 0)?;
        self.teller.say("Steve joins")?;
        let joined = clock::now();
        let said = plugin.players_joined(vec![Player::named("Steve")]);
        said.map_err(|error| CliError::unexpected(error.to_string()))?;
        self.becomes(&id, "completed")?;
        self.teller.detail(format!("seen as completed {} after Steve joined", ms(joined)))?;
        self.teller.check("Steve has the diamonds, once", server.game.runs(command) == 1)
    }

    fn offline_servers_are_waited_for(
        &mut self,
        one: &Registered,
        other: &Registered,
    ) -> Result<(), CliError> {
        self.teller.chapter("A server is offline and comes back")?;
        let all = json!({"commands": [{"server": "*", "command": "say the shop has a sale"}]});
        let accepted = items(self.rest.post("/v1/orders", &all)?, "commands");
        self.teller.check("one order for every server is accepted whole", accepted.len() == 2)?;
        let id_on = |server: &Registered| {
            let found = accepted.iter().find(|command| text(command, "server") == server.id);
            found.map(|command| text(command, "id").to_owned()).unwrap_or_default()
        };
        self.becomes(&id_on(one), "completed")?;
        self.becomes(&id_on(other), "pending")?;
        self.teller.check("it ran on survival and waits for lobby", other.game.log().is_empty())?;
        let plugin = self.connect(other)?;
        self.becomes(&id_on(other), "completed")?;
        self.teller.check("lobby got it as soon as it was there", other.game.log().len() == 1)?;
        self.runtime.block_on(plugin.stop());
        Ok(())
    }

    fn refunds_withdraw(&mut self, server: &Registered) -> Result<(), CliError> {
        self.teller.chapter("A refund withdraws what has not run")?;
        let command = "lp user Alex parent add mvp";
        let id = self.publish(order(&server.id, "Alex", command, json!({"delay_seconds": 3600})))?;
        let cancelled = self.rest.post(&format!("/v1/commands/{id}/cancel"), &json!({}))?;
        let withdrawn = text(&cancelled, "status") == "cancelled" && server.game.runs(command) == 0;
        self.teller.check("the delayed command is cancelled and never ran", withdrawn)
    }

    fn tokens_die(&mut self, server: &Registered, plugin: PluginClient) -> Result<(), CliError> {
        self.teller.chapter("A token leaked: a new one is made")?;
        self.rest.post(&format!("/v1/servers/{}/token", server.id), &json!({}))?;
        let ended = self.runtime.block_on(async { tokio::time::timeout(WITHIN, plugin.ended()).await });
        self.teller.check("the connection with the old token has ended", ended.is_ok())?;
        let old = Rest::new(self.url, Some(server.token.clone()), None)?.get("/v1/plugin/commands");
        self.teller.check(
            "the old token is refused",
            old.is_err_and(|error| error.message.contains("invalid_credentials")),
        )
    }

    /// Publishes an order and returns its first command.
    fn publish(&mut self, body: Value) -> Result<String, CliError> {
        let id = first_command(&self.rest.post("/v1/orders", &body)?);
        self.teller.detail(format!("{id}: {}", text(&body["commands"][0], "command")))?;
        Ok(id)
    }

    /// Waits until a command is in a status; the command as it is then.
    fn becomes(&mut self, id: &str, status: &str) -> Result<Value, CliError> {
        let path = format!("/v1/commands/{id}");
        let mut last = Value::Null;
        let reached = self.wait(|rest| {
            last = rest.get(&path)?;
            Ok(text(&last, "status") == status)
        })?;
        self.teller.check(format!("{id} is {status}"), reached.is_some())?;
        Ok(last)
    }

    /// Looks until it is so; `None` if it is not in time.
    fn wait(&self, mut so: impl FnMut(&Rest) -> Result<bool, CliError>) -> Result<Option<()>, CliError> {
        let started = clock::now();
        while started.elapsed() < WITHIN {
            if so(&self.rest)? {
                return Ok(Some(()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }

    fn show_history(&self, command: &Value) -> Result<(), CliError> {
        let steps: Vec<&str> =
            command["history"].as_array().into_iter().flatten().map(|entry| text(entry, "status")).collect();
        self.teller.detail(format!("history: {}", steps.join(" > ")))
    }

    fn counts(&self) -> Result<Value, CliError> {
        let mut sums = serde_json::Map::new();
        for server in self.rest.servers()? {
            for (status, count) in server["commands"].as_object().into_iter().flatten() {
                let sum = sums.get(status).and_then(Value::as_u64).unwrap_or(0);
                sums.insert(status.clone(), json!(sum + count.as_u64().unwrap_or(0)));
            }
        }
        Ok(Value::Object(sums))
    }
}

/// An order of one command with more fields.
fn order(server: &str, player: &str, command: &str, more: Value) -> Value {
    let mut one = json!({"server": server, "command": command});
    for (name, value) in more.as_object().into_iter().flatten() {
        one[name] = value.clone();
    }
    json!({"player": {"name": player}, "commands": [one]})
}

fn first_command(accepted: &Value) -> String {
    text(&accepted["commands"][0], "id").to_owned()
}

fn ms(since: Instant) -> String {
    format!("{:.1} ms", since.elapsed().as_secs_f64() * 1000.0)
}
