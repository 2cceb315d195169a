//! Carries out the steps of a script. Must never judge what happens: that is written down by `show`.

use fluxrelay::engine::*;
use fluxrelay::ids::{CommandId, ConnId, OrderId, Seq, ServerId, StoreId};
use fluxrelay::time::{Millis, UnixMs};

use crate::parse::{Step, Word, span};
use crate::show::{self, Names, START};
use crate::support::world::World;

type Shown = Result<Vec<String>, String>;

/// The world of one script.
pub(crate) struct Stage {
    world: World,
    names: Names,
    next_conn: u64,
    events: bool,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let world = World::new(Settings::default(), 1, START);
        Stage { world, names: Names::default(), next_conn: 1, events: false }
    }

    /// Lets the time pass until the step, carries it out, and returns the lines to write below it.
    pub(crate) fn act(&mut self, step: &Step) -> Shown {
        let at = UnixMs(START.0 + step.at);
        if at < self.world.now {
            return Err("time does not go back".to_owned());
        }
        self.world.advance_to(at);
        let mut answer = self.verb(step)?;
        let mut lines = Vec::new();
        for (when, output) in std::mem::take(&mut self.world.outputs) {
            let earlier = if when < at { format!("@{} ", show::time(when)) } else { String::new() };
            let shown = show::output(&mut self.names, &output, self.events);
            lines.extend(shown.into_iter().map(|line| format!("{earlier}{line}")));
        }
        lines.append(&mut answer);
        Ok(lines)
    }

    fn verb(&mut self, step: &Step) -> Shown {
        match step.verb.as_str() {
            "wait" => {}
            "settings" => self.settings(step)?,
            "servers" => self.servers(step)?,
            "events" => self.events = bare(step, 0)? == "on",
            "publish" => self.publish(step)?,
            "connect" => self.connect(step)?,
            "disconnect" => {
                let (conn, server) = self.conn(step)?;
                self.world.input(self.world.shard_of(server), Input::Disconnect { conn });
            }
            "credit" | "started" | "results" | "players" => self.plugin(step)?,
            "poll" | "poll-results" | "poll-players" => self.poll(step)?,
            "cancel" | "resend" | "edit" => self.operate(step)?,
            "resend-all" => return self.resend_all(step),
            "end-session" | "remove" => self.end(step)?,
            "show" | "at-rest" | "list" | "counters" => return self.look(step),
            "checkpoint" => self.world.checkpoint(),
            "crash" => {
                let shards =
                    value(&step.words, "shards").map_or(Ok(self.world.shards.len() as u16), number)?;
                self.world.crash(shards);
            }
            "disk" => {
                self.world.disk_is_slow = bare(step, 0)? == "slow";
                self.world.settle();
            }
            "durable" => self.world.make_durable(bare(step, 0).map_or(Ok(usize::MAX), number)?),
            "forwards" => {
                self.world.forwards_are_slow = bare(step, 0)? == "slow";
                self.world.settle();
            }
            other => return Err(format!("{other:?} is no verb")),
        }
        Ok(Vec::new())
    }

    fn settings(&mut self, step: &Step) -> Result<(), String> {
        let mut settings = Settings::default();
        let mut shards = 1;
        for word in &step.words {
            match (word.key.as_deref().unwrap_or_default(), word.value.as_str()) {
                ("shards", value) => shards = number(value)?,
                ("retry", "never") => settings.retry_delays = Vec::new(),
                ("retry", value) => {
                    let delays: Result<Vec<u64>, String> = value.split(',').map(span).collect();
                    settings.retry_delays = delays?.into_iter().map(Millis).collect();
                }
                ("unanswered", value) => settings.unanswered_max = number(value)?,
                ("queue", value) => settings.queue_max = number(value)?,
                ("live", value) => settings.live_max = number(value)?,
                ("keys", value) => settings.keys_max = number(value)?,
                ("held", value) => settings.held_max = number(value)?,
                ("budget", value) => settings.step_budget = number(value)?,
                (key, _) => return Err(format!("{key:?} is no setting")),
            }
        }
        self.world = World::new(settings, shards, self.world.now);
        Ok(())
    }

    fn servers(&mut self, step: &Step) -> Result<(), String> {
        let store = StoreId(value(&step.words, "store").map_or(Ok(1), number)?);
        for word in step.words.iter().filter(|word| word.key.is_none()) {
            self.world.add_server(ServerId(number(&word.value)?), store);
        }
        Ok(())
    }

    // ------------------------------------------------------------ publishers

    fn publish(&mut self, step: &Step) -> Result<(), String> {
        let words = &step.words;
        let key = value(words, "key")
            .map(|key| KeyDigest { key: digest(key), body: digest(&format!("{:?}", step.parts)) });
        let player = value(words, "player").map(player).transpose()?;
        let commands: Result<_, String> =
            step.parts.iter().map(|part| self.command(part, player.as_ref())).collect();
        let order = NewOrder {
            store: StoreId(value(words, "store").map_or(Ok(1), number)?),
            key,
            reference: value(words, "reference").map(Into::into),
            player: player.clone(),
            ordered: has(words, "ordered"),
            commands: commands?,
        };
        let from = self.world.from();
        let desk = self.world.desk_of(order.store);
        self.world.input(desk, Input::Publish { from, order: Box::new(order) });
        Ok(())
    }

    fn command(&self, part: &[Word], of_order: Option<&Player>) -> Result<NewCommand, String> {
        let mut bare = part.iter().filter(|word| word.key.is_none()).map(|word| word.value.as_str());
        let server = ServerId(number(bare.next().ok_or("a command needs a server")?)?);
        let text = bare.next().ok_or("a command needs a text")?.into();
        let later = |key| value(part, key).map(span).transpose();
        Ok(NewCommand {
            server,
            text,
            player: value(part, "player").map(player).transpose()?.or_else(|| of_order.cloned()),
            require_online: has(part, "online"),
            not_before: later("delay")?.map(|span| self.world.now + Millis(span)),
            expires_at: later("expires")?.map(|span| self.world.now + Millis(span)),
            on_doubt: if has(part, "rerun") { OnDoubt::Rerun } else { OnDoubt::Hold },
            labels: None,
        })
    }

    // ------------------------------------------------------------ plugins

    fn connect(&mut self, step: &Step) -> Result<(), String> {
        let words = &step.words;
        let server: ServerId = server(bare(step, 1)?)?;
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let hello = Hello {
            window: value(words, "window").map_or(Ok(100), number)?,
            held: self.seqs(value(words, "held").unwrap_or_default())?,
            started: self.seqs(value(words, "started").unwrap_or_default())?,
            finished: self.seqs(value(words, "finished").unwrap_or_default())?,
            in_doubt: self.seqs(value(words, "doubt").unwrap_or_default())?,
            players: value(words, "players").map(players).transpose()?,
        };
        let name = bare(step, 0)?;
        if let Some((old, _)) = self.names.conns.insert(name.to_owned(), (conn, server)) {
            self.names.conns.insert(format!("old {name} ({})", old.0), (old, server));
        }
        let shard = self.world.shard_of(server);
        self.world.input(shard, Input::Connect { conn, server, hello: Box::new(hello) });
        Ok(())
    }

    fn plugin(&mut self, step: &Step) -> Result<(), String> {
        let (conn, server) = self.conn(step)?;
        let inputs = match step.verb.as_str() {
            "credit" => vec![Input::Credit { conn, window: number(bare(step, 1)?)? }],
            "started" => {
                let seqs: Result<_, String> =
                    step.words[1..].iter().map(|word| self.seq(&word.value)).collect();
                vec![Input::Started { conn, seqs: seqs? }]
            }
            "results" => {
                vec![Input::Results { conn, batch: number(bare(step, 1)?)?, results: self.results(step)? }]
            }
            _ => news(&step.words[1..])?.into_iter().map(|news| Input::Players { conn, news }).collect(),
        };
        for input in inputs {
            self.world.input(self.world.shard_of(server), input);
        }
        Ok(())
    }

    fn poll(&mut self, step: &Step) -> Result<(), String> {
        let server: ServerId = server(bare(step, 0)?)?;
        let from = self.world.from();
        let input = match step.verb.as_str() {
            "poll" => Input::Poll { from, server },
            "poll-results" => Input::PollResults { from, server, results: self.results(step)? },
            _ => Input::PollPlayers { from, server, news: news(&step.words[1..])? },
        };
        self.world.input(self.world.shard_of(server), input);
        Ok(())
    }

    fn results(&self, step: &Step) -> Result<Vec<CommandResult>, String> {
        let read = |part: &Vec<Word>| {
            let [id, outcome, ..] = part.as_slice() else {
                return Err("a result is a command and what came".to_owned());
            };
            Ok(CommandResult {
                seq: self.seq(&id.value)?,
                attempt: value(part, "attempt").map(number).transpose()?,
                outcome: match outcome.value.as_str() {
                    "completed" => Outcome::Completed,
                    "failed" => Outcome::Failed,
                    "awaiting_player" => Outcome::AwaitingPlayer,
                    "in_doubt" => Outcome::InDoubt,
                    other => return Err(format!("{other:?} is no outcome")),
                },
                error: value(part, "error").map(Into::into),
                output: value(part, "output").map(Into::into),
            })
        };
        step.parts.iter().map(read).collect()
    }

    // ------------------------------------------------------------ operators

    fn operate(&mut self, step: &Step) -> Result<(), String> {
        let id = self.id(bare(step, 0)?)?;
        let operation = match step.verb.as_str() {
            "cancel" => Operation::Cancel,
            "resend" => Operation::Resend,
            _ => Operation::Edit { text: bare(step, 1)?.into() },
        };
        let from = self.world.from();
        self.world.input(self.world.shard_of(id.server), Input::Operate { from, id, operation });
        Ok(())
    }

    /// As the broker does it: collected from every shard, then one change at the store's desk.
    fn resend_all(&mut self, step: &Step) -> Shown {
        let words = &step.words;
        let at = |key, other| value(words, key).map_or(Ok(other), |text| Ok(UnixMs(START.0 + span(text)?)));
        let store = StoreId(value(words, "store").map_or(Ok(1), number)?);
        let filter = CollectFilter {
            store,
            server: value(words, "server").map(server).transpose()?,
            from: at("from", START)?,
            to: at("to", UnixMs(u64::MAX)).map_err(|error: String| error)?,
            statuses: match value(words, "statuses") {
                Some("failed") => vec![Status::Failed],
                Some("in_doubt") => vec![Status::InDoubt],
                _ => vec![Status::Failed, Status::InDoubt],
            },
        };
        for no in 0..self.world.shards.len() as u16 {
            let from = self.world.from();
            self.world.input(fluxrelay::ids::ShardNo(no), Input::Collect { from, filter: filter.clone() });
        }
        let mut commands = Vec::new();
        for (_, output) in &self.world.outputs {
            if let Output::Reply { reply: Reply::Collected(found), .. } = output {
                commands.extend_from_slice(found);
            }
        }
        let from = self.world.from();
        let desk = self.world.desk_of(store);
        self.world.input(desk, Input::ResendMany { from, commands });
        Ok(Vec::new())
    }

    fn end(&mut self, step: &Step) -> Result<(), String> {
        let server: ServerId = server(bare(step, 0)?)?;
        if step.verb == "remove" {
            self.world.remove_server(server);
        } else {
            let reason = CloseReason::TokenRevoked;
            self.world.input(self.world.shard_of(server), Input::EndSession { server, reason });
        }
        Ok(())
    }

    // ------------------------------------------------------------ looking

    fn look(&mut self, step: &Step) -> Shown {
        match step.verb.as_str() {
            "show" => step
                .words
                .iter()
                .map(|word| self.show(&word.value))
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.concat()),
            "at-rest" => {
                let id = self.id(bare(step, 0)?)?;
                let disk = &self.world.disk;
                let row = disk.live.get(&id).or_else(|| disk.ended.get(&id));
                Ok(row.map_or(vec!["not at rest".to_owned()], |row| show::command(&self.names, row)))
            }
            "list" => {
                let server: ServerId = server(bare(step, 0)?)?;
                let after = value(&step.words, "after").map(|name| self.seq(name)).transpose()?;
                let limit = value(&step.words, "limit").map_or(Ok(1000), number)?;
                let query = Query::Commands { server, status: None, after, limit };
                let reply = self.world.ask(self.world.shard_of(server), query);
                Ok(reply.map_or_else(not_yet, |reply| show::reply(&mut self.names, &reply)))
            }
            _ => {
                let all: Vec<Counters> = self.world.shards.iter().map(Shard::counters).collect();
                let sum = |of: fn(&Counters) -> u64| all.iter().map(of).sum::<u64>();
                Ok(vec![format!(
                    "delivered {} redelivered {} swept {} stale results {} duplicate results {} stale inputs {}",
                    sum(|counters| counters.delivered),
                    sum(|counters| counters.redelivered),
                    sum(|counters| counters.swept),
                    sum(|counters| counters.stale_results),
                    sum(|counters| counters.duplicate_results),
                    sum(|counters| counters.stale_inputs),
                )])
            }
        }
    }

    fn show(&mut self, name: &str) -> Shown {
        let mut server_shown = None;
        let reply = if let Ok(id) = server(name) {
            server_shown = Some(id);
            self.world.ask(self.world.shard_of(id), Query::Servers(vec![id]))
        } else if let Some(at) = name.strip_prefix('o') {
            let known: Option<&OrderId> = self.names.orders.get(number::<usize>(at)?.wrapping_sub(1));
            let id = *known.ok_or_else(|| format!("{name} was never published"))?;
            self.world.ask(self.world.desk_of(id.store), Query::Order(id))
        } else {
            let id = self.id(name)?;
            self.world.ask(self.world.shard_of(id.server), Query::Command(id))
        };
        Ok(match (reply, server_shown) {
            (None, _) => not_yet(),
            (Some(Reply::NotHere), _) => vec![format!("{name} not in memory")],
            (Some(Reply::Servers(states)), Some(id)) => vec![format!("{id} {}", show::server(&states[0]))],
            (Some(Reply::Command(row)), _) => show::command(&self.names, &row),
            (Some(reply), _) => show::reply(&mut self.names, &reply),
        })
    }

    // ------------------------------------------------------------ names

    fn conn(&self, step: &Step) -> Result<(ConnId, ServerId), String> {
        let name = bare(step, 0)?;
        self.names.conns.get(name).copied().ok_or_else(|| format!("{name:?} never connected"))
    }

    fn id(&self, name: &str) -> Result<CommandId, String> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let at = name.strip_prefix('c').ok_or_else(|| format!("{name:?} is no command"))?;
        let known = self.names.commands.get(number::<usize>(at)?.wrapping_sub(1));
        known.copied().ok_or_else(|| format!("{name} was never published"))
    }

    fn seq(&self, name: &str) -> Result<Seq, String> {
        if let Some(raw) = name.strip_prefix('#') {
            return Ok(Seq(number(raw)?));
        }
        Ok(self.id(name)?.seq)
    }

    fn seqs(&self, names: &str) -> Result<Vec<Seq>, String> {
        names.split(',').filter(|name| !name.is_empty()).map(|name| self.seq(name)).collect()
    }
}

fn not_yet() -> Vec<String> {
    vec!["(answered once it is durable)".to_owned()]
}

fn value<'a>(words: &'a [Word], key: &str) -> Option<&'a str> {
    words.iter().find(|word| word.key.as_deref() == Some(key)).map(|word| word.value.as_str())
}

fn has(words: &[Word], flag: &str) -> bool {
    words.iter().any(|word| word.key.is_none() && word.value == flag)
}

fn bare(step: &Step, at: usize) -> Result<&str, String> {
    let word = step.words.iter().filter(|word| word.key.is_none()).nth(at);
    word.map(|word| word.value.as_str()).ok_or_else(|| format!("{} needs more words", step.verb))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number that fits"))
}

fn server(text: &str) -> Result<ServerId, String> {
    text.parse().map_err(|error| format!("{text:?} is {error}"))
}

fn player(text: &str) -> Result<Player, String> {
    let (name, uuid) = text.split_once('/').map_or((text, None), |(name, uuid)| (name, Some(uuid)));
    Ok(Player { name: name.into(), uuid: uuid.map(number).transpose()? })
}

fn players(text: &str) -> Result<Vec<Player>, String> {
    text.split(',').filter(|name| !name.is_empty()).map(player).collect()
}

fn news(words: &[Word]) -> Result<Vec<PlayerNews>, String> {
    let read = |word: &Word| {
        let players = players(&word.value)?;
        Ok(match word.key.as_deref() {
            Some("online") => PlayerNews::Online(players),
            Some("joined") => PlayerNews::Joined(players),
            Some("left") => PlayerNews::Left(players),
            _ => return Err("news are online=, joined= or left=".to_owned()),
        })
    };
    words.iter().map(read).collect()
}

/// Any fingerprint will do here; the broker's is keyed.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
